"""The public grid on made-up files of the public layout: it resumes, and its page is honest."""

import json

import polars as pl
import pytest
from tiny_models import static_model

from benchmarks import grid, grid_data, results_answers, results_page
from benchmarks.grid_cells import PEERS, cells_for, peers_for
from benchmarks.grid_data import DATASETS
from benchmarks.grid_results import outcomes_of, pack, read, unpack, write_json
from monoglot.config_file import load_config
from monoglot.generation.query_translation import read_lexicon
from monoglot.knowledge.queries import load_queries
from monoglot.learning import training
from monoglot.learning.grid import trials_of
from monoglot.learning.metrics import ALL, METRICS, summarise
from tasks.systems import UNTUNED

WORDS = {"WAKE": "wake up alarm", "SLEEP": "sleep night bed", "EAT": "eat food lunch"}
NATIVE = {"WAKE": "utho jago alarm", "SLEEP": "so jao raat", "EAT": "khana khao"}


@pytest.fixture
def data(tmp_path):
    """Three intents with ten training queries, three to validate and three to test each."""
    kb, queries = ["kb_id\tlabel\tparent\ttext\tfirst_split\tsplit"], []
    for label, words in WORDS.items():
        for n in range(16):
            split = "train" if n < 10 else "validation" if n < 13 else "test"
            english = f"{words} {['now', 'please', 'today', 'soon'][n % 4]} {n}"
            kb.append(f"{label}-{n}\t{label}\tlife\t{english}\t{split}\t{split}")
            text = f"{NATIVE[label]} {['abhi', 'aaj'][n % 2]} {n}"
            dev = "dev" if split == "validation" else split
            queries.append(
                f"q{label}-{n}\thi\t{split}\t{dev}\t{label}\t{label}-{n}\t{text}\t{english}"
            )
    folder = tmp_path / "data"
    folder.mkdir()
    head = "qid\tlang\tsplit\tdev_split\tlabel\tkb_id\ttext\ten_text"
    for name, lines in (("kb", kb), ("queries", [head, *queries])):
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    labels = "".join(f"{label}\t{words}\n" for label, words in WORDS.items())
    (folder / "labels.tsv").write_text("label\tlabel_text\n" + labels)
    lexicon = "en\thinglish\tscore_sym\nwake\tutho\t0.9\nwake\tjago\t0.95\nnow\tabhi\t0.5\n"
    (tmp_path / "lexicons").mkdir()
    (tmp_path / "lexicons/en_hinglish_induced.tsv").write_text(lexicon)
    static_model(tmp_path / "model", [*WORDS.values(), *NATIVE.values(), "now abhi 0 1 2 3 4 5"])
    return folder


@pytest.fixture
def measure(data, tmp_path, monkeypatch, prefect_api, no_endpoint):
    """Runs the grid with a model of the tests, on some cells."""
    config_of = grid_data._config

    def with_tiny_model(config, folder):
        path = config_of(config, folder)
        path.write_text(path.read_text().replace("offline-minilm", str(tmp_path / "model")))
        return path

    monkeypatch.setattr(grid_data, "_config", with_tiny_model)

    def run(*more):
        grid.main(
            [
                "hinglish_top", str(data), "--work", str(tmp_path / "work"),
                "--out", str(tmp_path / "out"), "--seeds", "0", "1", *more,
            ]
        )  # fmt: skip
        return sorted(path.name for path in (tmp_path / "out/hinglish_top").glob("*.json"))

    return run


ONLY = ("--only", "random, explicit", "algorithm1, explicit")


@pytest.mark.slow
def test_the_grid_resumes_and_the_page_names_what_is_missing(
    measure, tmp_path, monkeypatch, capsys
):
    assert measure(*ONLY, "--budget-seconds", "1e-9") == [
        "questions.json",
        "tf-idf.json",
        "untuned.json",
    ]
    assert "4 results are missing" in capsys.readouterr().err
    names = measure(*ONLY)
    cells = [name for name in names if name[-6:-5].isdigit()]
    assert cells == [
        f"{cell}-explicit-{seed}.json" for cell in ("algorithm1", "random") for seed in (0, 1)
    ]
    folder = tmp_path / "out/hinglish_top"
    before = {name: (folder / name).read_bytes() for name in cells}
    (folder / cells[0]).unlink()
    monkeypatch.setattr(training._Run, "step", None)  # the work folder has it
    assert measure(*ONLY) == names
    places = [
        json.loads(it)["places"] for it in (before[cells[0]], (folder / cells[0]).read_bytes())
    ]
    assert places[0] == places[1]
    assert (folder / cells[1]).read_bytes() == before[cells[1]]

    result = read(folder / cells[1])
    assert (result["cell"], result["seed"]) == ("algorithm1, explicit", 1)
    assert {"commit", "date", "cpu"} <= result["provenance"].keys()
    assert result["peak_bytes"] > 1e6
    questions = read(folder / "questions.json")
    assert sorted(set(questions["part"])) == ["test", "validation"]
    outcomes = outcomes_of(questions, result["places"])
    assert summarise(outcomes.filter(part="test"))[ALL].questions == 9
    assert summarise(outcomes, control=True)[ALL].questions == 18

    result["provenance"]["gpu"], result["cost"]["seconds"] = "a GPU", 7.0
    write_json(folder / cells[1], result)
    text = results_page.page(tmp_path / "out")
    [row] = [line for line in text.splitlines() if line.startswith("| algorithm1, explicit |")]
    assert "; GPU 7 |" in row
    assert "- `random, explicit` against `algorithm1, explicit`: " in text
    peers = [PEERS[name] for name in peers_for("hinglish_top")]
    in_all = len(cells_for("hinglish_top").changes) * 3 + sum(
        3 if peer.is_seeded else 1 for peer in peers
    )
    assert f"**Missing, {in_all - 4} of {in_all} results.**" in text
    assert "seeds 2: `algorithm1, explicit`, `random, explicit`." in text
    assert "| random, explicit | 0, 1 |" in text
    assert "9 questions (test)" in text
    assert text.count("Nothing is measured yet.") == len(DATASETS) - 1


