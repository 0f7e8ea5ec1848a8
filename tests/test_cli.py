"""The `monoglot` command: what it prints, its exit codes, and what it leaves alone."""

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest
import yaml
from tiny_line import edit_kb, write_line

from flows import cli, doctor, running
from flows.starter import starter_text
from monoglot.config import Config, LanguageConfig
from monoglot.config_file import load_config
from monoglot.runs import Runs
from monoglot.serving.releases import Releases
from monoglot.settings import Settings
from monoglot.store import Store

NOBODY = 65534


@pytest.fixture
def monoglot(monkeypatch, capsys, no_endpoint):
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["monoglot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            sys.exit(cli.main())
        return ended.value.code or 0, *capsys.readouterr()

    return run


def config_of(folder):
    return folder / "monoglot.yaml"


def tree(folder):
    """Every file of a folder with its content's size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def one_line(text):
    return " ".join(text.split())


def apart(*arguments, **environment):
    """Runs the command in a process of its own, and tells which heavy libraries it loaded."""
    code = (
        "import sys, atexit\n"
        "heavy = {'torch', 'prefect', 'lancedb', 'sentence_transformers', 'sklearn', 'openai'}\n"
        "show = lambda: print('LOADED', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "atexit.register(show)\n"
        "from flows.cli import main\n"
        "main()\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MONOGLOT_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**kept, **environment},
        cwd=Path(__file__).parents[1],
    )


def test_the_commands_are_those_of_the_readme(monoglot):
    code, out, _ = monoglot("--help")
    listed = out.partition("Commands:")[2].split("\n")
    names = [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "]
    wanted = (
        "demo init plan run batches refresh search evaluate quality ablate tune releases "
        "rollback promote pin unpin clean forget doctor notify watch review"
    )
    assert (code, names) == (0, wanted.split())


def test_the_version_is_that_of_the_package(monoglot):
    assert monoglot("--version") == (0, f"monoglot {metadata.version('monoglot')}\n", "")


def test_an_unknown_option_is_bad_input(monoglot):
    code, _, err = monoglot("run", "--fast")
    assert code == 2
    assert "--fast" in err


def test_an_interrupt_ends_with_130(monoglot, monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.starter.write_starter", interrupt)
    assert monoglot("init", tmp_path)[0] == 130


def test_init_writes_every_default(monoglot, tmp_path):
    code, out, _ = monoglot("init", tmp_path / "new")
    path = config_of(tmp_path / "new")
    assert (code, str(path) in one_line(out).replace(" ", "")) == (0, True)
    written = load_config(path)
    defaults = Config(
        knowledge_base={"path": tmp_path / "new/kb.csv"},
        languages=[written.languages[0]],
        store=str(tmp_path / "new/store"),
    )
    assert written == defaults
    assert isinstance(written.languages[0], LanguageConfig)


def test_init_explains_every_setting():
    keys = yaml.safe_load(starter_text())
    lines = starter_text().split("\n")

    def walk(section):
        for name, value in section.items():
            place = next(
                n for n, text in enumerate(lines) if text.strip(" -").startswith(f"{name}:")
            )
            assert lines[place - 1].lstrip().startswith("#"), name
            walk(value if isinstance(value, dict) else value[0] if name == "languages" else {})

    walk(keys)
    assert max(map(len, lines)) <= 100


def test_init_overwrites_nothing(monoglot, tmp_path):
    config_of(tmp_path).write_text("mine")
    code, _, err = monoglot("init", tmp_path)
    assert (code, config_of(tmp_path).read_text()) == (2, "mine")
    assert "is there already" in err


def test_plan_and_a_run_with_nothing_to_do_load_nothing_heavy(line):
    before = tree(line)
    planned = apart("plan", "-c", config_of(line))
    ran = apart("run", "-c", config_of(line))
    assert (planned.returncode, ran.returncode) == (0, 0), planned.stderr + ran.stderr
    assert "LOADED []" in planned.stderr
    assert "LOADED []" in ran.stderr
    assert "Decision: nothing" in planned.stdout
    stages = Runs(Store.existing(str(line / "store"))).last().stages
    assert ran.stderr.count(" reused ") == len(stages) > 10
    assert re.search(r"fine-tune +reused +56 rows", ran.stderr)
    assert "same inputs, config and code: training/v" in ran.stderr
    assert "nothing to do: files, config and code are those of run" in ran.stderr
    assert tree(line) == before


def test_plan_names_the_changed_rows(monoglot, line):
    old = pl.read_csv(line / "kb.csv")["query"][0]
    first = pl.int_range(pl.len()) == 0
    new = pl.when(first).then(pl.lit("[red]new[/red] question")).otherwise("query").alias("query")
    edit_kb(line, lambda frame: frame.with_columns(new))
    code, out, _ = monoglot("plan", "-c", config_of(line))
    assert code == 0
    assert "+ [red]new[/red] question [cancel_order]" in out
    assert f"- {old} [cancel_order]" in out
    assert "Next: `monoglot refresh`" in out
    made = json.loads(monoglot("plan", "-c", config_of(line), "--json")[1])
    assert made["decision"] == "refresh"
    assert [row["query"] for row in made["changes"]["added"]] == ["[red]new[/red] question"]
    assert [row["query_before"] for row in made["changes"]["removed"]] == [old]


def test_plan_counts_what_the_llm_would_be_asked(monoglot, tmp_path, monkeypatch):
    write_line(tmp_path, languages=[{"code": "es", "name": "Spanish"}])
    monkeypatch.setenv("MONOGLOT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MONOGLOT_LLM_MODEL", "toy")
    before = tree(tmp_path)
    code, out, _ = monoglot("plan", "-c", config_of(tmp_path), "--json")
    [request] = json.loads(out)["requests"]
    assert (code, request["language"], request["purpose"]) == (0, "es", "translate")
    assert request["work"]["requests"] == -(-request["work"]["rows"] // 10)
    assert request["work"]["rows"] > 30
    assert request["work"]["prompt_tokens"] > 500
    assert tree(tmp_path) == before


def test_run_shows_stages_results_and_report(monoglot, tmp_path, prefect_api):
    write_line(tmp_path)
    code, out, err = monoglot("run", "-c", config_of(tmp_path))
    assert code == 0
    shown = re.findall(r"^(\S.*?) +done +[\d,]+ rows", err, re.MULTILINE)
    record = Runs(Store.existing(str(tmp_path / "store"))).last()
    assert shown == [stage.title for stage in record.stages]
    assert "gate: promoted." in err
    assert "Traceback" not in err
    systems = [line.strip().rsplit(maxsplit=4)[0] for line in out.split("\n") if "0." in line[:60]]
    assert systems[:6] == [
        "untuned",
        "TF-IDF",
        "BM25",
        "logistic head",
        "tuned",
        "untuned, asked in English",
    ]
    report = Path(out.partition("Report: ")[2].strip())
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    log = (tmp_path / "store/.prefect/run.log").read_text(encoding="utf-8")
    assert "Finished in state Completed" in log


def test_refresh_search_and_rollback_follow_one_another(monoglot, line, prefect_api):
    config = ("-c", config_of(line))
    first = Releases(Store.existing(str(line / "store"))).current()
    edit_kb(line, lambda frame: frame.with_columns(answer=pl.lit("Ask again tomorrow.")))
    told = json.loads(monoglot("refresh", *config, "--json")[1])
    assert told["release"] != first.id
    found = json.loads(monoglot("search", "order cancel karo", "-k", "2", *config, "--json")[1])
    assert (found["release"], len(found["answers"])) == (told["release"], 2)
    assert found["answers"][0]["answer"] == "Ask again tomorrow."
    code, out, err = monoglot("refresh", *config)
    assert (code, out) == (0, "")
    assert "nothing to do: the knowledge base is that of release" in err
    assert json.loads(monoglot("rollback", *config, "--json")[1]) == {"current": first.id}
    _, out, _ = monoglot("search", "order cancel karo", *config)
    assert "Ask again tomorrow." not in out
    listed = json.loads(monoglot("releases", *config, "--json")[1])
    assert listed["current"] == first.id
    assert [release["id"] for release in listed["releases"]] == [told["release"], first.id]
    _, out, _ = monoglot("releases", *config)
    assert f"* {first.id}" in out
    assert "chosen by hand" in monoglot("refresh", *config)[2]
    assert monoglot("rollback", told["release"], *config)[0] == 0
    code, _, err = monoglot("rollback", "never", *config)
    assert (code, "never: no such release" in err) == (2, True)


def test_search_says_whether_it_is_sure(monoglot, line):
    config = ("-c", config_of(line))
    releases = Releases(Store.existing(str(line / "store")))
    now = releases.current()
    sure = now.abstention.overall.model_copy(update={"score": -1.0})
    languages = {"hi-Latn": sure, "ar": sure.model_copy(update={"score": 1.01})}
    kept = now.abstention.model_copy(update={"overall": sure, "languages": languages})
    releases.amend(now.id, {"abstention": kept})
    told = json.loads(monoglot("search", "order cancel karo", *config, "--json")[1])
    assert told["confident"] is told["answers"][0]["confident"] is False
    best = told["answers"][0]
    assert (told["threshold"], best["confidence"]) == (1.01, best["score"] * best["share"])
    for language, whose in ((), "the most careful of all languages"), (("--language", "AR"), "AR"):
        code, out, _ = monoglot("search", "order cancel karo", *language, *config)
        said = f"not sure: confidence {best['confidence']:.2f}, needs 1.01 ({whose})"
        assert (code, said in one_line(out)) == (0, True)
    asked = ("search", "order cancel karo", "--language", "hi-Latn", *config)
    assert "not sure" not in monoglot(*asked)[1]
    told = json.loads(monoglot(*asked, "--json")[1])
    assert [told["confident"], *(it["confident"] for it in told["answers"])] == [
        True,
        True,
        False,
        False,
    ]
    assert told["threshold"] == -1.0


def test_search_says_why_it_is_never_sure_or_cannot_know(monoglot, line):
    config = ("-c", config_of(line))
    releases = Releases(Store.existing(str(line / "store")))
    now = releases.current()
    never = now.abstention.overall.model_copy(update={"score": None})
    for kept, said in (
        (now.abstention.model_copy(update={"overall": never}), "and none is enough"),
        (None, "this release has no threshold"),
    ):
        releases.amend(now.id, {"abstention": kept})
        assert said in one_line(monoglot("search", "order cancel karo", *config)[1])
        told = json.loads(monoglot("search", "order cancel karo", *config, "--json")[1])
        assert told["threshold"] is None
        assert told["confident"] is (None if kept is None else False)


def test_evaluate_prints_what_the_design_says(monoglot, line):
    arguments = ("evaluate", "--queries", line / "queries.csv", "-c", config_of(line))
    before = tree(line)
    told = json.loads(monoglot(*arguments, "--json")[1])
    current = Releases(Store.existing(str(line / "store"))).current()
    assert told["release"] == current.id
    assert list(told["current"]) == list(told["untuned"]) == ["hi-Latn", "all"]
    assert list(told["english_control"]) == ["hi-Latn", "all"]
    scores = told["current"]["all"]
    assert {"n", "hit@1", "hit@3", "hit@5", "mrr", "macro_mrr"} <= set(scores)
    assert (scores["n"], scores["mrr"]) == (35, round(current.metrics["mrr"], 4))
    assert told["untuned"]["all"]["mrr"] < scores["mrr"]
    assert told["english_control"]["all"]["mrr"] == round(current.metrics["english_mrr"], 4)
    code, out, _ = monoglot(*arguments)
    assert (code, "current, asked in English" in one_line(out)) == (0, True)
    assert tree(line) == before


# Fault -> file, what is written to it (None: it is removed), and what the message must say.
FILE_FAULTS = {
    "no yaml": ("monoglot.yaml", b"knowledge_base: [", "is not valid YAML"),
    "missing column": ("kb.csv", b"question,label\nwhere is it,a\nstop it,b\n", "query"),
    "empty file": ("kb.csv", b"", "is empty"),
    "binary file": ("kb.csv", bytes(range(256)) * 20, "kb.csv"),
    "one label": ("kb.csv", b"query,label\nwhere,track\nwhere is it,track\n", "one label (track)"),
    "missing file": ("kb.csv", None, "kb.csv: "),
    "bad translations": ("hinglish.csv", b"english,hindi\na,b\n", "hinglish.csv"),
    "bad questions": ("queries.csv", b"text,label\na,b\n", "language"),
    "no weights": ("model/model.safetensors", None, "safetensors"),
}
# Fault -> what it sets in the config, and what the message must say.
CONFIG_FAULTS = {
    "typo": ({"knowlege_base": {}}, "knowlege_base: unknown setting (a typo?)"),
    "wrong value": ({"gate": {"metric": "accuracy"}}, "gate.metric"),
    "no model": ({"base_model": "./nowhere"}, "nowhere: no such folder"),
    "nothing to train on": (
        {"languages": [{"code": "es", "name": "Spanish"}]},
        "MONOGLOT_LLM_BASE_URL",
    ),
}


def spoil(folder, fault):
    """Break a line's input in one way; what the message must say."""
    if fault in CONFIG_FAULTS:
        settings, expected = CONFIG_FAULTS[fault]
        path = config_of(folder)
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))
        return expected
    name, content, expected = FILE_FAULTS[fault]
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return expected


