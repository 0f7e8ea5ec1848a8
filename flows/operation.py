"""What `monoglot doctor` sees of a store in operation: the server, its worker, the last check."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from flows.server import trouble_at
from monoglot.config import Config
from monoglot.errors import MonoglotError
from monoglot.health import Health, hours_since
from monoglot.notices import Notice, tell
from monoglot.settings import Settings
from monoglot.store import Store

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TAG = "monoglot"  # of every deployment in deployments/prefect.yaml
_LAST_CHECK = "last check"


class Finding(NamedTuple):
    """One thing looked at: how it is, and what to do where it is not well."""

    what: str
    state: Literal["ok", "warning", "problem"]
    said: str


def prefect_server(_config: Config, _settings: Settings) -> Finding:
    """Whether the server that is set answers."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Finding("Prefect", "ok", "a temporary server is started for each command")
    trouble = trouble_at(url)
    if trouble is None:
        return Finding("Prefect", "ok", f"{url} answers")
    return Finding(
        "Prefect",
        "problem",
        f"PREFECT_API_URL={url} does not answer ({trouble}). Start it, or unset the variable to "
        "use a temporary server.",
    )


def worker(_config: Config, _settings: Settings) -> Finding:
    """Whether someone is there to run what the deployments of this project schedule."""
    url = os.environ.get("PREFECT_API_URL")
    if not url or trouble_at(url) is not None:
        return Finding("worker", "ok", "not looked for: no Prefect server that answers is set")
    try:
        pools = _pools()
    except Exception as error:  # whatever Prefect's client says of an old or closed server
        return Finding("worker", "problem", f"{url} tells nothing ({error}). Check its log.")
    if not pools:
        return Finding(
            "worker",
            "warning",
            f"{url} has no deployment of Monoglot: nothing is scheduled. From the checkout: "
            "`prefect --no-prompt deploy --prefect-file deployments/prefect.yaml --all`.",
        )
    idle = sorted(pool for pool, is_served in pools.items() if not is_served)
    if idle:
        return Finding(
            "worker",
            "problem",
            f"work pool {', '.join(idle)} has no live worker, or is paused: what is scheduled "
            f"waits. Start one: `prefect worker start --pool {idle[0]}`.",
        )
    return Finding("worker", "ok", f"a worker is there for {', '.join(sorted(pools))}")


def last_check(config: Config, settings: Settings) -> Finding:
    """Whether a run or a check has ended well lately.

    None ever is no better than none lately: a volume that is not mounted looks like a new store.
    """
    try:
        store = Store.if_any(config.store)
        when = None if store is None else Health(store).last_good()
    except MonoglotError as error:
        return Finding(_LAST_CHECK, "problem", str(error))
    if store is None:
        return Finding(
            _LAST_CHECK,
            "warning",
            f"none: there is no store at {config.store}. The first `monoglot run` makes it; if "
            "there was one, see that its volume is mounted and that `store:` names it.",
        )
    if when is None:
        return Finding(
            _LAST_CHECK,
            "warning",
            f"none yet: no run or check of {config.store} has ever ended well. `monoglot run` "
            "makes the first release; if a run was scheduled, see what Prefect says of it.",
        )
    hours = hours_since(when)
    said = f"{when:%Y-%m-%d %H:%M} UTC, {hours:,.1f} hours ago"
    if hours <= settings.stale_hours:
        return Finding(_LAST_CHECK, "ok", said)
    return Finding(
        _LAST_CHECK,
        "warning",
        f"{said}: no run or check ended well for longer than MONOGLOT_STALE_HOURS "
        f"({settings.stale_hours:g}). See that server and worker run, and what Prefect says of the "
        "last runs (one that hangs lets checks end as `Busy`); `monoglot run` checks now.",
    )


def tell_findings(config: Config, settings: Settings, found: Sequence[Finding]) -> Iterator[str]:
    """Tell the webhook of problems and of staleness; a line on each."""
    try:
        store = Store.if_any(config.store)
    except MonoglotError:
        store = None
    for finding in found:
        is_stale = finding.what == _LAST_CHECK and finding.state == "warning"
        if finding.state != "problem" and not is_stale:
            continue
        what = "no check ended well lately" if is_stale else f"{finding.what} is not well"
        # The reason has what to do in it; the hours in it would make it news each time.
        stale = "Nothing seems to run any more, a run hangs, or the store is not where it was."
        why = stale if is_stale else finding.said
        notice = Notice("stale" if is_stale else "unwell", what, config.store, why, finding.said)
        yield f"{what}: {tell(settings, notice, store)}"


def _pools() -> dict[str, bool]:
    """The work pools of this project's deployments, and whether each has a live worker."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    with get_client(sync_client=True) as client:
        deployments = client.read_deployments(deployment_filter=ours)
        names = {it.work_pool_name for it in deployments if it.work_pool_name}
        return {name: is_served(client, name) for name in names}


def is_served(client: "SyncPrefectClient", pool: str) -> bool:
    """Whether someone takes the runs of a work pool.

    The server says so of a pool that is not paused and has a live worker, or needs none.
    """
    from prefect.client.schemas.objects import WorkPoolStatus

    return client.read_work_pool(pool).status == WorkPoolStatus.READY
