"""What `monoglot doctor` says of a store that is gone, and of files that the config names."""

import json

import pytest
from tiny_line import configure, write_line
from typer.testing import CliRunner

from flows.cli import app
from flows.doctor import examine
from flows.operation import tell_findings
from monoglot.config_file import load_config
from monoglot.health import Health
from monoglot.settings import Settings
from monoglot.store import Store

pytestmark = pytest.mark.usefixtures("no_endpoint")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small line whose store was never made."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("MONOGLOT_WEBHOOK_URL", "")
    write_line(tmp_path)
    return tmp_path


def look(folder, what):
    """One finding, and what would be told of all."""
    config, settings = load_config(folder / "monoglot.yaml"), Settings()
    found = examine(config, settings)
    return next(it for it in found if it.what == what), [*tell_findings(config, settings, found)]


def test_a_store_that_is_not_there_is_told(folder):
    finding, told = look(folder, "last check")
    assert finding.state == "warning"
    assert f"there is no store at {folder / 'store'}" in finding.said
    assert "volume is mounted" in finding.said
    assert [line.split(":")[0] for line in told] == ["no check ended well lately"]
    assert not (folder / "store").exists()


def test_a_store_without_a_good_check_is_told_until_there_is_one(folder):
    store = Store.open(str(folder / "store"))
    finding, told = look(folder, "last check")
    assert finding.state == "warning"
    assert "has ever ended well" in finding.said
    assert len(told) == 1
    Health(store).note_good()
    finding, told = look(folder, "last check")
    assert (finding.state, told) == ("ok", [])


def test_a_new_project_is_no_failure(folder):
    ran = CliRunner().invoke(app, ["doctor", "-c", str(folder / "monoglot.yaml"), "--json"])
    assert ran.exit_code == 0, ran.output
    assert "problem" not in {it["state"] for it in json.loads(ran.stdout)}


def test_every_file_that_the_config_names_is_looked_for(folder):
    configure(
        folder,
        sampling={"similarity": {"source": "file", "file": "pairs.csv"}},
        baselines={"also": ["translate_query"], "lexicon": "words.tsv"},
        guards=[{"name": "spanish", "path": "es.csv", "knowledge_base": {"path": "kb-es.csv"}}],
        review={"log": "queries"},
    )
    (folder / "hinglish.csv").unlink()
    finding, _ = look(folder, "files")
    assert finding.state == "problem"
    gone = {
        "languages hi-Latn: translations": "hinglish.csv",
        "guards spanish: path": "es.csv",
        "guards spanish: knowledge_base.path": "kb-es.csv",
        "sampling.similarity.file": "pairs.csv",
        "baselines.lexicon": "words.tsv",
    }
    said = finding.said.removesuffix(". Correct monoglot.yaml.").split("; ")
    assert sorted(said) == sorted(
        f"{field}: {folder / name} is not there or cannot be read" for field, name in gone.items()
    )
