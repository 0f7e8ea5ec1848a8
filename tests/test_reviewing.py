"""Queries that need a person go out as a table, and come back as rows of the user's files."""

import csv
import json

import polars as pl
import pytest
from test_cli import monoglot  # noqa: F401, a fixture
from test_query_log import PAY, TRACK, ask

from monoglot import QueryLog
from monoglot.config import Config, QueriesFile
from monoglot.config_file import load_config
from monoglot.errors import ConfigError, DataError
from monoglot.feedback.appending import Target
from monoglot.feedback.query_log import log_files
from monoglot.feedback.reviewing import COLUMNS, to_review, write_review
from monoglot.feedback.taking import take
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.queries import load_out_of_scope, load_queries
from monoglot.measuring import as_given
from monoglot.store import Store

KB = """query,label,label_path,answer
where is my parcel,track,orders/track,Wait.
has it been sent,track,orders/track,Wait.
how do I pay,pay,,By card.
which cards do you take,pay,,All.
"""
SURE = (TRACK.__class__(**{**vars(TRACK), "confident": True}), PAY)


@pytest.fixture
def shop(tmp_path):
    """A folder with a config, its knowledge base, training queries, and an empty store."""
    (tmp_path / "kb.csv").write_text(KB)
    (tmp_path / "train.csv").write_text("id,lang,q,label\r\n1,hi-Latn,parcel kahan hai?,track\r\n")
    training = {"path": "train.csv", "columns": {"text": "q", "language": "lang"}}
    settings = {"knowledge_base": {"path": "kb.csv"}, "training": training, "store": "store"}
    (tmp_path / "monoglot.yaml").write_text(json.dumps(settings))
    Store.open(str(tmp_path / "store"))
    return tmp_path


def review(shop, **how):
    config = load_config(shop / "monoglot.yaml")
    return to_review(config, Store.existing(config.store), **{"top": 200, **how})


def take_in(shop, text, into="training", *, language="hi-Latn", new_labels=False):
    table = shop / "filled.csv"
    table.write_text(text)
    config = load_config(shop / "monoglot.yaml")
    return take(
        table,
        into,
        lambda kind: Target.of(config, kind, shop / "monoglot.yaml"),
        load_knowledge_base(config.knowledge_base).rows,
        language=language,
        new_labels=new_labels,
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def counted(taken):
    return [(it.into, it.target.path.name, it.added, it.known) for it in taken.files]


def test_the_most_frequent_come_first_and_what_is_known_not_at_all(shop):
    log = QueryLog(shop / "store")
    ask(log, "paise kaise doon", "Paise kaise doon?", "paise kaise doon")
    ask(log, "PARCEL KAHAN HAI")  # stands in the training file, but for case and punctuation
    ask(log, "kab aayega", answers=SURE)
    ask(log, "क्या हुआ", language="hi")
    ask(log, "क्या हुआ", language=None)
    ask(log, "nothing at all", answers=(), release="two")
    assert log.flush()
    found = review(shop)
    assert (found.asked, found.confident, found.known, found.left_out) == (8, 1, 1, 0)
    assert [(it.text, it.language, it.times) for it in found.questions] == [
        ("paise kaise doon", "hi-Latn", 3),
        ("nothing at all", "hi-Latn", 1),
        ("क्या हुआ", "", 1),
        ("क्या हुआ", "hi", 1),
    ]
    (log_file,) = log_files(shop / "store/queries")
    old = {**json.loads(log_file.read_text().splitlines()[0]), "time": "2020-01-01T00:00:00+00:00"}
    with log_file.open("a") as stream:
        stream.write(f"{json.dumps(old)}\nhalf a line")
    assert (review(shop, top=1).left_out, review(shop).unreadable) == (3, 1)
    assert (review(shop).questions[0].times, review(shop, days=30).questions[0].times) == (4, 3)
    cells = dict(zip(COLUMNS, found.questions[0].cells(), strict=True))
    assert (cells["label"], cells["suggestion_1"], cells["suggestion_2"]) == ("", "track", "pay")
    assert cells["confidence"] == "0.450"


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_the_table_is_safe_in_a_spreadsheet_and_comes_back_as_it_was(shop, kind):
    log = QueryLog(shop / "store")
    texts = ["=HYPERLINK(1)", "+parcel, kahan", '-"hai"', "@SUM", "'=x", "saaf\tbaat", "पार्सल"]
    ask(log, *texts)
    assert log.flush()
    out = shop / f"review.{kind}"
    write_review(review(shop), out)
    with out.open(encoding="utf-8-sig", newline="") as stream:
        quoting = csv.QUOTE_MINIMAL if kind == "csv" else csv.QUOTE_NONE
        lines = list(csv.reader(stream, delimiter="," if kind == "csv" else "\t", quoting=quoting))
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line)
    with pytest.raises(ConfigError, match="is there already, perhaps with someone's work in it"):
        write_review(review(shop), out)

    for line in lines[1:]:
        line[0] = "track"
    filled = shop / "filled.csv"
    with filled.open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    taken = take_in(shop, filled.read_text())
    assert counted(taken) == [("training", "train.csv", 7, 0)]
    config = load_config(shop / "monoglot.yaml")
    kept = set(load_queries(config.training).rows["text"])
    assert kept == {*(" ".join(text.split()) for text in texts), "parcel kahan hai?"}
    assert review(shop).questions == []  # they are known now


