"""Files of which much cannot be used: refused where they are broken, told where rows are of no use.

A quotation mark that nobody closed takes all lines behind it.
"""

import polars as pl
import pytest

from monoglot.config import LanguageConfig, QueriesFile, UserQueriesFile
from monoglot.contracts import KnowledgeBase
from monoglot.errors import DataError
from monoglot.knowledge.queries import load_out_of_scope, load_queries, load_translations
from monoglot.knowledge.user_queries import load_user_queries
from monoglot.learning_config import OutOfScopeFile

KB = pl.DataFrame(
    [(f"r{n}", f"query {n}", "ab"[n % 2], None, None, None) for n in range(100)],
    schema=dict.fromkeys(KnowledgeBase.column_names(), pl.String),
    orient="row",
)
HEADERS = {
    "queries": "text,language,label",
    "out_of_scope": "text,language,label",
    "user_queries": "text,language,label",
    "translations": "translation,language,row_id",
}


@pytest.fixture
def load(tmp_path):
    """Load lines of a file as one of these kinds."""

    def load_lines(kind, lines):
        path = tmp_path / "given.csv"
        path.write_text("\n".join([HEADERS[kind], *lines, ""]), encoding="utf-8")
        language = LanguageConfig(code="hi-Latn", name="Hinglish", translations=path)
        return {
            "queries": lambda: load_queries(QueriesFile(path=path)),
            "out_of_scope": lambda: load_out_of_scope(OutOfScopeFile(path=path)),
            "user_queries": lambda: load_user_queries(UserQueriesFile(path=path), ["hi-Latn"]),
            "translations": lambda: load_translations(language, KB),
        }[kind]()

    return load_lines


def lines_of(count):
    return [f"sawaal {n} {'abcdefgh'[n % 8] * 9},hi-Latn,r{n}" for n in range(count)]


@pytest.mark.parametrize("kind", HEADERS)
def test_a_quotation_mark_never_closed_is_refused(load, tmp_path, kind):
    lines = lines_of(100)
    lines[50] = f'"{lines[50]}'
    with pytest.raises(DataError) as caught:
        load(kind, lines)
    assert str(caught.value) == (
        f"{tmp_path}/given.csv: 50 of 100 rows are rejected (unreadable 50), more than 20%. Such "
        "as row 52: the record cannot be parsed: a quotation mark is not closed. Mend that row "
        "and its like."
    )


@pytest.mark.parametrize("kind", HEADERS)
def test_a_fifth_of_a_file_may_be_lost(load, kind):
    lines = lines_of(100)
    lines[80] = f'"{lines[80]}'
    loaded = load(kind, lines)
    assert set(loaded.rejects["rule"].to_list()[-20:]) == {"unreadable"}
    assert loaded.warnings == ()


@pytest.mark.parametrize("kind", ["queries", "out_of_scope", "user_queries"])
def test_texts_that_cannot_be_used_count_with_lines_that_cannot_be_read(load, kind):
    lines = lines_of(100)
    lines[:15] = ["a\x07b,hi-Latn,r1"] * 15
    lines[90] = f'"{lines[90]}'
    counts = r"\(control_character 15, unreadable 10\).* Such as row 2, column text: holds"
    with pytest.raises(DataError, match=rf"25 of 100 rows are rejected {counts}"):
        load(kind, lines)


@pytest.mark.parametrize("kind", ["out_of_scope", "user_queries", "translations"])
def test_repeats_lose_nothing(load, kind):
    loaded = load(kind, ["mera parcel kahan hai,hi-Latn,r1"] * 50)
    assert loaded.rows.height == 1
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("kind", "line", "rule", "said"),
    [
        ("user_queries", "bonjour,fr,", "language_not_listed", "the config lists hi-Latn"),
        ("user_queries", f"{'letter ' * 90},,", "too_long", "longer than 500 characters"),
        ("translations", "purana,hi-Latn,gone", "no_such_row", "no row of the knowledge base"),
        ("translations", ",hi-Latn,r1", "empty", "the translation is empty"),
    ],
)
def test_many_good_rows_that_are_of_no_use_are_told(load, tmp_path, kind, line, rule, said):
    few = load(kind, [*lines_of(8), *[line] * 2])
    assert few.warnings == ()
    loaded = load(kind, [*lines_of(4), *[line] * 6])
    assert loaded.rows.height == 4
    [warning] = loaded.warnings
    start = f"{tmp_path}/given.csv: 6 of 10 rows (60%) are left out ({rule} 6), such as row 6, "
    assert warning.startswith(start)
    assert said in warning


def test_translations_of_other_languages_do_not_hide_the_loss_of_one(load):
    broken = ["a\x07b,hi-Latn,r1"] * 5 + ["theek hai,hi-Latn,r1"]
    others = [f"marhaba {n},ar,r1" for n in range(100)]
    with pytest.raises(DataError, match=r"5 of 6 rows are rejected \(control_character 5\)"):
        load("translations", broken + others)
