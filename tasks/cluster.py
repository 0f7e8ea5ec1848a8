"""Stages in parts on a Dask cluster, where `MONOGLOT_CLUSTER` names one: encoding and mining.

Each part is a Prefect task, run by `prefect-dask` on some worker: it is seen in the UI, and Dask
gives it to another worker where its own is killed. The pieces are those in which one machine
works, so that the same numbers come out. The requests to an LLM go to the same workers by another
way, request by request: see `monoglot.generation.senders`.
"""

import contextvars
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from monoglot.cluster import PATIENCE_S, explained
from monoglot.errors import ConfigError, RunError
from monoglot.identity import digest
from monoglot.learning.encoder import PIECE, Vectors
from monoglot.learning.mining import Mined, Rank, Search, Space, search_here
from monoglot.store import Store
from tasks import parts
from tasks.models import ModelRef, load_encoder, locate
from tasks.versions import versions
from tasks.workplace import Job, Workplace

if TYPE_CHECKING:
    from monoglot.learning.encoder import Encoder

CHUNK = 16 * PIECE  # texts that an index writes at a time: a piece each for so many workers
ANCHORS = 4096  # searched for in a part, a multiple of the blocks of one machine
_WORKER_S = 60.0


@task(name="encode part", task_run_name="encode {name}", cache_policy=NO_CACHE)
def encode_part(folder: Path, name: str, place: str, digest: str, batch: int) -> None:
    """Encode some texts on a worker."""
    parts.encode_texts(folder, name, place=place, digest=digest, batch=batch)


@task(name="mine part", task_run_name="mine {name}", cache_policy=NO_CACHE)
def mine_part(folder: Path, name: str, keep: int, rank: Rank) -> None:
    """Search the rows for some anchors on a worker."""
    parts.search_rows(folder, name, keep=keep, rank=rank)


def encode_by(job: Job, model: ModelRef) -> Callable[[Sequence[str]], Vectors]:
    """Texts to vectors (n, d) by a model: here, or on the cluster where there are many texts."""
    here = load_encoder(job, model)
    if not job.settings.cluster:
        return lambda texts: here.encode(texts, batch_size=job.settings.encode_batch)
    return lambda texts: _encode_far(job, model, here, texts)


def search_of(job: Job) -> Search | None:
    """Who searches rows for anchors; None: this process does."""
    if not job.settings.cluster:
        return None
    return lambda space, keep, rank: _search_far(job, space, keep, rank)


def _encode_far(job: Job, model: ModelRef, here: "Encoder", texts: Sequence[str]) -> Vectors:
    """The pieces that `Encoder.encode` would take one after the other, side by side."""
    batch = job.settings.encode_batch
    distinct = sorted(dict.fromkeys(texts), key=len)
    if len(distinct) <= PIECE:
        return here.encode(texts, batch_size=batch)
    folder = _folder(job)
    same = {"place": _place(job.store, model), "digest": model.digest, "batch": batch}
    calls: list[dict[str, Any]] = []
    for at in range(0, len(distinct), PIECE):
        piece = distinct[at : at + PIECE]
        name = digest({"model": model.digest, "texts": piece})[:20]
        parts.write_texts(folder, name, piece)
        calls.append({"folder": folder, "name": name, **same})
    _spread(job, encode_part, calls)
    vectors = np.concatenate([parts.read_vectors(folder, call["name"]) for call in calls])
    place = {text: number for number, text in enumerate(distinct)}
    return np.asarray(vectors[[place[text] for text in texts]])


def _search_far(job: Job, space: Space, keep: int, rank: Rank) -> Mined:
    count = len(space.anchors)
    if count <= ANCHORS:
        return search_here(space, keep, rank)
    folder = _folder(job)
    parts.write_space(folder, space)
    calls: list[dict[str, Any]] = []
    for at in range(0, count, ANCHORS):
        some = slice(at, min(at + ANCHORS, count))
        name = f"anchors {some.start}-{some.stop}"
        parts.write_anchors(folder, name, space, some)
        calls.append({"folder": folder, "name": name, "keep": keep, "rank": rank.of(some)})
    _spread(job, mine_part, calls)
    found = [parts.read_found(folder, call["name"]) for call in calls]
    rows = np.concatenate([each.rows for each in found])
    return Mined(rows, np.concatenate([each.scores for each in found]))


def _folder(job: Job) -> Path:
    return job.scratch.resolve()


def _place(store: Store, model: ModelRef) -> str:
    """Where a worker finds the model: a folder by its whole path, a name as it is."""
    place = locate(store, model)
    return place if model.artifact is None else str(Path(place).resolve())


def _spread(job: Job, work: Task[..., None], calls: Sequence[dict[str, Any]]) -> None:
    """Run a task on the cluster for each of some parameters, and wait for all."""

    def submitted() -> None:
        # A worker is sent the context of who submits. That of this stage's own task run has the
        # settings with their secrets in it; the flow run's is what the UI needs.
        TaskRunContext.__var__.set(cast("TaskRunContext", None))
        _run_all(job.settings.cluster, work, calls, job.on_progress)

    contextvars.copy_context().run(submitted)


def _run_all(
    address: str,
    work: Task[..., None],
    calls: Sequence[dict[str, Any]],
    on_progress: Callable[[int, int], None],
) -> None:
    with explained(address):
        from distributed import KilledWorker
        from prefect_dask import DaskTaskRunner

        runner = DaskTaskRunner(address=address, client_kwargs={"timeout": PATIENCE_S})
    with runner:
        with explained(address):
            client = runner.client
        try:
            client.wait_for_workers(1, timeout=_WORKER_S)
            futures = [runner.submit(work, parameters=call) for call in calls]
            for done, future in enumerate(futures, start=1):
                future.result()
                on_progress(done, len(calls))
        except KilledWorker as error:
            raise RunError(
                f"MONOGLOT_CLUSTER={address}: {error}. The workers that had this part died, one "
                "after the other, perhaps for want of memory. What is done is kept: run again."
            ) from error
        except TimeoutError as error:
            raise RunError(
                f"MONOGLOT_CLUSTER={address}: no worker for {_WORKER_S:.0f} s. Start workers "
                f"(`dask worker {address}`) and run again."
            ) from error


def require_cluster(place: Workplace) -> None:
    """Refuse a cluster that cannot do this run's work, before anything is bought.

    A cluster without a worker just now is taken to start some when they are asked for.

    Raises:
        ConfigError: no scheduler answers, or a worker does not see the store or has other code.
    """
    address = place.settings.cluster
    if not address:
        return
    with explained(address):
        from distributed import Client

        client = Client(address, timeout=PATIENCE_S, set_as_default=False)
    probe = place.store.root.resolve() / "tmp" / f"cluster-{uuid.uuid4().hex}"
    with client, place.store.explained():
        probe.touch()
        try:
            found = client.run(parts.look_around, probe, on_error="return")
        finally:
            probe.unlink(missing_ok=True)
    problems = [
        f"{worker}: {problem}" for worker, told in found.items() if (problem := _problem(told))
    ]
    if problems:
        raise ConfigError(f"MONOGLOT_CLUSTER={address}: worker {'; worker '.join(problems)}.")


def _problem(told: tuple[bool, dict[str, int]] | Exception) -> str:
    """What keeps a worker from this run's work; empty: nothing."""
    if isinstance(told, Exception):
        return f"cannot work ({told}). Start it in an environment with this version of Monoglot"
    if not told[0]:
        return "does not see the store. All machines must see it under the same path"
    if told[1] != versions():
        return "has another version of Monoglot. Start it with the one of this run"
    return ""
