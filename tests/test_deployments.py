"""The deployments are these, and what they name exists and takes what they give."""

import importlib
from pathlib import Path

import pytest
import yaml

from tasks import request as requests

FILE = Path(__file__).parents[1] / "deployments/prefect.yaml"
DEPLOYMENTS = yaml.safe_load(FILE.read_text())["deployments"]
HERE = {"request": {"config_file": "monoglot.yaml"}}
NIGHTLY = {
    "cron": "0 3 * * *",
    "timezone": "UTC",
    "slug": "nightly",
    "active": True,
    "parameters": {"request": {"config_file": "monoglot.yaml", "why": "nightly"}},
}
RECONCILE = {"cron": "*/15 * * * *", "timezone": "UTC", "slug": "reconcile", "active": True}
CHANGED = {
    "type": "event",
    "name": "monoglot-kb-changed",
    "expect": ["monoglot.kb.changed"],
    "match": {"prefect.resource.id": "monoglot.kb.*"},
    "threshold": 1,
    "within": 10,
    "schedule_after": 15,
}
REQUESTS = [it for it in vars(requests).values() if getattr(it, "__name__", "").endswith("Request")]


def flow_of(deployment):
    path, _, name = deployment["entrypoint"].partition(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


def test_the_deployments_are_these():
    shown = {
        it["name"]: (it["entrypoint"], it.get("schedules", []), it.get("triggers", []))
        for it in DEPLOYMENTS
    }
    assert shown == {
        "retrain": ("flows/retrain.py:retrain", [NIGHTLY], []),
        "on-kb-change": ("flows/on_kb_change.py:on_kb_change", [RECONCILE], [CHANGED]),
        "refresh-index": ("flows/refresh_index.py:refresh_index", [], []),
        "ablation": ("flows/ablation.py:ablate", [], []),
        "evaluate": ("flows/evaluate.py:evaluate", [], []),
        "promote": ("flows/promote.py:promote", [], []),
        "rollback": ("flows/rollback.py:rollback", [], []),
    }
    for deployment in DEPLOYMENTS:
        assert deployment["parameters"] == HERE
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert deployment["work_pool"] == {"name": "monoglot"}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda it: it["name"])
def test_a_deployments_flow_takes_its_parameters_and_those_of_its_schedules(deployment):
    flow = flow_of(deployment)
    assert set(flow.parameters.properties) == {"request"}
    given = [
        deployment["parameters"],
        *(it["parameters"] for it in deployment.get("schedules", ()) if "parameters" in it),
    ]
    for parameters in given:
        request = flow.validate_parameters(parameters)["request"]
        assert str(request.config_file) == "monoglot.yaml"
        assert flow.flow_run_name.format(request=request)


@pytest.mark.parametrize("request_of", REQUESTS, ids=lambda it: it.__name__)
def test_every_field_of_a_form_is_explained_and_has_a_default(request_of):
    assert all(field.description for field in request_of.model_fields.values())
    assert request_of().config_file == Path("monoglot.yaml")


def test_a_run_is_named_after_what_it_does_and_why(tmp_path):
    asked = requests.RollbackRequest(
        config_file=tmp_path / "shop/monoglot.yaml", release="20260101-ab", why="wrong refunds"
    )
    name = flow_of(next(it for it in DEPLOYMENTS if it["name"] == "rollback")).flow_run_name
    assert name.format(request=asked) == "rollback shop: wrong refunds to 20260101-ab"
