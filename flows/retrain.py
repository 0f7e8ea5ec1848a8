"""The whole line: from a knowledge base to a model and an index in production."""

from typing import cast

from prefect import flow, get_run_logger

from flows.claim import claim
from flows.cleaning import tidy
from flows.fine_tune import TrainingJob, require, train_here, train_on
from monoglot.config import Config
from monoglot.errors import BatchPendingError
from monoglot.feedback.redacting import keep_redaction
from monoglot.generation.scripts import romanised_among
from monoglot.generation.spending import Budget
from monoglot.learning.objectives import OBJECTIVES
from monoglot.outstanding import Outstanding
from monoglot.planning import make_plan, refuse_unready
from monoglot.runs import RunRecord, new_run_name
from monoglot.serving.manifest import Release
from monoglot.serving.releases import Releases
from monoglot.settings import Settings
from monoglot.standing import Inputs, standing, unwritten
from monoglot.store import Artifact, Store
from tasks.abstention import Calibrated, calibrate_chosen, read_out_of_scope
from tasks.anchors import gather_anchors
from tasks.artifacts import show_nothing, show_plan
from tasks.batches import take_in_batches
from tasks.caching import waiting
from tasks.cluster import require_cluster
from tasks.comparison import evaluate_baselines
from tasks.diagnostics import diagnose
from tasks.guards import measure_guards, read_guards
from tasks.judgement import judge
from tasks.knowledge_base import read_knowledge_base
from tasks.merging import merge_with_base
from tasks.models import ModelRef, base_model, released_model, trained_model
from tasks.notices import TOLD
from tasks.questions import gather_questions
from tasks.record import keep_record
from tasks.release import hold, make_release, promote
from tasks.report import facts_of, write_report
from tasks.request import RunRequest
from tasks.sources import (
    Data,
    Waits,
    given_questions,
    native_of,
    synthetic_of,
    translations_of,
    user_labels_of,
)
from tasks.split import split
from tasks.systems import System, by_name, measure
from tasks.triplets import draw_triplets
from tasks.versions import versions
from tasks.workplace import Workplace


@flow(name="retrain", flow_run_name="retrain {request.title}", **TOLD)
def retrain(request: RunRequest) -> RunRecord | Outstanding:
    """Train a candidate on the knowledge base, and put it into production if it is better.

    Does nothing where a finished run had the same inputs. One run at a time per store: that of a
    deployment waits for its turn, and looks again then. Where the LLM answers by batch, the run
    ends in a state named `Waiting` when all it asks is submitted, and the next one takes in what
    has come back.
    """
    config, settings, inputs = _looked_at(request)
    place = Workplace(Store.open(config.store), settings, budget=Budget(config.spending))
    with claim(place.store) as waited:
        if waited:
            config, settings, inputs = _looked_at(request)
        keep_redaction(place.store, config.redaction)
        take_in_batches(place)
        done = standing(inputs, place.store)
        if done is not None and not request.force:
            get_run_logger().info(f"nothing to do: {done.reason}", extra={"shown": True})
            show_nothing(place.store, done.reason)
            return done.record
        require_cluster(place)
        if settings.training_deployment:
            require(settings.training_deployment)
        show_plan(place.store, make_plan(inputs, config, settings, place.store))
        for told in unwritten(config, settings):
            get_run_logger().warning(told, extra={"shown": True})
        try:
            record = train_and_release(place, config, inputs)
        except BatchPendingError as pending:
            return cast("Outstanding", waiting(pending))  # the state, of which callers get the data
        tidy(place.store, config.retention, inputs.key)
        return record


def _looked_at(request: RunRequest) -> tuple[Config, Settings, Inputs]:
    """What there is now; where something is to be done and cannot end well, it is refused."""
    config, settings = request.read_fetched()
    inputs, store = Inputs.of(config, settings, versions()), Store.if_any(config.store)
    if store is None or request.force or standing(inputs, store) is None:
        refuse_unready(config, settings, store, force=request.force)
    return config, settings, inputs


