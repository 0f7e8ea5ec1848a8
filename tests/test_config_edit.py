"""Settings written into a user's file, of whose other text not a letter changes."""

from pathlib import Path

import pytest
import yaml

from flows.starter import starter_text
from monoglot.config_edit import MARK, edit_config, edited
from monoglot.config_file import load_config
from monoglot.errors import ConfigError

CHANGES = {
    "fine_tuning": {"learning_rate": 5e-05, "batch_size": 64, "objective": "explicit"},
    "sampling": {"strategy": "random"},
}
SETTINGS = {
    "fine_tuning": {"learning_rate": 5e-05, "batch_size": 64, "objective": "explicit"},
    "sampling": {"strategy": "random"},
}
FILE = Path("monoglot.yaml")
TEXTS = {
    "block": "# mine\nfine_tuning:   # how\n    batch_size: 32  # small\n    epochs: 3\nstore: x\n",
    "flow": "store: x\nfine_tuning: {batch_size: 32, epochs: 3} # how\nsampling: {}\n",
    "none": "store: x   # the place\n",
    "comments": "store: x\nfine_tuning:\n  # epochs: 3\nsampling: null  # later\n",
    "empty value": "store: x\nfine_tuning:\n  learning_rate:\n  batch_size: 1\n",
    "windows": "store: x\r\nfine_tuning:\r\n  batch_size: 32\r\n",
    "no last line end": "store: x",
    "quoted": "store: \"x\"\n'fine_tuning':\n  \"objective\": 'both'\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_only_the_settings_change(text):
    new = edited(text, CHANGES, "because", FILE)
    before, after = yaml.safe_load(text), yaml.safe_load(new)
    for section, settings in SETTINGS.items():
        assert after[section] == {**(before.get(section) or {}), **settings}
    assert after["store"] == "x"
    for line in text.splitlines():
        comment = line.partition("#")[2]
        assert comment in new
    assert new.count(f"{MARK}because") == 1
    assert ("\r\n" in text) == ("\r\n" in new)
    assert "\n" not in new.replace("\r\n", "") or "\r\n" not in text


def test_the_comment_of_an_earlier_tuning_gives_way():
    once = edited(TEXTS["block"], CHANGES, "because", FILE)
    twice = edited(once, CHANGES, "for another reason", FILE)
    assert twice == once.replace("because", "for another reason")


def test_the_file_of_init_keeps_its_help(tmp_path):
    path = tmp_path / "monoglot.yaml"
    path.write_text(starter_text())
    path.chmod(0o640)
    backup = edit_config(path, CHANGES, "because")
    assert backup.read_text() == starter_text()
    config = load_config(path)
    assert config.fine_tuning.learning_rate == 5e-05
    assert (config.fine_tuning.objective, config.sampling.strategy) == ("explicit", "random")
    old, new = starter_text().splitlines(), path.read_text().splitlines()
    assert len(set(old) - set(new)) == 4
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_layout_that_cannot_be_edited_is_left_alone(tmp_path):
    path = tmp_path / "monoglot.yaml"
    text = "store: x\nanchor: &it {batch_size: 1}\nfine_tuning: *it\n"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"Set by hand: fine_tuning\.learning_rate: 0\.00005"):
        edit_config(path, CHANGES, "because")
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
