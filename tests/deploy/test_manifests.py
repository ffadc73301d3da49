"""The Kubernetes manifests: valid, of one piece, and true to the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from api.settings import ApiSettings
from storage.catalog import load_catalog
from storage.settings import Settings
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    QUEUE_PLACEHOLDER,
    Manifest,
    build,
    build_folder,
    copy_with,
    trigger_query,
)
from worker.settings import WorkerSettings

KEDA = json.loads((Path(__file__).parent / "schemas" / "keda.json").read_text())["kinds"]
VERSIONS = ("1.30", "1.37")  # the oldest that knows everything that we use, and the newest at hand


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def pods(manifests: list[Manifest]) -> list[Any]:
    """The pod specification of everything that runs."""
    found = [manifest["spec"]["template"]["spec"] for manifest in of_kind(manifests, "Deployment")]
    return found + [job["spec"]["jobTargetRef"]["template"]["spec"] for job in of_kind(manifests, "ScaledJob")]


def workers(manifests: list[Manifest]) -> list[Any]:
    return [pod for pod in pods(manifests) if pod["containers"][0]["name"] == "worker"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_and_keda_accept_every_manifest(overlay: str) -> None:
    for manifest in build(overlay):
        if manifest["apiVersion"].startswith("keda.sh/"):
            jsonschema.validate(manifest, KEDA[manifest["kind"]])
            continue
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_jobs_that_keda_makes_of_a_scaled_job(version: str) -> None:
    (scaled,) = of_kind(build("long-drawings"), "ScaledJob")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": scaled["spec"]["jobTargetRef"]}
    kubernetes_validate.validate(job, version, strict=True)


def test_the_schemas_refuse_what_is_misspelt() -> None:
    (scaled,) = of_kind(build("one-gpu"), "ScaledObject")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled | {"spec": {**scaled["spec"], "minReplicas": 0}}, KEDA["ScaledObject"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_model_of_the_catalog_has_workers_that_serve_it_and_a_trigger_on_its_queue(overlay: str) -> None:
    manifests = build(overlay)
    catalog = load_catalog(KUBERNETES / "overlays" / overlay / "models.toml")
    served = [pod["containers"][0]["args"][:3] for pod in workers(manifests)]
    assert sorted(served) == sorted(["worker", "--model", name] for name in catalog.models)
    queries = [
        scaler["spec"]["triggers"][0]["metadata"]["query"] for scaler in of_kind(manifests, "ScaledObject", "ScaledJob")
    ]
    expected = [
        trigger_query("worker/scaled-object.yaml", queue_name=model.queue_name) for model in catalog.models.values()
    ]
    assert sorted(queries) == sorted(expected)
    assert QUEUE_PLACEHOLDER not in json.dumps(manifests)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_scaled_object_scales_the_workers_of_its_own_model(overlay: str) -> None:
    manifests = build(overlay)
    deployments = {item["metadata"]["name"]: item for item in of_kind(manifests, "Deployment")}
    for scaled in of_kind(manifests, "ScaledObject"):
        target = deployments[scaled["spec"]["scaleTargetRef"]["name"]]
        model = target["spec"]["template"]["spec"]["containers"][0]["args"][2]
        catalog = load_catalog(KUBERNETES / "overlays" / overlay / "models.toml")
        assert f"'{catalog.find(model).queue_name}'" in scaled["spec"]["triggers"][0]["metadata"]["query"]
        assert scaled["spec"]["minReplicaCount"] == 0
        assert "replicas" not in target["spec"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_their_own_pods_and_no_others(overlay: str) -> None:
    manifests = build(overlay)
    labels = {
        d["metadata"]["name"]: d["spec"]["template"]["metadata"]["labels"] for d in of_kind(manifests, "Deployment")
    }
    for item in of_kind(manifests, "Deployment", "PodDisruptionBudget", "Service"):
        selector = item["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        assert [name for name, has in labels.items() if wanted <= has.items()] == [item["metadata"]["name"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_referred_to_is_there_or_is_a_secret_of_the_operator(overlay: str) -> None:
    manifests = build(overlay)
    there = {(item["kind"], item["metadata"]["name"]) for item in manifests}
    for pod in pods(manifests):
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
        for container in pod["containers"] + pod.get("initContainers", []):
            for source in container["envFrom"]:
                if "configMapRef" in source:
                    assert ("ConfigMap", source["configMapRef"]["name"]) in there
                else:
                    assert source["secretRef"]["name"] == "darkroom"
    for scaled in of_kind(manifests, "ScaledObject", "ScaledJob"):
        name = scaled["spec"]["triggers"][0]["authenticationRef"]["name"]
        assert ("TriggerAuthentication", name) in there
    assert not of_kind(manifests, "Secret")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_run_as_an_ordinary_user_on_a_read_only_root(overlay: str) -> None:
    for pod in pods(build(overlay)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001  # the images' own
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"] + pod.get("initContainers", []):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_is_given_more_time_to_stop_than_the_worker_takes(overlay: str) -> None:
    for pod in workers(build(overlay)):
        grace_s = float(next(item["value"] for item in pod["containers"][0]["env"] if item["name"] == "GRACE_SECONDS"))
        assert grace_s + 20 <= pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_in_a_config_map_exists(overlay: str) -> None:
    known = {name.upper() for name in Settings.model_fields} | {name.upper() for name in WorkerSettings.model_fields}
    of_the_api = {name.upper() for name in ApiSettings.model_fields}  # all roles are given the same map
    for config in of_kind(build(overlay), "ConfigMap"):
        if config["metadata"]["name"].startswith("darkroom-"):
            assert set(config["data"]) <= known | of_the_api
    for pod in workers(build(overlay)):
        assert {item["name"] for item in pod["containers"][0]["env"]} <= known


def test_only_a_job_is_told_to_leave_by_itself() -> None:
    (pod,) = workers(build("one-gpu"))
    assert pod["containers"][0]["args"][3:] == []  # the kubelet would start it again at once
    (pod,) = workers(build("long-drawings"))
    assert pod["containers"][0]["args"][3:] == ["--drain", "--idle-exit", "120"]
    assert pod["restartPolicy"] == "Never"


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name != "long-drawings"])
def test_the_first_time_creates_the_workers_of_every_model_without_a_pod_and_nothing_else(
    overlay: str, tmp_path: Path
) -> None:
    copied = copy_with(tmp_path, {"first-time/kustomization.yaml": ("overlays/one-gpu", f"overlays/{overlay}")})
    label = ("app.kubernetes.io/component", "worker")  # `kubectl create` is told to select by it
    selected = [
        item for item in build_folder(copied / "first-time") if label in item["metadata"].get("labels", {}).items()
    ]
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(build(overlay), "ScaledObject")}
    assert {(item["kind"], item["metadata"]["name"]) for item in selected} == {("Deployment", name) for name in scaled}
    assert [item["spec"].pop("replicas") for item in selected] == [0] * len(scaled)
    for item in selected:
        assert item in build(overlay)  # what is applied later changes nothing in it


@pytest.mark.parametrize(
    "kustomization",
    ["one-gpu", "many-gpus", "long-drawings", "several-models/z-image-turbo", "several-models/flux-schnell"],
    ids=str,
)
def test_the_weights_may_lie_in_a_folder_of_a_node(kustomization: str, tmp_path: Path) -> None:
    overlay, _, model = kustomization.partition("/")
    component = ("components:\n", f"components:\n  - {'../' * (3 if model else 2)}local-weights\n")
    copied = copy_with(tmp_path, {f"overlays/{kustomization}/kustomization.yaml": component})
    manifests = build_folder(copied / "overlays" / overlay)
    (volume,) = of_kind(manifests, "PersistentVolume")
    claims = [claim for claim in of_kind(manifests, "PersistentVolumeClaim") if "volumeName" in claim["spec"]]
    assert [claim["spec"]["volumeName"] for claim in claims] == [volume["metadata"]["name"]]
    (claim,) = claims
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
    assert set(claim["spec"]["accessModes"]) <= set(volume["spec"]["accessModes"])
    asked, there = (
        int(text.removesuffix("Gi"))
        for text in (claim["spec"]["resources"]["requests"]["storage"], volume["spec"]["capacity"]["storage"])
    )
    assert asked <= there  # or the claim never binds
    for version in VERSIONS:
        for manifest in (volume, claim):
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_has_a_volume_that_the_namespace_forbids(overlay: str) -> None:
    manifests = build(overlay)
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for pod in pods(manifests):
        assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= allowed


def test_a_job_that_can_not_start_is_tried_again_by_its_own_back_off_and_its_node_is_not_taken_away() -> None:
    (scaled,) = of_kind(build("long-drawings"), "ScaledJob")
    job = scaled["spec"]["jobTargetRef"]
    # With 0, KEDA would make a new Job at every look.
    assert job["backoffLimit"] > 0
    # The cluster autoscaler waits for 600 s, whatever the pod asks for.
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > 600
    assert job["template"]["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
    for pod in workers(build("one-gpu")):
        assert pod["terminationGracePeriodSeconds"] <= 600


def test_poolers_are_let_through_beside_postgres() -> None:
    (policy,) = [
        item for item in of_kind(build("one-gpu"), "NetworkPolicy") if "stores-out" in item["metadata"]["name"]
    ]
    assert {5432, 6432, 6543} <= {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