def train_and_release(place: Workplace, config: Config, inputs: Inputs) -> RunRecord:
    """The method, in its order (arXiv 2506.02527, section 3)."""
    rows = read_knowledge_base(place, config.knowledge_base)
    base = base_model(config.base_model)
    data = gather_data(place, config, rows, base)
    trained = fine_tune(place, config, rows, data, base)
    merged = merge_with_base(
        place, trained=trained_model(trained, base), base=base, config=config.merging
    )
    candidate = trained_model(merged, base)

    # Candidate, untuned model and the one in production: over all rows of the new knowledge base.
    releases = Releases(place.store)
    seen, current = releases.pointer(), releases.current()
    reference = base if current is None else released_model(current)
    systems = measure(place, (base, candidate, reference), rows, data.questions)
    baselines = evaluate_baselines(
        place, config, rows, data, base=systems[base.digest], fine_tune=fine_tune
    )
    compared = by_name(
        systems, baselines.outcomes, base=base, reference=reference, candidate=candidate
    )
    findings = diagnose(
        place,
        config,
        rows,
        data,
        base=systems[base.digest],
        tuned=systems[candidate.digest],
        trained=trained,
        baselines=baselines,
    )
    guards = measure_guards(place, data.guards, systems)
    decision = judge(
        place, config, systems, guards, base=base, candidate=candidate, current=current
    )

    def release_of(system: System) -> tuple[Release, Calibrated]:
        calibrated = calibrate_chosen(place, config, system, rows, data.out_of_scope)
        made = make_release(
            place.store,
            system.model,
            system.index,
            rows,
            evaluation=system.outcomes,
            questions=data.questions,
            calibrated=calibrated,
            config_digest=inputs.config,
            reason=" ".join(decision.reasons),
        )
        return made, calibrated

    if decision.promote and config.gate.approval:
        held, _ = release_of(systems[candidate.digest])
        decision = hold(place, held, decision, reference=reference)
    # A candidate that is not promoted does not hold back the knowledge base: the old model answers.
    chosen, calibrated = release_of(
        systems[candidate.digest if decision.promote else reference.digest]
    )
    release = promote(place, chosen, seen=seen)
    run = new_run_name(inputs.key)
    report = write_report(
        place,
        run,
        facts=facts_of(config, rows, data.anchors, release),
        systems=compared,
        questions=data.questions,
        gaps=data.labelled.gaps,
        trained=trained,
        decision=decision,
        calibrated=calibrated,
        findings=findings,
        notes=baselines.notes,
    )
    return keep_record(
        place,
        inputs.key,
        run,
        flow="retrain",
        config=inputs.config,
        rows=rows,
        release=release,
        verdict=decision.verdict,
        reasons=decision.reasons,
        report=report,
        systems=compared,
    )


def gather_data(place: Workplace, config: Config, rows: Artifact, base: ModelRef) -> Data:
    """The split, the evaluation set, and the training set in the target languages."""
    parts = split(place, rows, config.split, hold_out=config.evaluation.path is None)
    waits = Waits()
    # Labelled files are read first: a wrong one is told before anything is bought.
    guards = read_guards(place, config.guards, rows)
    file = config.abstention.out_of_scope
    out_of_scope = read_out_of_scope(place, file) if file.path else None
    native, given = native_of(place, config), given_questions(place, config)
    translations = translations_of(place, config, rows, parts, waits)
    if config.evaluation.path is None:
        waits.end()  # translations are what is evaluated on, and nothing can go on without them
    questions = gather_questions(
        place,
        given=given,
        translations=translations,
        native=native,
        parts=parts,
        config=config.split,
    )
    synthetic = synthetic_of(place, config, rows, parts, questions=questions, waits=waits)
    labelled = user_labels_of(
        place,
        config,
        rows,
        base,
        questions=questions,
        native=native,
        out_of_scope=out_of_scope,
        waits=waits,
    )
    waits.end()
    others = (*synthetic, *labelled.queries)
    anchors = gather_anchors(
        place,
        translations=translations,
        others=others if native is None else (*others, native),
        parts=parts,
        questions=questions,
        guards=tuple(guard.questions for guard in guards),
        out_of_scope=out_of_scope,
    )
    return Data(parts, questions, anchors, labelled, guards, out_of_scope)


def fine_tune(
    place: Workplace, config: Config, rows: Artifact, data: Data, base: ModelRef
) -> Artifact:
    """Positives of the same label, negatives drawn by label similarity, and InfoNCE on them.

    Negatives are drawn where the objective reads them.
    """
    reads_negatives = OBJECTIVES[config.fine_tuning.objective].sampled_negatives
    sampling = config.sampling if reads_negatives else config.sampling.of_positives
    triplets = draw_triplets(
        place,
        anchors=data.anchors,
        knowledge_base=rows,
        parts=data.parts,
        questions=data.questions,
        user_labels=data.labelled.queries,
        base=base,
        config=sampling,
        epochs=config.fine_tuning.epochs,
        seed=config.fine_tuning.seed,
    )
    job = TrainingJob(
        store=place.store.location,
        title=config.knowledge_base.name,
        anchors=data.anchors,
        parts=data.parts,
        triplets=triplets,
        base=base,
        config=config.fine_tuning,
        romanised=romanised_among(config.languages),
        remining=sampling.for_training,
    )
    elsewhere = place.settings.training_deployment
    if elsewhere and place.watcher is None:  # who watches a training must be where it is
        train_on(elsewhere, job)
    return train_here(place, job)
