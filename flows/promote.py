"""A person approves: the candidate, or a kept release, goes into production."""

from prefect import flow

from monoglot.serving.approval import Approval
from monoglot.store import Store
from tasks.artifacts import show_release
from tasks.release import tell_in_production
from tasks.request import PromoteRequest


@flow(name="promote", flow_run_name="promote {request.title}, {request.target}")
def promote(request: PromoteRequest) -> str:
    """Check the candidate that awaits approval, or a kept release, and make it current.

    Refused where the candidate was decided on grounds that are no more.

    Returns:
        The id of the release that is in production now.
    """
    config, _ = request.read()
    store = Store.existing(config.store)
    now = Approval(store).promote(request.release or None)
    tell_in_production(now)
    show_release(store, now)
    return now.id