@pytest.mark.parametrize("fault", [*FILE_FAULTS, *CONFIG_FAULTS])
def test_bad_input_is_one_screen_and_leaves_the_store_alone(monoglot, line, prefect_api, fault):
    expected = spoil(line, fault)
    releases = tree(line / "store/releases"), tree(line / "store/index")
    runs = tree(line / "store/runs")
    code, out, err = monoglot("run", "-c", config_of(line))
    assert code == 2, err
    assert expected in one_line(err)
    assert "Traceback" not in err
    assert len(err) < 2500
    assert out == ""
    assert (tree(line / "store/releases"), tree(line / "store/index")) == releases
    assert tree(line / "store/runs") == runs


@pytest.mark.parametrize("fault", [*FILE_FAULTS, *CONFIG_FAULTS])
def test_bad_input_makes_no_store(monoglot, tmp_path, fault):
    write_line(tmp_path)
    expected = spoil(tmp_path, fault)
    code, _, err = monoglot("run", "-c", config_of(tmp_path))
    assert (code, expected in one_line(err)) == (2, True), err
    assert not (tmp_path / "store").exists()


def test_an_endpoint_that_cannot_be_reached_fails_before_any_work(monoglot, tmp_path, monkeypatch):
    write_line(tmp_path, languages=[{"code": "es", "name": "Spanish"}])
    monkeypatch.setenv("MONOGLOT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MONOGLOT_LLM_MODEL", "toy")
    code, _, err = monoglot("run", "-c", config_of(tmp_path))
    assert code == 1
    assert "http://127.0.0.1:9/v1: the LLM endpoint cannot be reached" in one_line(err)
    assert "MONOGLOT_LLM_BASE_URL" in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("command", ["run", "refresh"])
