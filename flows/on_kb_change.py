"""The knowledge base may have changed: do nothing, refresh the index, or retrain.

Started by an event, by a schedule, or by hand. The event is a hint, of which nothing is read: what
is there now decides. So a lost event costs the time until the next scheduled check, of fifty edits
the first run takes in all and the others find nothing to do, and an edit made while a run reads or
trains is seen by the next one.
"""

import contextlib
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.fine_tune import NoWorkerError
from flows.refresh_index import refresh_index
from flows.retrain import retrain
from monoglot.config import Config
from monoglot.due import Due, due_now
from monoglot.errors import EndpointError, StoreBusyError, StoreError
from monoglot.health import Health
from monoglot.settings import Settings
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.decision import explain
from tasks.notices import BUSY, TOLD
from tasks.request import RunRequest
from tasks.versions import versions


@flow(name="on-kb-change", flow_run_name="check {request.title}", **TOLD)
def on_kb_change(request: RunRequest) -> Due | State[Due]:
    """Decide by the config's `policy`, say why, and do it in this process.

    Before a training the index is refreshed: the new rows answer within seconds, with the model
    there is, and whatever the training comes to.

    Returns:
        What was decided. The run's state is named `Nothing` or `Busy` where nothing was done.
    """
    config, settings = request.read_fetched()
    due = due_now(config, settings, Store.if_any(config.store))
    if due.work.kind == "nothing":
        explain(due, request.title, None)
        return _ended("Nothing", due.work.reasons[0], due)
    store = Store.open(config.store)
    explain(due, request.title, store)
    try:
        with store.writer():
            pass  # to find out, before a flow fails of it, whether another run writes
        if due.has_release:
            refresh_index(request)
        if due.work.kind == "retrain":
            _train(request, config, settings, store)
    except StoreBusyError as busy:
        return _ended(BUSY, f"{busy} The next check takes up the change.", due)
    return due


def _train(request: RunRequest, config: Config, settings: Settings, store: Store) -> None:
    """Retrain, unless that has failed today on the same inputs, for which it may have paid."""
    inputs, health = Inputs.of(config, settings, versions()), Health(store)
    if health.has_failed(inputs.key) and not request.force:
        get_run_logger().warning(
            "training failed on the same files, config and code within a day and is not tried "
            "again by a check; the scheduled retrain does, and `monoglot run`",
            extra={"shown": True},
        )
        return
    try:
        retrain(request)
    except (EndpointError, NoWorkerError, StoreBusyError):
        raise  # passes by itself, and costs nothing to find out
    except Exception:
        with contextlib.suppress(StoreError):
            health.note_failed(inputs.key)
        raise


def _ended(name: str, message: str, due: Due) -> State[Any]:
    get_run_logger().info(message)
    return Completed(data=due, name=name, message=message)