def test_rows_are_appended_once_in_the_file_s_own_layout(shop):
    before = (shop / "train.csv").read_bytes()
    text = "label,text,language\ntrack,order kidhar,hi-Latn\npay,upi chalega,\n,later,\n"
    taken = take_in(shop, text)
    assert (counted(taken), taken.unlabelled) == ([("training", "train.csv", 2, 0)], 1)
    assert (shop / "train.csv").read_bytes() == before + (
        b",hi-Latn,order kidhar,track\r\n,hi-Latn,upi chalega,pay\r\n"
    )
    after = contents(shop)
    assert counted(take_in(shop, text)) == [("training", "train.csv", 0, 2)]
    assert contents(shop) == after
    more = text.replace(",later,", "track,later,") + 'pay,"Order, kidhar 2",\n'
    assert counted(take_in(shop, more)) == [("training", "train.csv", 2, 2)]


def test_a_file_with_semicolons_gets_more_of_them(shop):
    (shop / "train.csv").write_text("id;lang;q;label\n1;hi-Latn;parcel kahan hai?;track\n")
    text = "label;text;language\ntrack;order, kidhar;hi-Latn\n"  # saved by a spreadsheet
    assert counted(take_in(shop, text)) == [("training", "train.csv", 1, 0)]
    after = (shop / "train.csv").read_text()
    assert after.endswith("track\n;hi-Latn;order, kidhar;track\n")
    assert counted(take_in(shop, text)) == [("training", "train.csv", 0, 1)]


def test_what_the_config_names_no_file_for_goes_beside_it(shop):
    text = "label,text,english\ntrack,order kidhar,where is it\n-,aap kaise ho,\n"
    taken = take_in(shop, text, "evaluation")
    assert counted(taken) == [
        ("evaluation", "reviewed-evaluation.csv", 1, 0),
        ("out_of_scope", "reviewed-out_of_scope.csv", 1, 0),
    ]
    assert not any(it.target.is_named for it in taken.files)
    rows = load_queries(QueriesFile(path=shop / "reviewed-evaluation.csv")).rows
    assert rows.select("text", "language", "label", "english").rows() == [
        ("order kidhar", "hi-Latn", "track", "where is it")
    ]
    config = Config(
        knowledge_base={"path": shop / "kb.csv"},
        abstention={"out_of_scope": {"path": shop / "reviewed-out_of_scope.csv"}},
    )
    outside = load_out_of_scope(config.abstention.out_of_scope).rows
    assert outside["text"].to_list() == ["aap kaise ho"]
    assert [it.known for it in take_in(shop, text, "evaluation").files] == [1, 1]


def test_rows_of_the_knowledge_base_get_what_their_label_has(shop):
    text = (
        "label,text,english,answer\n"
        "track,order kidhar,where has my order gone,\n"
        'pay,upi?,can I pay by UPI,"Yes, you can."\n'
    )
    taken = take_in(shop, text, "knowledge_base")
    assert counted(taken) == [("knowledge_base", "kb.csv", 2, 0)]
    assert (shop / "kb.csv").read_text() == KB + (
        'where has my order gone,track,orders/track,Wait.\ncan I pay by UPI,pay,,"Yes, you can."\n'
    )
    assert counted(take_in(shop, text, "knowledge_base")) == [("knowledge_base", "kb.csv", 0, 2)]


