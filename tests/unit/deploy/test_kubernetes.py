"""The manifests: valid by Kubernetes' own schemas, consistent with one another and with the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pacs_guard.config import load_settings
from pacs_guard.ops.roles import ROLES
from tests.unit.deploy.switches import with_tls

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
FILES = [*KUSTOMIZATION["resources"], "database.example.yaml"]
MANIFESTS = [
    manifest for name in FILES for manifest in yaml.safe_load_all((FOLDER / name).read_text())
]  # fmt: skip
DEPLOYMENTS = {
    manifest["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: manifest
    for manifest in MANIFESTS
    if manifest["kind"] == "Deployment"
}
SERVICES = [manifest for manifest in MANIFESTS if manifest["kind"] == "Service"]
POLICIES = [manifest for manifest in MANIFESTS if manifest["kind"] == "NetworkPolicy"]


def container(role: str) -> dict:
    (found,) = DEPLOYMENTS[role]["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_is_valid(manifest):
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_listed():
    here = {file.name for file in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "database.example.yaml"}
    assert set(KUSTOMIZATION["resources"]) == here
    assert (FOLDER / KUSTOMIZATION["configMapGenerator"][0]["files"][0]).exists()


def test_each_role_has_a_deployment_that_runs_it_once_with_probes():
    assert set(DEPLOYMENTS) == set(ROLES)
    for role in ROLES:
        assert container(role)["args"] == ["run", role]
        assert DEPLOYMENTS[role]["spec"]["replicas"] == 1
        assert DEPLOYMENTS[role]["spec"]["strategy"] == {"type": "Recreate"}
        assert {"startupProbe", "livenessProbe"} <= container(role).keys()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_few_rights(role):
    pod = DEPLOYMENTS[role]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    context = container(role)["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_services_and_policies_reach_pods_and_ports_that_exist():
    labels = [DEPLOYMENTS[role]["spec"]["template"]["metadata"]["labels"] for role in ROLES]
    selectors = [service["spec"]["selector"] for service in SERVICES]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in POLICIES]
    assert len(SERVICES) == 2
    for selector in selectors:
        assert any(selector.items() <= one.items() for one in labels), selector
    for service in SERVICES:
        ports = container(service["spec"]["selector"]["app.kubernetes.io/component"])["ports"]
        assert [one["targetPort"] for one in service["spec"]["ports"]] == [one["name"] for one in ports]


def test_ports_and_destinations_are_those_of_the_settings():
    settings = load_settings(FOLDER / "pacs-guard.toml")
    assert container("receive")["ports"][0]["containerPort"] == settings.receive.port
    assert container("ops")["ports"][0]["containerPort"] == settings.ops.metrics_port
    mounts = {mount["name"]: mount["mountPath"] for mount in container("receive")["volumeMounts"]}
    assert settings.node.data_dir.is_relative_to(mounts["data"])
    (deliver,) = (policy for policy in POLICIES if policy["metadata"]["name"] == "pacs-guard-deliver")
    (rule,) = deliver["spec"]["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": f"{settings.destinations[0].host}/32"}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": settings.destinations[0].port}]


def test_dicom_over_tls_has_its_port_and_certificates_wherever_it_is_spoken(tmp_path):
    settings = load_settings(with_tls(FOLDER / "pacs-guard.toml", tmp_path))
    ports = [one["containerPort"] for one in container("receive")["ports"]]
    assert ports == list(settings.receive.ports)
    (policy,) = (policy for policy in POLICIES if policy["metadata"]["name"] == "pacs-guard-receive")
    assert [one["port"] for one in policy["spec"]["ingress"][0]["ports"]] == ports
    for role in ("receive", "deliver", "ops"):
        mounts = {mount["name"]: mount["mountPath"] for mount in container(role)["volumeMounts"]}
        volumes = {one["name"]: one for one in DEPLOYMENTS[role]["spec"]["template"]["spec"]["volumes"]}
        assert settings.tls.cert_file.parent == Path(mounts["tls"])
        assert volumes["tls"]["secret"]["optional"], "a node without TLS needs no secret"


def test_the_gpu_variant_patches_what_exists():
    (patch,) = yaml.safe_load((FOLDER / "gpu" / "kustomization.yaml").read_text())["patches"]
    assert patch["target"]["name"] == DEPLOYMENTS["detect"]["metadata"]["name"]
    for operation in yaml.safe_load(patch["patch"]):
        value = DEPLOYMENTS["detect"]
        *parents, last = operation["path"].strip("/").split("/")
        for part in parents:
            value = value[int(part) if part.isdigit() else part]
        assert last in value or operation["op"] == "add"
