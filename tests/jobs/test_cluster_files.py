"""cluster/: what Kubernetes, KubeRay, Ray and Docker are given, against their own schemas."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tyro
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.label import LabelConfig
from tests.command_lines import ROOT
from vidray import __version__

CLUSTER = ROOT / "cluster"
GIB = 1 << 30
# What Ray offers to tasks of a pod's memory; the rest is for the object store and Ray itself.
RAYS_SHARE = 0.7

# Field -> kind of what KubeRay's API reference documents for ray.io/v1 (release 1.6).
RAY_JOB: dict[str, Any] = {
    "entrypoint": str, "runtimeEnvYAML": str, "jobId": str, "submissionMode": str,
    "entrypointResources": str, "entrypointNumCpus": float, "entrypointNumGpus": float,
    "ttlSecondsAfterFinished": int, "activeDeadlineSeconds": int, "backoffLimit": int,
    "shutdownAfterJobFinishes": bool, "suspend": bool, "metadata": dict, "clusterSelector": dict,
    "managedBy": str, "deletionStrategy": dict, "submitterConfig": dict,
    "submitterPodTemplate": dict, "rayClusterSpec": dict,
}  # fmt: skip
RAY_CLUSTER: dict[str, Any] = {
    "rayVersion": str, "headGroupSpec": dict, "workerGroupSpecs": list, "authOptions": dict,
    "enableInTreeAutoscaling": bool, "autoscalerOptions": dict, "suspend": bool, "managedBy": str,
    "headServiceAnnotations": dict, "gcsFaultToleranceOptions": dict,
}  # fmt: skip
HEAD: dict[str, Any] = {
    "template": dict, "rayStartParams": dict, "serviceType": str, "headService": dict,
    "enableIngress": bool,
}  # fmt: skip
WORKERS: dict[str, Any] = {
    "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "suspend": bool,
    "idleTimeoutSeconds": int, "numOfHosts": int, "rayStartParams": dict, "template": dict,
    "scaleStrategy": dict,
}  # fmt: skip
RAY_CRON_JOB: dict[str, Any] = {
    "schedule": str,
    "timeZone": str,
    "suspend": bool,
    "jobTemplate": dict,
}
AUTH: dict[str, Any] = {"mode": str, "secretName": str}


def read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return values


def check(given: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in given.items():
        assert name in fields, f"{name} is no field: {sorted(fields)}"
        assert isinstance(value, fields[name]), f"{name} is {value!r}, not {fields[name]}"


@pytest.fixture(params=["rayjob.yaml", "raycronjob.yaml"])
def job(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The spec of a RayJob."""
    given = read(request.param)
    spec: dict[str, Any] = given["spec"]
    assert given["apiVersion"] == "ray.io/v1"
    assert set(given) == {"apiVersion", "kind", "metadata", "spec"}
    if given["kind"] == "RayJob":
        return spec
    check(spec, RAY_CRON_JOB)
    assert given["kind"] == "RayCronJob"
    template: dict[str, Any] = spec["jobTemplate"]
    return template


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    groups = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"], **groups}


def test_kuberay_knows_every_field(job: dict[str, Any]) -> None:
    check(job, RAY_JOB)
    cluster = job["rayClusterSpec"]
    check(cluster, RAY_CLUSTER)
    check(cluster["authOptions"], AUTH)
    check(cluster["headGroupSpec"], HEAD)
    for group in cluster["workerGroupSpecs"]:
        check(group, WORKERS)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_kubernetes_takes_every_pod(job: dict[str, Any]) -> None:
    for name, template in pods(job).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        kubernetes_validate.validate(pod, "1.31", strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"container": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, "1.31", strict=True)
    with pytest.raises(AssertionError, match="entryPoint is no field"):
        check({"entryPoint": ""}, RAY_JOB)


def test_only_who_has_the_token_is_let_in(job: dict[str, Any]) -> None:
    assert job["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH_MODE=token" in (CLUSTER / "Dockerfile").read_text()
    vms = read("vms.yaml")
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert vms[key][-1].startswith("RAY_AUTH_MODE=token ray start")
    assert "/home/vidray/.ray/auth_token" in vms["file_mounts"]


def test_a_pod_has_memory_for_a_worker_on_each_cpu(job: dict[str, Any]) -> None:
    for name, template in pods(job).items():
        (container,) = template["spec"]["containers"]
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert limits == requests
        memory_gib = int(limits["memory"].removesuffix("Gi"))
        cpus = int(limits["cpu"])
        assert name == "head" or memory_gib * RAYS_SHARE >= 3.0 * cpus
    for name, node in read("vms.yaml")["available_node_types"].items():
        cpus = node["resources"]["CPU"]
        assert name == "head" or node["resources"]["memory"] >= 3 * GIB * cpus


def test_the_head_runs_no_tasks(job: dict[str, Any]) -> None:
    assert job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    vms = read("vms.yaml")
    assert vms["available_node_types"][vms["head_node_type"]]["resources"]["CPU"] == 0
    assert "--num-cpus=0" in vms["head_start_ray_commands"][-1]


def test_the_command_is_one_that_the_job_takes(job: dict[str, Any]) -> None:
    python, script, *flags = shlex.split(job["entrypoint"])
    assert (python, script) == ("python", "/vidray/jobs/label.py")
    assert (ROOT / Path(script).relative_to("/vidray")).is_file()
    config = tyro.cli(LabelConfig, args=flags)
    resources = config.resources.filled(holds_network=True)
    assert resources.memory_gib == 3.0  # What the pods are made for.


def test_every_night_is_the_one_job() -> None:
    job, cron = read("rayjob.yaml"), read("raycronjob.yaml")
    assert cron["spec"]["jobTemplate"] == job["spec"]
    assert re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", cron["spec"]["schedule"])


def test_ray_up_takes_the_machines() -> None:
    config = read("vms.yaml")
    validate_config(prepare_config(config))
    assert config["max_workers"] == sum(
        node.get("max_workers", 0) for node in config["available_node_types"].values()
    )
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config({**config, "max_worker": 3}))


def test_the_image_holds_what_is_copied_and_what_is_tested() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    sources = [
        source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]
    ]
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source
    assert set(allowed) == set(sources)
    for name in ("rayjob.yaml", "raycronjob.yaml", "vms.yaml", "Dockerfile"):
        tags = re.findall(r"REGISTRY/vidray:(\S+)", (CLUSTER / name).read_text())
        assert set(tags) == {__version__}


def test_the_image_has_the_versions_that_are_tested() -> None:
    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE))

    tested, shipped = pins(ROOT / "requirements.lock"), pins(CLUSTER / "requirements.lock")
    assert {"ray", "torch", "av", "decord2", "numba", "aiohttp", "setuptools"} <= set(shipped)
    assert "pytest" not in shipped
    assert {name: tested.get(name) for name in shipped} == shipped
    (ray,) = {read("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"]}
    assert ray == shipped["ray"]