@pytest.mark.parametrize("columns", [["text"], ["text", "language"]])
def test_what_is_out_of_scope_is_added_once_whatever_its_file_says_of_languages(shop, columns):
    outside = shop / "outside.csv"
    pl.DataFrame([["weather"], [None]][: len(columns)], schema=columns).write_csv(outside)
    settings = json.loads((shop / "monoglot.yaml").read_text())
    settings["abstention"] = {"out_of_scope": {"path": outside.name}}
    (shop / "monoglot.yaml").write_text(json.dumps(settings))
    text = "label,text,language\n-,cuánto cuesta un piso,es\n-,Weather?,en\n"
    assert counted(take_in(shop, text, "evaluation")) == [("out_of_scope", "outside.csv", 1, 1)]
    after = outside.read_text(encoding="utf-8")
    assert after.splitlines()[2:] == ["cuánto cuesta un piso" + ",es" * (len(columns) - 1)]
    assert counted(take_in(shop, text, "evaluation")) == [("out_of_scope", "outside.csv", 0, 2)]
    assert outside.read_text(encoding="utf-8") == after


@pytest.mark.parametrize("suffix", ["jsonl", "tsv", "parquet"])
def test_every_kind_of_file_is_appended_to_or_left_alone(shop, suffix):
    kb = pl.read_csv(shop / "kb.csv").with_columns(row_id=pl.Series(["a", "b", "c", "d"]))
    path = shop / f"kb.{suffix}"
    write = {"jsonl": kb.write_ndjson, "parquet": kb.write_parquet}
    write.get(suffix, lambda it: kb.write_csv(it, separator="\t"))(path)
    before = path.read_bytes()
    (shop / "monoglot.yaml").write_text(
        json.dumps({"knowledge_base": {"path": path.name}, "store": "store"})
    )
    text = "label,text,english\ntrack,order kidhar,where has my order gone\n"
    taken = take_in(shop, text, "knowledge_base")
    config = load_config(shop / "monoglot.yaml").knowledge_base
    rows = load_knowledge_base(config).rows
    if suffix == "parquet":
        assert counted(taken) == [("knowledge_base", "reviewed-knowledge_base.csv", 1, 0)]
        assert (path.read_bytes(), rows.height) == (before, 4)
    else:
        assert path.read_bytes().startswith(before)
        new = rows.filter(~pl.col("row_id").is_in(["a", "b", "c", "d"])).row(0, named=True)
        assert (new["query"], new["label_path"]) == ("where has my order gone", "orders/track")
        assert (new["answer"], len(new["row_id"])) == ("Wait.", 16)


