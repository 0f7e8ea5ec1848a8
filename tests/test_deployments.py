"""The deployments are these, and what they name exists."""

import importlib
from pathlib import Path

import yaml

from tasks.request import RunRequest

FILE = Path(__file__).parents[1] / "deployments/prefect.yaml"


def test_the_deployments_are_these():
    deployments = yaml.safe_load(FILE.read_text())["deployments"]
    shown = {
        it["entrypoint"]: (it["name"], [each["cron"] for each in it.get("schedules", ())])
        for it in deployments
    }
    assert shown == {
        "flows/retrain.py:retrain": ("nightly", ["0 3 * * *"]),
        "flows/refresh_index.py:refresh_index": ("on-demand", []),
        "flows/on_kb_change.py:on_kb_change": ("on-kb-change", ["*/15 * * * *"]),
    }
    assert {it["concurrency_limit"]["limit"] for it in deployments} == {1}
    assert {it["work_pool"]["name"] for it in deployments} == {"monoglot"}


def test_every_deployment_names_a_flow_that_takes_its_parameters():
    for deployment in yaml.safe_load(FILE.read_text())["deployments"]:
        path, _, name = deployment["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        [parameter] = flow.parameters.properties.values()
        assert set(flow.parameters.properties) == {"request"}
        assert parameter["title"] == "request"
        RunRequest.model_validate(deployment["parameters"]["request"])


def test_the_form_in_prefects_ui_explains_every_field():
    assert all(field.description for field in RunRequest.model_fields.values())
