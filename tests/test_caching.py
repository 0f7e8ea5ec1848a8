"""A stage is looked up before it is computed, and its identity is its content."""

import time
from pathlib import Path

import polars as pl
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

from monoglot.config import LanguageConfig
from monoglot.errors import DataError, StoreError
from monoglot.settings import Settings
from monoglot.store import Store
from tasks.caching import stage
from tasks.versions import STAGES, StageCode
from tasks.workplace import Workplace

pytestmark = pytest.mark.usefixtures("prefect_api")
HINDI = LanguageConfig(code="hi-Latn", name="Hinglish")


@pytest.fixture
def stages(monkeypatch):
    """Two stages, `letters` (of a file) and `upper` (of letters), and how often each ran."""
    ran = []
    for name in ("letters", "upper"):
        monkeypatch.setitem(STAGES, name, StageCode(1, ()))

    @stage("letters", title="letters of {language.code}")
    def letters(job, file: Path, language: LanguageConfig, times: int = 1):
        ran.append("letters")
        job.draft.facts["rejected"] = 2
        job.draft.write_table(pl.DataFrame({"a": list(file.read_text()) * times}))

    @stage("upper")
    def upper(job, rows):
        ran.append("upper")
        job.draft.write_table(job.table(rows).with_columns(pl.col("a").str.to_uppercase()))

    return letters, upper, ran


@pytest.fixture
def run(tmp_path, stages):
    """Runs both stages as a flow on a text; gives the last table and the journal."""
    letters, upper, _ = stages

    def run(text="abc", settings=None, name="in.txt", **more):
        (tmp_path / name).write_text(text)
        place = Workplace(Store.open(str(tmp_path / "store")), settings or Settings())

        @flow(name="two stages")
        def two():
            with place.store.writer():
                return upper(place, letters(place, tmp_path / name, HINDI, **more))

        artifact = two()
        return place.store.table(artifact)["a"].to_list(), place.journal

    return run


def outcomes(journal):
    return [record.outcome for record in journal]


def test_a_second_run_reuses_and_says_why(run, stages):
    rows, journal = run()
    assert rows == ["A", "B", "C"]
    assert outcomes(journal) == ["done", "done"]
    again, journal = run()
    assert again == rows
    assert outcomes(journal) == ["reused", "reused"]
    assert stages[2] == ["letters", "upper"]
    line = journal[0].line()
    assert line.startswith("letters of hi-Latn: reused, 3 rows, 2 rejected")
    assert "same inputs, config and code: letters/v1-" in line


def test_prefect_shows_what_was_reused(run):
    run()
    run()
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        until = time.monotonic() + 20
        shown = set()
        while len(shown) < 2 and time.monotonic() < until:  # the server records task runs later
            runs = client.read_task_runs(flow_run_filter=only)
            shown = {
                (run.name, run.state_name) for run in runs if run.state and run.state.is_final()
            }
    assert shown == {("letters of hi-Latn", "Cached"), ("upper", "Cached")}


def test_a_name_with_braces_is_a_name(tmp_path, stages):
    @stage("letters", title="letters of {name}")
    def letters(job, name: str):
        job.draft.write_table(pl.DataFrame({"a": [name]}))

    place = Workplace(Store.open(str(tmp_path / "store")), Settings())

    @flow
    def one():
        with place.store.writer():
            return letters(place, "faq {v2} {0}.csv")

    one()
    assert [record.title for record in place.journal] == ["letters of faq {v2} {0}.csv"]


def test_a_changed_file_recomputes_what_depends_on_it(run, stages):
    run("abc")
    rows, journal = run("abd")
    assert rows == ["A", "B", "D"]
    assert outcomes(journal) == ["done", "done"]
    run("abc")
    assert stages[2] == ["letters", "upper"] * 2


def test_identity_is_content_and_not_name_place_or_setting(run, stages):
    run("abc", name="one.txt")
    _, journal = run("abc", name="two.txt", settings=Settings(device="cpu", encode_batch=7))
    assert outcomes(journal) == ["reused", "reused"]


def test_a_default_given_or_left_out_is_the_same(run):
    run()
    _, journal = run(times=1)
    assert outcomes(journal) == ["reused", "reused"]
    _, journal = run(times=2)
    assert outcomes(journal) == ["done", "done"]


def test_a_new_version_recomputes_but_equal_rows_leave_the_rest_valid(run, monkeypatch):
    run()
    monkeypatch.setitem(STAGES, "letters", StageCode(2, ()))
    _, journal = run()
    assert outcomes(journal) == ["done", "reused"]


def test_a_damaged_artifact_is_computed_again(run, tmp_path):
    rows, _ = run()
    [table] = (tmp_path / "store/artifacts/upper").rglob("table.parquet")
    table.write_bytes(table.read_bytes()[:-8])
    again, journal = run()
    assert again == rows
    assert outcomes(journal) == ["reused", "done"]


def test_a_failing_stage_raises_its_own_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "broken", StageCode(1, ()))

    @stage("broken")
    def broken(job, text: str):
        job.draft.write_table(pl.DataFrame({"a": [text]}))
        raise DataError("row 7: no text")

    place = Workplace(Store.open(str(tmp_path)), Settings())

    @flow
    def one():
        broken(place, "x")

    with pytest.raises(DataError, match="row 7: no text"):
        one()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "artifacts").exists()
    assert place.journal == []


def test_a_file_edited_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "slow", StageCode(1, ()))
    file = tmp_path / "in.txt"
    file.write_text("before")

    @stage("slow")
    def slow(job, source: Path):
        source.write_text("after")
        job.draft.write_table(pl.DataFrame({"a": [1]}))

    place = Workplace(Store.open(str(tmp_path / "store")), Settings())

    @flow
    def one():
        return slow(place, file)

    with pytest.raises(DataError, match="changed while it was read"):
        one()
    assert not (tmp_path / "store/artifacts").exists()


def test_a_missing_file_is_named(run, stages, tmp_path):
    place = Workplace(Store.open(str(tmp_path / "store")), Settings())

    @flow
    def one():
        stages[0](place, tmp_path / "gone.csv", HINDI)

    with pytest.raises(DataError, match=r"gone\.csv: cannot be read \(No such file"):
        one()


def test_what_stands_outside_the_store_is_looked_at_before_reuse(tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "outside", StageCode(1, ()))
    kept = tmp_path / "kept"

    @stage("outside", whole=lambda _store, _artifact: kept.exists())
    def outside(job):
        kept.write_text("x")
        job.draft.rows = 5

    place = Workplace(Store.open(str(tmp_path / "store")), Settings())

    @flow
    def one():
        outside(place)

    one()
    one()
    kept.unlink()
    one()
    assert outcomes(place.journal) == ["done", "reused", "done"]
    assert kept.exists()


def test_a_full_disk_is_a_store_error(tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "big", StageCode(1, ()))

    @stage("big")
    def big(job):
        raise OSError(28, "No space left on device")

    place = Workplace(Store.open(str(tmp_path)), Settings())

    @flow
    def one():
        big(place)

    with pytest.raises(StoreError, match="No space left on device"):
        one()
