"""The index of one model: every row of the knowledge base, encoded once."""

from monoglot.errors import MonoglotError
from monoglot.identity import digest
from monoglot.serving import syncing
from monoglot.serving.index import Index
from monoglot.serving.vectors import Vectors
from monoglot.store import Artifact, Store
from tasks import cluster
from tasks.caching import stage
from tasks.cluster import encode_by
from tasks.models import ModelRef, load_encoder
from tasks.workplace import Job


def _is_there(store: Store, artifact: Artifact) -> bool:
    """Whether the table's version still exists and holds what it held."""
    try:
        index = Index.at(store.index_uri, artifact.facts["table"], artifact.facts["version"])
        return index.content == artifact.facts["content"] and len(index) == artifact.rows
    except MonoglotError:
        return False


def vectors_of(store: Store, index: Artifact) -> Vectors:
    """All vectors of the version that an artifact of `build_index` names."""
    return Index.at(store.index_uri, index.facts["table"], index.facts["version"]).vectors()


@stage("index", title="index {model.title}", whole=_is_there, tags=["gpu"])
def build_index(job: Job, knowledge_base: Artifact, model: ModelRef) -> None:
    """A version of the model's table with exactly these rows; only new texts are encoded.

    The rows live in LanceDB; the artifact names table and version. Built before the evaluation,
    which uses the same vectors: what is measured is what will answer.
    """
    encoder = load_encoder(job, model)
    index = Index.of_model(job.store.index_uri, model.digest, encoder.dimensions)
    done = index.sync(
        job.table(knowledge_base),
        encode_by(job, model),
        on_progress=job.on_progress,
        chunk=cluster.CHUNK if job.settings.cluster else syncing.CHUNK,
    )
    job.draft.rows = done.rows
    # The temperature depends on the edits before, too, and changes what a search ranks first.
    seen = {"content": done.content, "temperature": index.temperature}
    job.draft.digest = digest({"model": model.digest, **seen})
    job.draft.facts = {
        "table": done.table,
        "version": done.version,
        "content": done.content,
        "added": done.added,
        "updated": done.updated,
        "removed": done.removed,
        "encoded": done.encoded,
        "recall": done.recall,
        "temperature": index.temperature,
    }