def test_a_store_that_cannot_be_written_is_refused(monoglot, line, command):
    """As an unprivileged user, since root writes anywhere."""
    edit_kb(line, lambda frame: frame.with_columns(answer=pl.lit("Another answer.")))
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        place = Path(folder)
        place.chmod(0o755)
        os.system(f"cp -r {line}/. {folder}")
        os.system(f"chmod -R a+rX,a-w {folder}")
        before = tree(place)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            code, _, err = monoglot(command, "-c", place / "monoglot.yaml")
        finally:
            if root:
                os.seteuid(0)
            os.system(f"chmod -R u+w {folder}")
        assert (code, tree(place)) == (1, before)
    assert "the store cannot be written (Permission denied" in one_line(err)
    assert "Check the free space and the owner" in one_line(err)


def test_a_store_of_another_format_is_refused(monoglot, line):
    (line / "store/store.json").write_text('{"format": 99}')
    code, _, err = monoglot("search", "order", "-c", config_of(line))
    assert (code, "store format 99" in err, "Upgrade Monoglot" in one_line(err)) == (1, True, True)


def test_without_a_store_the_commands_say_what_makes_one(monoglot, tmp_path):
    write_line(tmp_path)
    for command in (["search", "order"], ["releases"], ["rollback"], ["refresh"]):
        code, _, err = monoglot(*command, "-c", config_of(tmp_path))
        assert (code, "`monoglot run` makes one" in one_line(err)) == (1, True), command
    assert not (tmp_path / "store").exists()


