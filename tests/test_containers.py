"""What the image, the compose file and the manifests expect of one another; no daemon is needed."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from prefect.settings.models.server.ui import ServerUISettings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "deployments/docker/Dockerfile").read_text().replace("\\\n", " ")
SERVICES = yaml.safe_load((ROOT / "deployments/docker/compose.yaml").read_text())["services"]
MANIFESTS = [*yaml.safe_load_all((ROOT / "deployments/kubernetes/monoglot.yaml").read_text())]
VARIABLES = dict(
    pair.split("=", 1)
    for line in re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    for pair in line.split()
)


def folders_after(command):
    """The folders that a command of the Dockerfile is given."""
    found = re.search(rf"{command} ((?: ?/\S+)+)", DOCKERFILE)
    return {Path(it) for it in found[1].split()}


def containers():
    """Name and container of each deployment on Kubernetes."""
    return {
        it["metadata"]["name"]: it["spec"]["template"]["spec"]["containers"][0]
        for it in MANIFESTS
        if it["kind"] == "Deployment"
    }


def mounted_folders():
    """Where the image's containers have a volume, by compose and on Kubernetes."""
    for service in SERVICES.values():
        if service.get("image") == "monoglot":
            yield from (volume.split(":")[1] for volume in service["volumes"])
    for container in containers().values():
        yield from (mount["mountPath"] for mount in container["volumeMounts"])


def is_the_users(folder):
    """Whether the image makes the folder, and its user owns it."""
    owned = folders_after(r"chown -R monoglot:monoglot")
    return folder in folders_after("mkdir -p") and not owned.isdisjoint({folder, *folder.parents})


@pytest.mark.parametrize("folder", sorted(set(mounted_folders())))
def test_a_volume_is_mounted_where_the_image_has_a_folder_of_its_user(folder):
    """Docker makes a mount point that is not there as root, and a run's slot cannot be leased."""
    assert is_the_users(Path(folder))


def test_prefect_copies_its_ui_to_where_the_images_user_may_write(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert is_the_users(Path(ServerUISettings().static_directory))


def test_a_mirror_outlives_its_container():
    assert Path("/data") in Path(VARIABLES["MONOGLOT_MIRROR"]).parents


def test_the_image_can_reach_buckets_and_databases():
    extras = set(re.search(r"-e '\.\[(.+)\]'", DOCKERFILE)[1].split(","))
    assert extras >= {"pipeline", "s3", "sql"}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras <= set(known["optional-dependencies"])


def test_compose_hands_the_worker_credentials_where_they_are_set():
    given = SERVICES["worker"]["environment"]
    needed = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}
    handed_on = {name for name, value in given.items() if value is None}
    assert handed_on >= {*needed, "AWS_SESSION_TOKEN", "MONOGLOT_KB_URL"}


def test_the_worker_on_kubernetes_watches_the_namespace_of_its_role():
    (role,) = (it for it in MANIFESTS if it["kind"] == "Role")
    given = {it["name"]: it["value"] for it in containers()["worker"]["env"]}
    watched = given["PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"]
    assert watched == role["metadata"]["namespace"]
