"""The knowledge base changed, the model stays: a new version of the index goes live."""

from prefect import flow, get_run_logger

from flows.claim import claim
from flows.cleaning import tidy
from monoglot.due import refuse_another_base
from monoglot.errors import StoreError
from monoglot.identity import digest
from monoglot.runs import RunRecord, new_run_name
from monoglot.serving.releases import NO_RELEASE, Releases
from monoglot.standing import Inputs, reason_against_refresh
from monoglot.store import Store
from tasks.abstention import measure_again
from tasks.artifacts import show_nothing
from tasks.cluster import require_cluster
from tasks.index import build_index
from tasks.knowledge_base import read_knowledge_base
from tasks.models import released_model
from tasks.notices import TOLD
from tasks.record import keep_record
from tasks.release import make_release, promote
from tasks.request import RunRequest
from tasks.versions import versions
from tasks.workplace import Workplace

_CHANGED = "the knowledge base changed; the model is kept"
_LOST = "the index was gone and is built again; the model is kept"


@flow(name="refresh-index", flow_run_name="refresh {request.title}", **TOLD)
def refresh_index(request: RunRequest) -> RunRecord | None:
    """Index the changed rows with the model in production, and put that version there.

    Returns:
        What was done; None where there was nothing to do.
    """
    config, settings = request.read_fetched()
    place = Workplace(Store.existing(config.store), settings)
    with claim(place.store) as waited:
        if waited:
            config, settings = request.read_fetched()
        releases = Releases(place.store)
        seen, current = releases.pointer(), releases.current()
        if current is None:
            raise StoreError(NO_RELEASE.format(place.store.location))
        inputs = Inputs.of(config, settings, versions())
        rows = read_knowledge_base(place, config.knowledge_base)
        reason = reason_against_refresh(place.store, current, rows.digest, force=request.force)
        if reason is not None:
            get_run_logger().info(f"nothing to do: {reason}", extra={"shown": True})
            show_nothing(place.store, reason)
            return None
        if not request.force:
            refuse_another_base(place.store, place.store.table(rows), config.knowledge_base.shown)
        require_cluster(place)
        model = released_model(current)
        index = build_index(place, rows, model)
        measured = measure_again(
            place,
            current,
            model,
            index=index,
            rows=rows,
            kb_language=config.knowledge_base.language,
        )
        refreshed = make_release(
            place.store,
            model,
            index,
            rows,
            evaluation=measured.evaluation,
            questions=measured.questions,
            measured_on=measured.rows,
            calibrated=measured.calibrated,
            config_digest=current.config_digest,
            reason=_LOST if rows.digest == current.knowledge_base.digest else _CHANGED,
        )
        release = promote(place, refreshed, seen=seen)
        key = digest({"refresh": rows.digest, "model": model.digest})
        record = keep_record(
            place,
            key,
            new_run_name(key),
            flow="refresh",
            config=current.config_digest,
            rows=rows,
            release=release,
            verdict="unchanged",
            reasons=(release.reason,),
            inputs=inputs.key,
        )
        tidy(place.store, config.retention, inputs.key)
        return record