def test_a_cell_whose_meaning_changed_is_measured_anew(tmp_path):
    path = tmp_path / "cell.json"
    changes = {"fine_tuning": {"epochs": 3}}
    path.write_text(json.dumps({"changes": changes, "settings": {"fine_tuning": {"epochs": 3}}}))
    assert grid.is_done(path, changes, {"fine_tuning": {"epochs": 3}})
    assert grid.is_done(path, changes, {"fine_tuning": {"epochs": 3, "new": 1}, "new": {}})
    assert not grid.is_done(path, changes, {"fine_tuning": {"epochs": 4}})
    assert not grid.is_done(path, changes, {"fine_tuning": {}})
    assert not grid.is_done(path, {}, {"fine_tuning": {"epochs": 3}})
    assert not grid.is_done(tmp_path / "other.json", {}, {})


def test_what_no_seed_changes_is_found_whatever_seed_it_was_measured_with(tmp_path):
    told = {"cell": "BM25", "seed": 1, "changes": {}, "places": {}}
    write_json(tmp_path / "bm25.json", told)
    assert results_page.results_in(tmp_path, {"BM25": {}}) == {"BM25": {0: told}}


def test_places_are_a_character_each():
    assert pack([0, 1, 10]) == "01a"
    assert unpack("01a") == [0, 1, 10]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_cell_is_a_config(dataset, data, tmp_path):
    queries = pl.read_csv(data / "queries.tsv", separator="\t", infer_schema=False)
    if dataset == "banking77_ar":
        queries = queries.with_columns(split="dev_split")
    queries.write_csv(data / "queries.tsv", separator="\t", quote_style="never")
    made = DATASETS[dataset](data, tmp_path / "work")
    config = load_config(made.config)
    cells = cells_for(dataset)
    trials = trials_of(cells, config, made.config, dataset, resplit=True)
    assert len(trials) == len(cells.changes) * len(cells.seeds)
    assert cells.reference == UNTUNED or cells.reference in cells.changes
    asked = load_queries(config.evaluation).rows
    assert set(asked["query_id"]) == set(made.parts)
    assert made.reported in set(made.parts.values())
    assert made.control in {None, *made.parts.values()}


def test_the_poor_translator_is_the_lexicon(data, tmp_path):
    made = DATASETS["hinglish_lexicon"](data, tmp_path / "work")
    [language] = load_config(made.config).languages
    told = pl.read_csv(language.translations, separator="\t")
    assert told.filter(row_id="WAKE-0")["translation"].to_list() == ["jago up alarm abhi 0"]
    assert told.height == 3 * 10
    assert read_lexicon(made.lexicon) == {"utho": "wake", "jago": "wake", "abhi": "now"}


def test_synthetic_queries_are_drawn_from_the_lexicon_the_same_each_time(data, tmp_path):
    lexicon = data.parent / "lexicons/en_hinglish_induced.tsv"
    made = DATASETS["hinglish_synthetic"](data, tmp_path / "work")
    drawn = load_config(made.config).training.path
    texts = pl.read_csv(drawn, separator="\t")
    assert texts.columns == ["text", "label", "language"]
    of_one = texts.filter(pl.col("text").str.ends_with("up alarm abhi 0"))["text"]
    assert sorted(of_one) == ["jago up alarm abhi 0", "utho up alarm abhi 0"]
    assert texts.filter(label="EAT").height == 10  # of unknown words there is one rendering
    before = drawn.read_bytes()
    DATASETS["hinglish_synthetic"](data, tmp_path / "work")
    assert drawn.read_bytes() == before
    lexicon.unlink()
    with pytest.raises(SystemExit, match="has no lexicons/en_hinglish_induced"):
        DATASETS["hinglish_synthetic"](data, tmp_path / "work")


def curve(*values):
    looks = [dict.fromkeys(METRICS, value) | {"step": step} for step, value in enumerate(values, 1)]
    return {0: {"curve": looks}}


def test_a_curve_far_below_the_others_is_told_and_not_drawn(tmp_path):
    found = {f"{name}, explicit": curve(0.5, 0.9) for name in ("random", "weighted", "simans")}
    found["hardest, explicit"] = curve(0.5, 0.7)
    found["random, in-batch"] = curve(0.1, 0.2)
    told, *_ = results_answers.curves(found, tmp_path)
    assert told.endswith("Far below, and not drawn: `hardest` (ends at 0.70).")
    drawn = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert [name in drawn for name in ("simans", "hardest", "in-batch")] == [True, False, False]


def test_no_curve_is_left_out_where_few_are_near_the_best(tmp_path):
    found = {f"{name}, explicit": curve(0.5, 0.7) for name in ("random", "weighted")}
    found["simans, explicit"] = curve(0.5, 0.9)
    told, *_ = results_answers.curves(found, tmp_path)
    assert "not drawn" not in told
    assert "weighted" in (tmp_path / "curves.svg").read_text(encoding="utf-8")
