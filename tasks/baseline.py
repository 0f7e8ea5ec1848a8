"""TF-IDF on the same rows and questions: what needs no model."""

from monoglot.learning.baselines import tfidf
from monoglot.store import Artifact
from tasks.caching import stage
from tasks.workplace import Job


@stage("tfidf", title="evaluate TF-IDF")
def evaluate_tfidf(job: Job, questions: Artifact, knowledge_base: Artifact) -> None:
    """`contracts.Outcomes` of TF-IDF."""
    job.write(tfidf(job.table(questions), job.table(knowledge_base)))
