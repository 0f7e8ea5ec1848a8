"""A flow run's claim on its store: the writer lock, and a name by which a killed run is known.

A process that is killed cannot tell the Prefect server, where its flow run stays `Running` for ever
and holds a slot of its deployment. Heartbeats would tell after minutes, and only a server whose
automation watches for them. The kernel tells at once: who gets the writer lock knows that the run
which had it is dead. So each run leaves its id in the store while it holds the lock, and the next
one sets a run that is still named there to `Crashed`. Nothing of another store is ever touched.

The lock is also the queue of a store. Deployments have limits of their own, so that the nightly
training and the check of the same minute start together: the second waits here. A concurrency limit
of the server would do that too, and leak its slot when its holder is killed.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Crashed

from monoglot.errors import StoreBusyError
from monoglot.store import Store

_NAME = "running.json"
_SECONDS_BETWEEN_TRIES = 2.0


@contextlib.contextmanager
def in_turn(store: Store) -> Iterator[bool]:
    """Hold the store's writer lock; a deployment's run waits for it, as long as it takes.

    Whoever starts a flow at a terminal, or from another flow, is told at once and can decide.

    Yields:
        Whether it waited: what was read before may be old by now.

    Raises:
        StoreBusyError: another run holds it, and this one was not started by a deployment.
        StoreError: the store cannot be written.
    """
    waited = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(store.writer())
                break
            except StoreBusyError as busy:
                if not _is_a_deployments():
                    raise
                if not waited:
                    get_run_logger().info(f"waiting for its turn: {busy}", extra={"shown": True})
                waited = True
                time.sleep(_SECONDS_BETWEEN_TRIES)
        yield waited


def _is_a_deployments() -> bool:
    """Whether a deployment started this very run: `prefect.runtime` says so of its subflows too."""
    run = FlowRunContext.get()
    return run is not None and run.flow_run is not None and run.flow_run.deployment_id is not None


@contextlib.contextmanager
def claim(store: Store) -> Iterator[bool]:
    """`in_turn` for this flow run; first close the run that died holding the lock.

    Raises:
        StoreBusyError, StoreError: as `in_turn`.
    """
    with in_turn(store) as waited:
        left = store.files.read(_NAME)
        if left is not None:
            _close(left)
        with store.explained():
            store.files.write(_NAME, json.dumps({"flow_run": flow_run.id}))
        try:
            yield waited
        finally:
            store.files.remove(_NAME)


def _close(left: str) -> None:
    """Set a flow run that no longer lives to `Crashed`; a server that does not know it is fine."""
    logger = get_run_logger()
    try:
        dead = UUID(json.loads(left)["flow_run"])
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(dead)
            if found.state is None or found.state.is_final():
                return
            why = "its process was killed: another run holds the store's writer lock now"
            client.set_flow_run_state(dead, Crashed(message=why))
            logger.warning(f"flow run {found.name} was closed: {why}", extra={"shown": True})
    except ObjectNotFound:  # it ran against another server
        return
    except Exception as error:  # a record that cannot be mended is no reason not to run
        logger.warning(f"the run that was killed before this one could not be closed: {error}")