def test_doctor_finds_a_working_line_well(monoglot, line, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    before = tree(line)
    code, out, _ = monoglot("doctor", "-c", config_of(line), "--json")
    found = {finding["what"]: finding["state"] for finding in json.loads(out)}
    assert code == 0
    assert set(found.values()) <= {"ok", "warning"}
    assert list(found) == [
        "packages", "files", "knowledge base", "training data", "LLM endpoint", "store", "disk",
        "base model", "device", "Prefect", "worker", "last check", "candidate",
    ]  # fmt: skip
    assert tree(line) == before


def test_doctor_says_what_to_do(monoglot, line, monkeypatch):
    (line / "hinglish.csv").unlink()
    (line / "model/model.safetensors").unlink()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MONOGLOT_DEVICE", "cuda:7")
    monkeypatch.setenv("MONOGLOT_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MONOGLOT_LLM_MODEL", "toy")
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["polars<1", "no-such-package>=1"])
    code, out, _ = monoglot("doctor", "-c", config_of(line), "--json")
    said = {f["what"]: f["said"] for f in json.loads(out) if f["state"] == "problem"}
    assert code == 1
    assert "hinglish.csv is not there" in said["files"]
    assert "safetensors" in said["base model"]
    assert "unset the variable" in said["Prefect"]
    assert "MONOGLOT_DEVICE=cuda:7" in said["device"]
    assert "cannot be reached" in said["LLM endpoint"]
    assert "wanted <1" in said["packages"]
    assert "no-such-package is not installed" in said["packages"]


