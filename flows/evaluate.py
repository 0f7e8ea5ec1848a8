"""The release in production and the untuned model, asked a file's questions."""

from typing import Any

from prefect import flow, get_run_logger

from monoglot.measuring import measure_release
from monoglot.store import Store
from tasks.artifacts import show_evaluation
from tasks.request import EvaluationRequest


@flow(name="evaluate", flow_run_name="evaluate {request.title}")
def evaluate(request: EvaluationRequest) -> dict[str, Any]:
    """Ask and show; reads only, so that no run is waited for.

    Returns:
        What `monoglot evaluate --json` prints.
    """
    config, settings, file = request.read_with_queries()
    measured = measure_release(config, settings, file)
    for warning in measured.warnings:
        get_run_logger().warning(warning, extra={"shown": True})
    heading = f"Release {measured.release.id} on {file.path}"
    show_evaluation(Store.existing(config.store), measured.systems, heading)
    return measured.as_json()
