"""The composition: its files exist, its ports and addresses are those of the settings, Grafana finds its data."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from pacs_guard.config import ReceiveTlsSettings, load_settings
from tests.unit.deploy.switches import with_tls

FOLDER = Path(__file__).parents[3] / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
GRAFANA = FOLDER.parent / "grafana"


def settings():
    return load_settings(FOLDER / "pacs-guard.toml")


def container_ports(name: str) -> set[int]:
    return {int(port.rsplit(":", 1)[1]) for port in SERVICES[name].get("ports", [])}


def test_every_mounted_file_is_here_and_every_volume_and_network_is_declared():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert known, source
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        assert set(service.get("depends_on", [])) <= SERVICES.keys()


def test_images_are_pinned_and_ports_are_bound_to_this_machine():
    for name, service in SERVICES.items():
        assert ":" in service["image"]
        assert not service["image"].endswith(":latest")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    published = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(set(published)) == len(published)


def test_the_node_is_built_from_the_container_file_and_has_few_rights():
    node = SERVICES["pacs-guard"]
    context = (FOLDER / node["build"]["context"]).resolve()
    assert (context / node["build"]["dockerfile"]).exists()
    assert node["read_only"]
    assert node["cap_drop"] == ["ALL"]


def test_addresses_and_ports_agree():
    found = settings()
    assert container_ports("pacs-guard") == {found.receive.port, ReceiveTlsSettings().port}
    (destination,) = found.destinations
    assert destination.host in SERVICES
    assert SERVICES[destination.host]["environment"]["ORTHANC__DICOM_AET"] == destination.ae_title
    assert destination.port == 4242  # Orthanc's own
    known = json.loads(SERVICES[destination.host]["environment"]["ORTHANC__DICOM_MODALITIES"])
    assert known == {"guard": [found.node.ae_title, "pacs-guard", found.receive.port]}
    scraped = yaml.safe_load((FOLDER.parent / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"pacs-guard:{found.ops.metrics_port}"]
    shared = set(SERVICES["pacs-guard"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    assert shared == {"metrics"}


def test_tls_is_a_matter_of_removing_comment_marks(tmp_path):
    found = load_settings(with_tls(FOLDER / "pacs-guard.toml", tmp_path))
    assert container_ports("pacs-guard") == set(found.receive.ports)
    mounted = "# - ./tls:/etc/pacs-guard/tls:ro"
    assert mounted in (FOLDER / "compose.yaml").read_text()
    assert {file.parent for file in (found.tls.cert_file, found.tls.key_file, found.tls.ca_file)} == {
        Path("/etc/pacs-guard/tls")
    }


def test_grafana_is_provisioned_with_the_data_source_and_the_dashboard():
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    (port,) = container_ports("prometheus")
    assert source["url"] == f"http://prometheus:{port}"
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/pacs-guard.yaml").read_text())["providers"][0]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    dashboard = mounts["../grafana/pacs-guard.json"]
    assert str(Path(dashboard).parent) == provider["options"]["path"]
    assert json.loads((GRAFANA / "pacs-guard.json").read_text())["uid"] == "pacs-guard"