@pytest.mark.parametrize(
    ("into", "line", "said"),
    [
        ("training", "trakc,x y,,hi", "row 3, column label: no label trakc in the knowledge base "
         "(did you mean track?); if it is new: --new-labels"),
        ("training", "track,,,hi", "row 3, column text: is empty: the query stands there"),
        ("training", "track,x y,,", "row 3, column language: is empty: write its BCP 47 code"),
        ("training", "track,call {{phone_1}},,hi", "row 3, column text: holds {{phone_1}}"),
        ("training", "pay,Parcel kahan hai,,hi-Latn", "row 3, column label: is there under label "
         "track ("),
        ("training", "pay,ek,,hi", "is there under label track (row 2 of this table)"),
        ("training", "pay,x,,hi,,,", "row 3: 7 fields under 4 column names"),
        ("training", "pay,x\x07y,,hi", "row 3, column text: holds a control character"),
        ("knowledge_base", "track,x y,,hi", "row 3, column english: is empty: write the query as"),
        ("knowledge_base", "pay,x y,by UPI,hi", "row 3, column answer: is empty, and label pay "
         "has 2 answers: write one"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_told_and_nothing_is_written(shop, into, line, said):
    first = "track,ek,another thing,hi"
    before = contents(shop)
    with pytest.raises(DataError) as caught:
        take_in(shop, f"label,text,english,language\n{first}\n{line}\n", into, language=None)
    assert str(caught.value).startswith(f"{shop / 'filled.csv'}: nothing was taken. ")
    assert said in str(caught.value)
    assert {name: raw for name, raw in contents(shop).items() if name != "filled.csv"} == before


def test_lines_without_a_text_contradict_nothing(shop):
    with (shop / "kb.csv").open("a") as stream:
        stream.write(",track,,\n")
    with pytest.raises(DataError) as caught:
        take_in(shop, "label,text\ntrack,ek\npay,do\n", "knowledge_base")
    missing = "column english: is empty: write the query as the knowledge base would have it"
    answer = "row 3, column answer: is empty, and label pay has 2 answers: write one"
    assert str(caught.value) == (
        f"{shop / 'filled.csv'}: nothing was taken. row 2, {missing}; row 3, {missing}; {answer}."
    )


def test_new_labels_are_taken_when_told(shop):
    text = "label,text\nrefund,paise wapas\n"
    taken = take_in(shop, text, new_labels=True)
    assert (taken.new_labels, counted(taken)[0][2]) == (("refund",), 1)


def test_a_file_that_changed_meanwhile_is_left_as_it_is(shop, monkeypatch):
    from monoglot.feedback import taking

    real = taking.appended

    def slow(target, *arguments):
        made = real(target, *arguments)
        with target.path.open("a") as stream:
            stream.write("2,hi-Latn,someone else's,pay\n")
        return made

    monkeypatch.setattr(taking, "appended", slow)
    with pytest.raises(DataError, match="changed while it was read; nothing was taken"):
        take_in(shop, "label,text\ntrack,order kidhar\n")
    assert (shop / "train.csv").read_text().endswith("2,hi-Latn,someone else's,pay\n")


def test_the_command_lists_writes_and_takes(shop, monoglot):  # noqa: F811
    config = shop / "monoglot.yaml"
    code, _, err = monoglot("review", "-c", config)
    assert (code, "no queries are logged here" in " ".join(err.split())) == (2, True)
    log = QueryLog(shop / "store")
    ask(log, "[red]order[/red] kidhar", "upi chalega", "upi chalega")
    assert log.flush()
    code, out, _ = monoglot("review", "-c", config)
    assert (code, "[red]order[/red] kidhar" in out, "track, pay" in out) == (0, True, True)
    code, out, _ = monoglot("review", "-c", config, "--out", shop / "r.csv", "--json")
    assert (code, json.loads(out)["questions"][0]["times"]) == (0, 2)
    lines = (shop / "r.csv").read_text(encoding="utf-8-sig").splitlines()
    (shop / "r.csv").write_text("\n".join([lines[0], "pay" + lines[1], *lines[2:]]))
    code, out, err = monoglot("review", "-c", config, "--take", shop / "r.csv")
    assert (code, "train.csv: 1 rows added" in " ".join(out.split())) == (0, True), out + err
    assert "1 lines have no label yet" in " ".join(out.split())
    code, _, err = monoglot("review", "-c", config, "--take", shop / "r.csv", "--into", "index")
    assert (code, "give one of training, evaluation, knowledge_base" in err) == (2, True)
    assert log_files(shop / "store/queries")


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("text,language,label,english", "kab aayega,hi-Latn,track,when"),
        ("texto,idioma,label,english", "kab aayega,hi-Latn,track,when"),
        ("texto,idioma,label,english,text", "kab aayega,hi-Latn,track,when,an aside"),
        ("texto,idioma,label,english,text,language", "kab aayega,hi-Latn,track,when,no,no"),
    ],
)
def test_a_file_to_evaluate_on_may_have_the_config_s_column_names_or_ours(shop, header, line):
    own = {"path": shop / "own.csv", "columns": {"text": "texto", "language": "idioma"}}
    config = Config(knowledge_base={"path": shop / "kb.csv"}, evaluation=own)
    (shop / "other.csv").write_text(f"{header}\n{line}\n")
    given = config.evaluation.model_copy(update={"path": shop / "other.csv"})
    rows = load_queries(as_given(given, config)).rows
    assert rows.select("text", "language", "label", "english").rows() == [
        ("kab aayega", "hi-Latn", "track", "when")
    ]
    assert as_given(config.evaluation, config) == config.evaluation  # is read as a run reads it


def test_a_file_with_neither_column_names_is_told_of_the_config_s(shop):
    own = {"columns": {"text": "texto"}}
    config = Config(knowledge_base={"path": shop / "kb.csv"}, evaluation=own)
    given = config.evaluation.model_copy(update={"path": shop / "kb.csv"})
    with pytest.raises(DataError, match="has no column texto, language"):
        load_queries(as_given(given, config))


@pytest.mark.parametrize("command", [("evaluate", "--queries"), ("review", "--take")])
def test_a_path_that_was_typed_is_not_blamed_on_the_config(shop, monoglot, command):  # noqa: F811
    for name, what in (("nosuch.csv", "no such file"), ("store", "is a folder")):
        code, _, err = monoglot(*command, shop / name, "-c", shop / "monoglot.yaml")
        said = f"{shop / name}: {what}. Check the path you gave."
        assert (code, said in " ".join(err.split())) == (2, True), err