def test_doctor_takes_a_full_disk_and_a_closed_store_for_what_they_are(tmp_path, monkeypatch):
    config = load_config(write_line(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: os.statvfs_result and _Usage())
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    found = {finding.what: finding for finding in doctor.examine(config, Settings())}
    assert found["disk"].state == "warning"
    assert found["store"].state == "problem"


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_full_disk_stops_a_run_with_one_line_and_keeps_the_store(
    monoglot, line, monkeypatch, when
):
    pointer = (line / "store/releases/current.json").read_bytes()
    edit_kb(line, lambda frame: frame.head(60))
    with monkeypatch.context() as full:

        def fill(*_arguments, **_options):
            full.setattr(running.shutil, "disk_usage", lambda _: _Usage())
            raise RuntimeError("500 Internal Server Error")  # what Prefect's client says then

        if when == "before":
            full.setattr(running.shutil, "disk_usage", lambda _: _Usage())
        else:
            full.setattr("tasks.triplets.make_triplets", fill)
        code, _, err = monoglot("run", "-c", config_of(line))
    assert code == 1
    assert "the disk is full (1.0 MB left). What is finished is kept" in one_line(err)
    assert (line / "store/releases/current.json").read_bytes() == pointer
    assert monoglot("run", "-c", config_of(line))[0] == 0


class _Usage:
    free = 1_000_000
