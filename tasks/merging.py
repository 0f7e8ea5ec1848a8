"""The candidate: the fine-tuned model, merged with the base it came from."""

from monoglot.learning.encoder import Encoder
from monoglot.learning.merging import merge
from monoglot.learning.models import model_digest
from monoglot.learning_config import MergingConfig
from monoglot.serving.releases import MODEL_FOLDER
from tasks.caching import stage
from tasks.models import ModelRef, locate
from tasks.workplace import Job


@stage("merging", title="merge with the base")
def merge_with_base(job: Job, *, trained: ModelRef, base: ModelRef, config: MergingConfig) -> None:
    """The merged model. A stage of its own, so that another weight trains nothing again."""
    tuned = Encoder.load(locate(job.store, trained), device=job.settings.device)
    merge(tuned, Encoder.load(locate(job.store, base)), config.base_weight)
    folder = job.draft.folder / MODEL_FOLDER
    tuned.save(folder)
    job.draft.rows = trained.artifact.rows if trained.artifact else 0
    job.draft.digest = model_digest(str(folder))
