"""A flow run's claim on its store: the writer lock, and a name by which a killed run is known.

A process that is killed cannot tell the Prefect server, where its flow run stays `Running` for ever
and holds a slot of its deployment. Heartbeats would tell after minutes, and only a server whose
automation watches for them. The kernel tells at once: who gets the writer lock knows that the run
which had it is dead. So each run leaves its id in the store while it holds the lock, and the next
one sets a run that is still named there to `Crashed`. Nothing of another store is ever touched.
"""

import contextlib
import json
from collections.abc import Iterator
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Crashed

from monoglot.store import Store

_NAME = "running.json"


@contextlib.contextmanager
def claim(store: Store) -> Iterator[None]:
    """Hold the store's writer lock for this flow run; first close the run that died holding it.

    Raises:
        StoreBusyError: another run holds it.
        StoreError: the store cannot be written.
    """
    with store.writer():
        left = store.files.read(_NAME)
        if left is not None:
            _close(left)
        with store.explained():
            store.files.write(_NAME, json.dumps({"flow_run": flow_run.id}))
        try:
            yield
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
