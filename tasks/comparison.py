"""What the candidate is compared with: baselines that are always run, and dearer ones on request.

Peers that differ in their negatives alone are trained under an objective that reads negatives, and
merged with the base like the candidate. Distillation and the classifier are taken as published.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from prefect import get_run_logger

from monoglot.config import Config
from monoglot.generation.query_translation import foreign_languages
from monoglot.generation.scripts import romanised_among
from monoglot.learning.baselines import MOST_ROWS
from monoglot.learning.evaluation import with_english
from monoglot.learning.heads import MOST_LABELS
from monoglot.learning.objectives import OBJECTIVES
from monoglot.learning_config import TrainingConfig
from monoglot.store import Artifact
from tasks.baseline import evaluate_bm25, evaluate_logistic_head, evaluate_tfidf
from tasks.merging import merge_with_base
from tasks.models import ModelRef, trained_model
from tasks.peer_training import (
    evaluate_classifier,
    mine_negatives,
    train_by_distillation,
    train_label_classifier,
)
from tasks.query_translation import (
    evaluate_translated,
    translate_questions_by_lexicon,
    translate_questions_by_llm,
)
from tasks.sources import Data
from tasks.systems import System, measure
from tasks.training import train
from tasks.workplace import Workplace

TFIDF, BM25, LOGISTIC = "TF-IDF", "BM25", "logistic head"
TRANSLATED, RANDOM, MINED = "translated query", "random negatives", "ST-mined negatives"
DISTILLED, CLASSIFIER = "MSE distillation", "classifier"

FineTune = Callable[[Workplace, Config, Artifact, Data, ModelRef], Artifact]


@dataclass
class Baselines:
    """What the baselines answered.

    Attributes:
        outcomes: name -> `contracts.Outcomes`, in the order of the report.
        notes: why one of them was left out, a sentence each.
    """

    outcomes: dict[str, Artifact] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def leave_out(self, name: str, why: str) -> None:
        """Note that a baseline is not among the outcomes."""
        self.notes += (f"Baseline left out: {name}: {why}",)
        get_run_logger().warning(self.notes[-1], extra={"shown": True})


@dataclass(frozen=True)
class _Setting:
    """What every baseline is made from."""

    place: Workplace
    config: Config
    rows: Artifact
    data: Data
    base: System
    fine_tune: FineTune


def evaluate_baselines(
    place: Workplace,
    config: Config,
    rows: Artifact,
    data: Data,
    *,
    base: System,
    fine_tune: FineTune,
) -> Baselines:
    """Every baseline that the config asks for, on the candidate's own questions.

    Args:
        place: the run's.
        config: names the dearer ones.
        rows: the knowledge base.
        data: what the candidate was trained on and what is asked.
        base: the untuned model, its index and what it answered.
        fine_tune: trains a model by a config, as the candidate was trained.
    """
    made = Baselines()
    if rows.rows <= MOST_ROWS:
        made.outcomes[TFIDF] = evaluate_tfidf(place, data.questions, rows)
    else:
        why = f"the knowledge base has {rows.rows:,} rows, more than {MOST_ROWS:,}."
        made.leave_out(TFIDF, why)
    made.outcomes[BM25] = evaluate_bm25(place, data.questions, rows)
    setting = _Setting(place, config, rows, data, base, fine_tune)
    _logistic_head(setting, made)
    for asked, (name, run) in _ON_REQUEST.items():
        if asked in config.baselines.also:
            alone = dataclasses.replace(place, journal=[])
            run(dataclasses.replace(setting, place=alone), made)
            place.journal.extend(
                record.model_copy(update={"title": f"{name}: {record.title}"})
                for record in alone.journal  # several baselines have stages of one title
            )
    return made


def _logistic_head(setting: _Setting, made: Baselines) -> None:
    if _has_too_many_labels(setting, LOGISTIC, made):
        return
    made.outcomes[LOGISTIC] = evaluate_logistic_head(
        setting.place,
        base=setting.base.model,
        index=setting.base.index,
        anchors=setting.data.anchors,
        parts=setting.data.parts,
        questions=setting.data.questions,
        knowledge_base=setting.rows,
        seed=setting.config.fine_tuning.seed,
    )


def _translated_query(setting: _Setting, made: Baselines) -> None:
    place, config, questions = setting.place, setting.config, setting.data.questions
    kb_language = config.knowledge_base.language
    languages = foreign_languages(place.store.table(questions), kb_language)
    if not languages:
        made.leave_out(TRANSLATED, "every question is in the knowledge base's language already.")
        return
    if place.settings.has_endpoint:
        translated = tuple(
            translate_questions_by_llm(
                place,
                questions=questions,
                language=language,
                config=config.generation,
                kb_language=kb_language,
                redaction=config.redaction,
            )
            for language in languages
        )
    else:
        assert config.baselines.lexicon is not None  # else the run was refused before it began
        lexicon = config.baselines.lexicon
        translated = (
            translate_questions_by_lexicon(
                place, questions=questions, languages=languages, lexicon=lexicon
            ),
        )
    made.outcomes[TRANSLATED] = evaluate_translated(
        place,
        translated=translated,
        base=setting.base.model,
        index=setting.base.index,
        questions=questions,
        knowledge_base=setting.rows,
    )


def _random_negatives(setting: _Setting, made: Baselines) -> None:
    sampling = setting.config.sampling
    negatives = {"random_negatives": max(1, sampling.negatives), "hard_negatives": 0}
    config = setting.config.model_copy(
        update={
            "fine_tuning": _with_negatives(setting.config.fine_tuning),
            "sampling": sampling.of_positives.model_copy(update=negatives),
        }
    )
    trained = setting.fine_tune(
        setting.place, config, setting.rows, setting.data, setting.base.model
    )
    made.outcomes[RANDOM] = _outcomes_of(setting, trained, merged=True)


def _mined_negatives(setting: _Setting, made: Baselines) -> None:
    sampling, data, base = setting.config.sampling, setting.data, setting.base.model
    fine_tuning = setting.config.fine_tuning.model_copy(update={"objective": "explicit"})
    mined = mine_negatives(
        setting.place,
        anchors=data.anchors,
        parts=data.parts,
        questions=data.questions,
        base=base,
        negatives=max(1, sampling.negatives),
        config=fine_tuning,
    )
    if mined.rows == 0:
        made.leave_out(MINED, "no anchor has enough rows below the margin.")
        return
    trained = train(
        setting.place,
        anchors=data.anchors,
        parts=data.parts,
        triplets=mined,
        base=base,
        config=fine_tuning,
        romanised=romanised_among(setting.config.languages),
    )
    made.outcomes[MINED] = _outcomes_of(setting, trained, merged=True)


def _distillation(setting: _Setting, made: Baselines) -> None:
    data = setting.data
    if with_english(setting.place.store.table(data.anchors)).is_empty():
        made.leave_out(DISTILLED, "no training query has its English wording.")
        return
    trained = train_by_distillation(
        setting.place,
        anchors=data.anchors,
        base=setting.base.model,
        config=setting.config.fine_tuning,
    )
    made.outcomes[DISTILLED] = _outcomes_of(setting, trained, merged=False)


def _classifier(setting: _Setting, made: Baselines) -> None:
    if _has_too_many_labels(setting, CLASSIFIER, made):
        return
    data = setting.data
    classifier = train_label_classifier(
        setting.place,
        anchors=data.anchors,
        parts=data.parts,
        questions=data.questions,
        base=setting.base.model,
        config=setting.config.fine_tuning,
    )
    made.outcomes[CLASSIFIER] = evaluate_classifier(
        setting.place,
        classifier=classifier,
        questions=data.questions,
        knowledge_base=setting.rows,
    )


_ON_REQUEST: dict[str, tuple[str, Callable[[_Setting, Baselines], None]]] = {
    "translate_query": (TRANSLATED, _translated_query),
    "random_negatives": (RANDOM, _random_negatives),
    "st_mined": (MINED, _mined_negatives),
    "distillation": (DISTILLED, _distillation),
    "classifier": (CLASSIFIER, _classifier),
}


def _with_negatives(config: TrainingConfig) -> TrainingConfig:
    """The config itself where its objective reads sampled negatives; else the paper's objective."""
    if OBJECTIVES[config.objective].sampled_negatives:
        return config
    return config.model_copy(update={"objective": "explicit"})


def _outcomes_of(setting: _Setting, trained: Artifact, *, merged: bool) -> Artifact:
    """What a peer answers over its own index of the knowledge base."""
    base = setting.base.model
    model = trained_model(trained, base)
    if merged:
        mixed = merge_with_base(
            setting.place, trained=model, base=base, config=setting.config.merging
        )
        model = trained_model(mixed, base)
    systems = measure(setting.place, (model,), setting.rows, setting.data.questions)
    return systems[model.digest].outcomes


def _has_too_many_labels(setting: _Setting, name: str, made: Baselines) -> bool:
    labels = setting.rows.facts["labels"]
    if labels <= MOST_LABELS:
        return False
    made.leave_out(name, f"the knowledge base has {labels:,} labels, more than {MOST_LABELS:,}.")
    return True
