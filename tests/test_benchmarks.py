"""The benchmark's conversion, on made-up files of the public layout and on the public ones."""

import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from benchmarks import label_noise
from benchmarks.hinglish_files import convert, write_config
from benchmarks.tables import cell, table
from monoglot.config_file import load_config
from monoglot.knowledge.knowledge_base import load_knowledge_base
from monoglot.knowledge.queries import load_queries, load_translations

PUBLIC = Path(__file__).parents[2] / "shared/data/hinglish_top"


@pytest.fixture
def data(tmp_path):
    """Two intents of five training queries, one of which is asked five times; one rare intent."""
    kb, queries = ["kb_id\tlabel\tparent\ttext\tfirst_split"], []
    for label in ("WAKE", "SLEEP"):
        for n in range(5):
            kb.append(f'{label}-{n}\t{label}\tclock\tsay "{label}" {n}\ttrain')
            queries.append(
                f'{label}-t{n}\thi-en\ttrain\t{label}\t{label}-{n}\tbolo "{label} {n}\t'
                f'Say "{label}" {n}!'
            )
    queries += [f"q{n}\thi-en\ttest\tWAKE\tx{n}\tuthao {n}\twake me {n}" for n in range(5)]
    queries.append("q5\thi-en\ttest\tSLEEP\tx5\tsulao\tlet me sleep")
    queries.append("q6\thi-en\tvalidation\tSLEEP\tx6\tsone do\tsleep now")
    kb.append("x0\tWAKE\tclock\twake me 0\ttest")
    folder = tmp_path / "data"
    folder.mkdir()
    head = "qid\tlang\tsplit\tlabel\tkb_id\ttext\ten_text"
    write(folder / "kb.tsv", kb)
    write(folder / "queries.tsv", [head, *queries])
    write(folder / "labels.tsv", ["label\tlabel_text", "WAKE\twake up", "SLEEP\tgo to sleep"])
    return folder


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_files_are_what_monoglot_reads(data, tmp_path):
    files = convert(data, "test", tmp_path / "work")
    config = load_config(write_config(files, 3, tmp_path / "work" / "seed-3"))
    kb = load_knowledge_base(config.knowledge_base)
    assert kb.rows.height == 10
    assert kb.rejects.is_empty()
    assert kb.rows.row(by_predicate=pl.col("row_id") == "WAKE-0", named=True) == {
        "row_id": "WAKE-0",
        "query": 'say "WAKE" 0',
        "label": "WAKE",
        "label_path": "clock/WAKE",
        "label_text": "wake up",
        "answer": None,
    }
    translations = load_translations(config.languages[0], kb.rows)
    assert translations.rejects.is_empty()
    assert translations.rows.height == 10
    assert 'bolo "WAKE 0' in translations.rows["text"]
    questions = load_queries(config.evaluation)
    assert sorted(questions.rows["query_id"]) == [f"q{n}" for n in range(6)]
    assert files.frequent == {"WAKE"}
    assert (config.split.seed, config.fine_tuning.seed) == (3, 3)
    assert config.store == str(tmp_path / "work" / "seed-3" / "store")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"kb\.tsv: no such file"):
        convert(tmp_path, "test", tmp_path / "work")


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public data is not here")
@pytest.mark.parametrize(("split", "questions"), [("validation", 1024), ("test", 2881)])
def test_the_public_files_lose_no_row(tmp_path, split, questions):
    files = convert(PUBLIC, split, tmp_path)
    config = load_config(write_config(files, 0, tmp_path))
    kb = load_knowledge_base(config.knowledge_base)
    translations = load_translations(config.languages[0], kb.rows)
    asked = load_queries(config.evaluation)
    counts = (kb.rows.height, translations.rows.height, asked.rows.height)
    assert counts == (2852, 2993 - 23, questions)
    assert translations.rejects["rule"].to_list() == ["duplicate"] * 23
    assert asked.rows["english"].null_count() == 0


def test_a_cell_is_the_mean_and_the_range():
    assert cell([0.881, 0.8849, 0.8871]) == ".884 (.881-.887)"
    assert cell([0.5]) == ".500"
    assert cell([1.0, 1.0]) == "1.000"
    assert cell([]) == cell([None]) == "-"
    assert table({"tuned": {"mrr": [0.5, 0.7]}}, {"mrr": "MRR", "hit@1": "hit@1"}, "system") == [
        "| system | MRR | hit@1 |",
        "|---|---|---|",
        "| tuned | .600 (.500-.700) | - |",
    ]


def test_at_least_95_in_100_planted_defects_are_caught():
    from benchmarks.quality_gates import caught_defects, human

    if not PUBLIC.exists():
        pytest.skip(f"{PUBLIC} is not here")
    found = caught_defects(human(PUBLIC, "validation"), seed=1)
    rows = sum(each["rows"] for each in found.values())
    assert len(found) == 19
    assert min(each["rows"] for each in found.values()) >= 50
    assert sum(each["rows"] * each["by_any"] for each in found.values()) >= 0.95 * rows


def test_a_reader_of_label_noise_is_not_told_which_label_is_the_data_s(tmp_path):
    asked = pl.DataFrame({"number": range(900)}).select(
        query_id=pl.format("q{}", "number"),
        text=pl.format("utho {}", "number"),
        control=pl.lit(value=False),
        known=pl.lit(value=True),
        label=pl.lit("RIGHT"),
        rank=pl.when(pl.col("number") < 300).then(1).otherwise(2),
        top_labels=pl.when(pl.col("number") < 300)
        .then(pl.lit(["RIGHT", "NEXT"]))
        .otherwise(pl.lit(["SAID", "RIGHT"])),
    )
    queries = asked.select(qid="query_id", en_text=pl.col("text").str.replace("utho", "wake up"))
    items = label_noise.draw(asked, queries, seed=0)
    assert Counter(it["was_right"] for it in items) == {False: 150, True: 50}
    assert {it["other"] for it in items if it["was_right"]} == {"NEXT"}
    assert {it["other"] for it in items if not it["was_right"]} == {"SAID"}
    assert 60 < sum(it["A"] == "RIGHT" for it in items) < 140
    rows = pl.DataFrame({"label": ["RIGHT", "SAID", "NEXT"], "text": ["wake up", "sleep", "eat"]})
    label_noise.write_sheet(items, rows, tmp_path)
    sheet = (tmp_path / "sheet.md").read_text().splitlines()
    assert len(sheet) == 200
    line = re.compile(r"\d+\. English: wake up \d+ \| Hinglish: utho \d+ \| A: [A-Z]+ \| B: [A-Z]+")
    assert all(line.fullmatch(it) for it in sheet)

    chosen = ["A" if it["A"] == "RIGHT" else "B" for it in items[:-1]] + ["both"]
    answers = pl.DataFrame({"n": [str(n) for n in range(1, 201)], "choice": chosen})
    counts = label_noise.score(items, answers)
    assert counts[items[-1]["was_right"]]["both"] == 1
    assert sum(each["the data's"] for each in counts.values()) == 199
    with pytest.raises(SystemExit, match=r"item \d+: 'C' is none of A, B, both, neither"):
        label_noise.score(items, answers.with_columns(choice=pl.col("choice").replace("A", "C")))
