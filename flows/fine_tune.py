"""Training on another machine: a flow and deployment of its own, which a run calls and waits for.

Where `MONOGLOT_TRAINING_DEPLOYMENT` names a deployment, such as `fine-tune/gpu`, whose work pool
has a GPU and reaches the same store, the run hands it references to what it prepared. The result is
an artifact of the store as any other: the caller finds it by its key, and a training that was
killed goes on at its last checkpoint, wherever it is called next.
"""

from typing import TYPE_CHECKING, cast

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel, ConfigDict

from flows.operation import is_served
from monoglot.errors import ConfigError, RunError
from monoglot.learning_config import SamplingConfig, TrainingConfig
from monoglot.settings import read_settings
from monoglot.store import Artifact, Store
from tasks.models import ModelRef
from tasks.training import train
from tasks.workplace import Workplace

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun


class NoWorkerError(RunError):
    """Nobody would take the run of a deployment: Prefect would wait for ever."""


class TrainingJob(BaseModel):
    """What `tasks.training.train` takes, as data, and the store that it is about."""

    model_config = ConfigDict(frozen=True)

    store: str
    title: str
    anchors: Artifact
    parts: Artifact
    triplets: Artifact
    base: ModelRef
    config: TrainingConfig
    romanised: tuple[str, ...] = ()
    remining: SamplingConfig | None = None


@flow(name="fine-tune", flow_run_name="fine-tune {job.title}")
def fine_tune_model(job: TrainingJob) -> None:
    """Train one model into a store, for a run that waits for it and holds the store's lock."""
    place = Workplace(Store.existing(job.store), read_settings())
    train_here(place, job)
    place.store.forget_mirrored()  # on this machine nothing else frees what has left the bucket


def train_here(place: Workplace, job: TrainingJob) -> Artifact:
    """The tuned model: trained, or found where it was trained before."""
    return train(
        place,
        anchors=job.anchors,
        parts=job.parts,
        triplets=job.triplets,
        base=job.base,
        config=job.config,
        romanised=job.romanised,
        remining=job.remining,
    )


def train_on(deployment: str, job: TrainingJob) -> None:
    """Have a deployment train, and wait for it.

    Raises:
        NoWorkerError: the worker has gone since the run began, maybe hours ago.
        RunError: it did not complete; with what it said.
    """
    require(deployment)
    asked = run_deployment(deployment, parameters={"job": job.model_dump(mode="json")})
    ran = cast("FlowRun", asked)  # it is a coroutine where an event loop runs, and none does here
    state = ran.state
    if state is None or not state.is_completed():
        raise RunError(
            f"training by {deployment} ended as {state.name if state else 'unknown'}: "
            f"{(state and state.message) or 'nothing was told'}. Its log is in the UI, run "
            f"{ran.name}. Run again: it goes on at its last checkpoint."
        )


def require(deployment: str) -> None:
    """Refuse a deployment that the server has not, or whose runs nobody would take.

    Called before anything is bought: who waits for such a run holds the store's lock meanwhile.

    Raises:
        ConfigError: there is none of this name.
        NoWorkerError: its work pool has no live worker.
    """
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(deployment).work_pool_name
        except (ObjectNotFound, ValueError):
            raise ConfigError(
                f"MONOGLOT_TRAINING_DEPLOYMENT={deployment}: the Prefect server at "
                f"{client.api_url} has no such deployment. Deploy deployments/gpu.yaml there, or "
                "unset the variable to train where the run is."
            ) from None
        if pool and not is_served(client, pool):  # without a pool it is served by a process
            raise NoWorkerError(
                f"MONOGLOT_TRAINING_DEPLOYMENT={deployment}: its work pool {pool} at "
                f"{client.api_url} has no live worker, or is paused. On a machine with a GPU: "
                f"`prefect worker start --pool {pool}`; or unset the variable to train where the "
                "run is."
            )
