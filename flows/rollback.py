"""An older release answers again."""

from prefect import flow

from monoglot.serving.releases import Releases
from monoglot.store import Store
from tasks.artifacts import show_release
from tasks.release import tell_in_production
from tasks.request import RollbackRequest


@flow(name="rollback", flow_run_name="rollback {request.title} to {request.target}")
def rollback(request: RollbackRequest) -> str:
    """Put a kept release back into production; it stays until something changes.

    Nothing is built and no run is waited for: only the pointer moves.

    Returns:
        The id of the release that is in production now.
    """
    config, _ = request.read()
    store = Store.existing(config.store)
    now = Releases(store).rollback(request.release or None)
    tell_in_production(now)
    show_release(store, now)
    return now.id
