"""Hooks of the flows: what ended well is noted, what did not is told (`monoglot.notices`).

A flow that another one calls tells nothing: its caller does, once. A cancelled run is no news:
whoever cancelled it knows. Of a process that was killed the worker tells, in its own folder, where
a relative config file may not be found: then the notice names the run instead of the store.
"""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from monoglot.errors import BudgetError, InputError, MonoglotError
from monoglot.health import Health
from monoglot.learning_config import Verdict
from monoglot.notices import Event, Notice, tell
from monoglot.runs import RunRecord
from monoglot.settings import Settings, read_settings
from monoglot.store import Store
from tasks.request import RunRequest

AnyFlow = Flow[..., Any]
BUSY = "Busy"  # the state of a check that ended since another run held the store's lock
_STAYS = "The model in production stays and answers from the new rows"
# What becomes of a candidate -> what a person should know of it: kind, what happened, what to do.
_VERDICTS: dict[Verdict, tuple[Event, str, str]] = {
    "rejected": (
        "rejected",
        "the gate rejected the new model of",
        f"{_STAYS}; more or better training data, or another `gate:`, changes the verdict.",
    ),
    "awaits approval": (
        "awaits_approval",
        "a person is to approve the new model of",
        f"{_STAYS} until `monoglot promote`, or the deployment `promote`, is run.",
    ),
}


def note_success(flow: AnyFlow, run: FlowRun, state: State[Any]) -> None:
    """The store's last good check is now; a candidate that was rejected, or waits, is news.

    A check that found the store busy has seen nothing: were it good, a run that hangs with the
    lock would stay unnoticed for as long as the checks go on.
    """
    title, settings, store = _about(run)
    if store is None or state.name == BUSY:
        return
    Health(store).note_good()
    record = state.result(raise_on_failure=False) if flow.name == "retrain" else None
    if isinstance(record, RunRecord) and record.verdict in _VERDICTS and _is_of(record, run):
        event, happened, to_do = _VERDICTS[record.verdict]
        notice = Notice(
            event,
            f"{happened} {title}",
            store.location,
            " ".join(record.reasons),
            f"read {store.files.told(record.report)}. {to_do}",
            run.name,
        )
        _tell(run, settings, notice, store)


def tell_failure(flow: AnyFlow, run: FlowRun, state: State[Any]) -> None:
    """A run failed, or its process was killed."""
    if run.parent_task_run_id is not None:
        return
    title, settings, store = _about(run)
    error = state.result(raise_on_failure=False) if state.is_failed() else None
    why = str(error) if isinstance(error, MonoglotError) else state.message or state.name or ""
    named = flow.name.replace("-", " ")
    notice = Notice(
        "spending_stop" if isinstance(error, BudgetError) else "failed",
        f"{named} of {title} {_happened(error, state)}",
        title if store is None else store.location,
        why,
        _to_do(error),
        run.name,
    )
    _tell(run, settings, notice, store)


# What every flow that changes a store's release is decorated with.
TOLD: dict[str, Any] = {
    "on_completion": [note_success],
    "on_failure": [tell_failure],
    "on_crashed": [tell_failure],
}


def _about(run: FlowRun) -> tuple[str, Settings, Store | None]:
    """What the run is about: a title, this process's settings, and the store if it is there."""
    asked = run.parameters.get("request", {})
    known = {name: asked[name] for name in RunRequest.model_fields if name in dict(asked)}
    try:
        request = RunRequest.model_validate(known)
        config, settings = request.read()
        return request.title, settings, Store.if_any(config.store)
    except (MonoglotError, ValueError):
        return run.name, read_settings(), None


def _is_of(record: RunRecord, run: FlowRun) -> bool:
    """Whether the run made the record: one that found nothing to do returns an older one."""
    return run.start_time is not None and record.finished >= f"{run.start_time:%Y-%m-%dT%H:%M:%SZ}"


def _happened(error: object, state: State[Any]) -> str:
    if isinstance(error, BudgetError):
        return "stopped at the spending limit"
    return "crashed" if state.is_crashed() else "failed"


def _to_do(error: object) -> str:
    if isinstance(error, BudgetError):
        return (
            "what was bought is kept. Raise spending.max_usd or spending.max_requests and run "
            "again, or leave the model as it is: it goes on answering."
        )
    if isinstance(error, InputError):
        return "mend what it names; the next check or `monoglot run` takes it up."
    return (
        "the release in production goes on answering. Look at the run's log in Prefect, and at "
        "`monoglot doctor`; finished stages are reused when it runs again."
    )


def _tell(run: FlowRun, settings: Settings, notice: Notice, store: Store | None) -> None:
    logger, said = flow_run_logger(run), tell(settings, notice, store)
    (logger.warning if "could not" in said else logger.info)(f"{notice.what}: {said}")
