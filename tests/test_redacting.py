"""A query log that knows the store alone hides what the user's config hides."""

import os

import pytest
from test_query_log import ask, texts_in
from tiny_line import configure, request_of, store_of

from flows.retrain import retrain
from monoglot import QueryLog
from monoglot.errors import StoreError
from monoglot.feedback.redacting import keep_redaction
from monoglot.generation_config import RedactionConfig
from monoglot.remote.place import local_part
from monoglot.runs import Runs
from monoglot.store import Store

OWN = RedactionConfig(patterns={"employee": r"EMP-\d{6}"}, phone_regions=("CH",))
AS_ASKED, HIDDEN = "EMP-123456, 044 668 18 00", "{{employee_1}}, {{phone_1}}"


def logged(location):
    """What a log with no redaction of its own writes of a text that only `OWN` redacts."""
    log = QueryLog(location)
    ask(log, AS_ASKED)
    assert log.flush()
    return texts_in(local_part(str(location)) / "queries")[-1]


def test_a_log_hides_what_the_last_run_was_told_to_hide(tmp_path):
    assert logged(tmp_path) == AS_ASKED  # no store yet
    store = Store.open(str(tmp_path))
    assert logged(tmp_path) == AS_ASKED  # no run yet
    keep_redaction(store, OWN)
    assert logged(tmp_path) == HIDDEN
    keep_redaction(store, RedactionConfig())
    assert logged(tmp_path) == AS_ASKED


def test_a_log_on_another_machine_hides_the_same(machine):
    location = f"s3://shop/log-{os.getpid()}"
    keep_redaction(Store.open(location), OWN)
    machine("b")
    assert logged(location) == HIDDEN


@pytest.mark.parametrize("text", ["{", '{"patterns": {"employee": "("}}', '{"later": 1}'])
def test_what_is_to_be_hidden_and_cannot_be_read_is_refused(tmp_path, text):
    store = Store.open(str(tmp_path))
    store.files.write("redaction.json", text)
    with pytest.raises(StoreError, match=r"redaction\.json: .* `monoglot run`"):
        QueryLog(tmp_path)
    QueryLog(tmp_path, redaction=OWN)
    keep_redaction(store, OWN)
    QueryLog(tmp_path)


@pytest.mark.usefixtures("prefect_api")
def test_a_run_that_finds_nothing_to_do_keeps_its_redaction_all_the_same(line):
    """Patterns for users' queries change no stage of this line, and the log needs them."""
    before = Runs(store_of(line)).last()
    configure(line, redaction=OWN.model_dump(mode="json"))
    assert retrain(request_of(line)) == before
    assert logged(line / "store") == HIDDEN
