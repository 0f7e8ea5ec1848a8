"""`stage`: makes a function a Prefect task whose result is looked up before it is computed.

The artifact store is the one cache and the truth; Prefect's own cache stays off, since it hashes
neither frames nor files stably and knows nothing of a damaged file. A stage's key is its name, its
version and a digest of its arguments: an artifact counts with its content, a file with its bytes,
a config with its fields. What is found and whole is returned in a Prefect state named `Cached`, so
that the UI shows what was reused; what is gone or damaged is computed again, and so is what lacks
rows that an LLM gave no reply to, since it may be well by now.

A task that returns a state hands its caller the state, not the data. The decorated function hides
that: a flow calls it like a function and gets the artifact, or the exception. A stage whose LLM
answers by batch has not failed: it ends in a state named `Waiting`, and the flow gets a
`BatchPendingError`.
"""

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from monoglot.errors import BatchPendingError, DataError, StoreError
from monoglot.identity import identity_of
from monoglot.outstanding import Outstanding
from monoglot.runs import StageRecord
from monoglot.store import Artifact, Draft, Key, Store
from tasks.versions import STAGES
from tasks.workplace import Job, Workplace

P = ParamSpec("P")
W = TypeVar("W", bound=Callable[..., Any])
Whole = Callable[[Store, Artifact], bool]


def stage(
    name: str,
    *,
    title: str = "",
    whole: Whole | None = None,
    **options: Any,
) -> Callable[[Callable[Concatenate[Job, P], None]], Callable[Concatenate[Workplace, P], Artifact]]:
    """Make a function that fills a job's draft a cached Prefect task.

    Args:
        name: the stage's name in `tasks.versions.STAGES`, which holds its version.
        title: name of the task run, with arguments in braces: `translate {language.code}`. Empty:
            the stage's name.
        whole: a further look at a found artifact, where it stands for something kept outside it
            (an index table); False has it computed again.
        options: of `prefect.task`: retries, tags, timeout_seconds.

    Returns:
        A decorator. The decorated function takes a `Workplace` where the function takes its `Job`,
        and returns the artifact. All other arguments bear identity.
    """

    def decorate(
        function: Callable[Concatenate[Job, P], None],
    ) -> Callable[Concatenate[Workplace, P], Artifact]:
        signature = inspect.signature(function)

        def run(place: Workplace, /, *args: P.args, **kwargs: P.kwargs) -> State[Any]:
            try:
                return run_now(place, *args, **kwargs)
            except BatchPendingError as pending:
                return waiting(pending)

        def run_now(place: Workplace, /, *args: P.args, **kwargs: P.kwargs) -> State[StageRecord]:
            arguments = _arguments(signature, args, kwargs)
            heading = (title or name).format(**arguments)
            key = _key(name, arguments)
            started = time.monotonic()
            found = _find(place.store, key, whole)
            if found is None:
                with place.store.writing(key) as draft:
                    function(_job(place, key, draft, heading), *args, **kwargs)
                    if _key(name, arguments) != key:
                        raise DataError(
                            f"{heading}: an input file changed while it was read. Run again."
                        )
                place.store.discard_scratch(key)
            artifact = found or place.store.find(key)
            if artifact is None:
                raise StoreError(
                    f"{place.store.location}: what {heading} wrote is gone or damaged already. "
                    "Check the disk, and that nothing else cleans up in this folder."
                )
            record = _record(heading, key, artifact, found is not None, started)
            _log(record)
            return Completed(
                data=record, name="Cached" if found else "Completed", message=record.line()
            )

        prefect_task = task(name=name, cache_policy=NO_CACHE, **options)(_like(function, run))

        def call(place: Workplace, /, *args: P.args, **kwargs: P.kwargs) -> Artifact:
            heading = (title or name).format(**_arguments(signature, args, kwargs))
            # Prefect formats the name once more; a file's name may have braces.
            literal = heading.replace("{", "{{").replace("}", "}}")
            named = prefect_task.with_options(task_run_name=literal)
            # Without the journal, in which Prefect would see every earlier stage as an input.
            alone = dataclasses.replace(place, journal=[])
            state: Any = named(alone, *args, **kwargs, return_state=True)
            record: StageRecord | Outstanding = state.result()
            if isinstance(record, Outstanding):
                raise BatchPendingError(record)
            place.journal.append(record)
            return record.artifact

        return _like(function, call)

    return decorate


def waiting(pending: BatchPendingError) -> State[Outstanding]:
    """The state of what ends here and goes on in a later run, when batches have come back."""
    get_run_logger().info(f"waiting: {pending}")
    return Completed(data=pending.out, name="Waiting", message=str(pending))


def _like(function: Callable[..., Any], wrapper: W) -> W:
    """The wrapper under the function's name, text and signature, for the UI and for readers."""
    functools.update_wrapper(wrapper, function)
    return wrapper


def _arguments(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """A call's arguments by name, defaults filled in, without the job."""
    bound = signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def _key(name: str, arguments: dict[str, Any]) -> Key:
    bearing = {parameter: identity_of(value) for parameter, value in arguments.items()}
    return Key.of(name, STAGES[name].version, inputs={}, config=bearing)


def _find(store: Store, key: Key, whole: Whole | None) -> Artifact | None:
    """What was made of the same, if it is whole, and an LLM's if it left nothing to be asked."""
    found = store.find(key)
    if found is None or found.unanswered:
        return None
    return found if whole is None or whole(store, found) else None


def _job(place: Workplace, key: Key, draft: Draft, heading: str) -> Job:
    return Job(
        store=place.store,
        settings=place.settings,
        key=key,
        draft=draft,
        on_progress=place.progress(heading),
        budget=place.budget,
        watcher=place.watcher,
    )


def _log(record: StageRecord) -> None:
    """One line on the stage, and its warnings, whether they are new or reused."""
    logger = get_run_logger()
    logger.info(record.line(), extra={"stage": record})
    for warning in record.artifact.facts.get("warnings", ()):
        logger.warning(warning, extra={"shown": True})


def _record(
    heading: str, key: Key, artifact: Artifact, reused: bool, started: float
) -> StageRecord:
    return StageRecord(
        title=heading,
        key=key,
        outcome="reused" if reused else "done",
        reason=f"same inputs, config and code: {key}" if reused else f"new: {key}",
        rows=artifact.rows,
        seconds=round(time.monotonic() - started, 3),
        artifact=artifact,
    )
