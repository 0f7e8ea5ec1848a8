"""The files of a table after many edits."""

from types import SimpleNamespace

import numpy as np
from large_table import clustered, files_of, some_edited
from test_index import open_index

from monoglot.serving import compaction


def test_small_files_are_merged_once_they_are_many_and_a_large_one_stays_until_it_is_worn(
    large, large_folder, monkeypatch
):
    monkeypatch.setattr(compaction, "_MOST_SMALL_FILES", 4)
    first = {it.fragment_id for it in files_of(open_index(large_folder, dimensions=32))}
    rewritten, most = [], 0
    for number in range(45):  # 60 rows each
        large = some_edited(large, number)
        index = open_index(large_folder, dimensions=32)
        index.sync(large, clustered)
        files = files_of(index)
        most = max(most, len(files))
        rewritten.append(len(first - {it.fragment_id for it in files}))
    assert most < len(first) + 4 + 1
    # None but the last, which was small, in the 34 syncs until a tenth of its rows is gone; then
    # no more than two of eight at a time, and each by itself.
    assert max(rewritten[:34]) <= 1
    assert np.diff(rewritten).max() == 2
    assert max(it.num_deletions / it.physical_rows for it in files) < 0.15
    assert max(it.physical_rows for it in files) <= large.height / 8
    assert index.content_of_rows() == index.content
    assert len(index) == large.height
    asked = large["query"][:100].to_list()
    assert index.search(clustered(asked), 1)["query"].to_list() == asked


def test_no_two_worn_files_beside_each_other_are_rewritten_at_a_time():
    def file(number, rows, gone):
        return SimpleNamespace(fragment_id=number, physical_rows=rows, num_deletions=gone)

    shares = (0.2, 0.3, 0.29, 0.05, 0.19, 0.28, 0.0, 0.25)
    files = [file(10 + n, 1_000, int(1_000 * share)) for n, share in enumerate(shares)]
    assert compaction._most_worn(files, rows=8_000) == {11, 15}
    assert compaction._most_worn(files, rows=1_000) == {11}
    assert compaction._most_worn(files[3:4], rows=8_000) == set()
