"""Flow runs whose worker was killed together with their process: nobody told the server.

    python -m deployments.dead_runs POOL

Such a run stays `Running` and holds its deployment's slot until a lease ends, for whose five
minutes Prefect's flow engine has no setting; the runs after it wait so long. Where server and
workers are on this machine, and no worker is alive, the kernel says at once which runs are dead.
That is so of a server on loopback with a SQLite database. One on PostgreSQL may hold the runs of
other machines' servers as well, and nothing in them tells where they run: they are left alone.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL
from prefect.states import Cancelled, Crashed

_PROC = Path("/proc")
_AT_WORK = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def close_dead_runs(pool: str) -> Iterator[str]:
    """End the pool's runs that have no living process, which frees their slots.

    Call it while no worker of the pool lives, and of a server on loopback, with its settings. A run
    whose worker alone was killed goes on, and is left alone.

    Args:
        pool: name of the work pool.

    Yields:
        A line for each such run, with its state as it is now.
    """
    if not _has_own_database():
        return
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_AT_WORK))
            ),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
        for run in found:
            if not _is_alive(run):
                yield f"run {run.name} is {_close(client, run)}: it was killed, and its worker, too"


def _has_own_database() -> bool:
    """Whether no other machine's server can have written the runs there are."""
    url = PREFECT_SERVER_DATABASE_CONNECTION_URL.value()  # also where it was given in parts
    return str(url).startswith("sqlite")


def _close(client: SyncPrefectClient, run: FlowRun) -> str:
    """The name of the state that the server left the run in."""
    why = "its process was killed, and its worker with it: neither could tell the server"
    is_cancelled = run.state is not None and run.state.is_cancelling()
    end: State[object] = (Cancelled if is_cancelled else Crashed)(message=why)
    state = client.set_flow_run_state(run.id, end).state or run.state
    return "unknown" if state is None else str(state.name)


def _is_alive(run: FlowRun) -> bool:
    """Whether a process of this machine works on the run, as far as can be told."""
    if not _PROC.is_dir():  # no Linux: a process that has the number is believed to be the run's
        return _exists(run.infrastructure_pid)
    mark = f"PREFECT__FLOW_RUN_ID={run.id}".encode()
    for path in _PROC.glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                return True
        except PermissionError:  # another user's
            if path.parent.name == run.infrastructure_pid:
                return True
        except OSError:  # it has ended meanwhile
            continue
    return False


def _exists(process: str | None) -> bool:
    try:
        os.kill(int(process or ""), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    for line in close_dead_runs(sys.argv[1]):
        sys.stdout.write(f"{line}\n")
