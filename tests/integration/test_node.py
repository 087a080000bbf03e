"""The whole node as its own processes, between real peers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from pacs_guard.simulate.phantom import make_phantom
from pacs_guard.simulate.writer import write_series
from tests.integration.node import Node, running, write_config
from tests.integration.peers import (
    dataset_bytes,
    free_port,
    needs_dcmtk,
    needs_orthanc,
    orthanc,
    run_dcmsend,
    run_echoscu,
    run_storescu,
    storescp,
    wait_until,
)
from tests.integration.samples import make_instances

PROPOSE = {
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEG2000Lossless: "-xv",
    RLELossless: "-xr",
    ExplicitVRLittleEndian: "-x=",
}


def study_of(files) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def send(node: Node, files, *options: str) -> None:
    done = run_storescu(node.port, files, options=("-v", "-R", *options))
    assert done.returncode == 0, done.stderr


def duplicate_slice(files) -> None:
    """Make two slices of a series the same pixels under different UIDs, which no scanner does."""
    source, target = dcmread(files[2]), dcmread(files[5])
    target.PixelData = source.PixelData
    target.save_as(files[5], enforce_file_format=True)


class Webhook:
    def __init__(self):
        self.bodies: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def webhook():
    hook = Webhook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, webhook):
    """A node between DCMTK's senders and two PACS."""
    folder = tmp_path_factory.mktemp("site")
    with storescp(folder / "storescp", options=()) as dcmtk, orthanc(folder / "orthanc") as other:
        destinations = {"dcmtk": ("STORESCP", dcmtk.port), "orthanc": ("ORTHANC", other.dicom_port)}
        config = write_config(folder / "node", destinations, extra=f'\n[webhook]\nurl = "{webhook.url}"\n')
        with running(config) as node:
            yield node, dcmtk, other


@needs_dcmtk
@needs_orthanc
@pytest.mark.parametrize("syntax", PROPOSE, ids=lambda uid: uid.name.split(",")[0])
def test_what_a_scanner_sends_reaches_both_pacs_bit_for_bit(site, tmp_path, syntax):
    node, dcmtk, other = site
    files = make_instances(tmp_path, 4, transfer_syntax=syntax)
    expected = {str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): dataset_bytes(file) for file in files}
    send(node, files, PROPOSE[syntax])
    study = node.wait_for(study_of(files), "delivered")
    assert study["verdict"] == "CLEAN"
    stored = other.data_sets()
    assert {uid: stored[uid] for uid in expected} == expected
    if syntax == ExplicitVRLittleEndian:  # this storescp was started for uncompressed syntaxes alone
        assert set(expected.values()) <= set(dcmtk.data_sets())
    else:
        shown = node.ask("studies", "show", str(study["id"]))
        assert {one["destination"]: one["state"] for one in shown["deliveries"]} == {
            "dcmtk": "delivered",
            "orthanc": "delivered",
        }


@needs_dcmtk
@needs_orthanc
def test_a_suspected_study_is_held_shown_announced_and_released_by_a_person(site, tmp_path, webhook):
    node, dcmtk, _ = site
    files = make_instances(tmp_path, 8)
    duplicate_slice(files)
    send(node, files)
    study = node.wait_for(study_of(files), "held")
    assert (study["verdict"], study["kinds"]) == ("SUSPECTED", ["integrity"])
    assert not {dataset_bytes(file) for file in files} & set(dcmtk.data_sets())
    assert [one["id"] for one in node.ask("quarantine", "list")] == [study["id"]]

    shown = node.ask("quarantine", "show", str(study["id"]))
    assert "pixel for pixel" in shown["findings"][0]["sentence"]
    evidence = json.loads((node.data_dir / shown["assessment"]["evidence"] / "evidence.json").read_text())
    assert len(evidence["instances"]) == 8

    body = wait_until(lambda: next((b for b in webhook.bodies if b["study"] == study["id"]), None), seconds=20)
    assert (body["event"], body["kinds"]) == ("study_quarantined", ["integrity"])
    patient = dcmread(files[0], stop_before_pixels=True)
    assert str(patient.PatientName) not in json.dumps(body)
    assert study["study_uid"] not in json.dumps(body)

    refused = node.command("quarantine", "release", str(study["id"]), "--by", " ", "--reason", "x", check=False)
    assert refused.returncode == 78
    node.command("quarantine", "release", str(study["id"]), "--by", "Dr. A", "--reason", "re-sent by the scanner")
    node.wait_for(study["study_uid"], "delivered")
    assert {dataset_bytes(file) for file in files} <= set(dcmtk.data_sets())
    done = node.ask("studies", "show", str(study["id"]))["actions"]
    assert [(one["action"], one["who"], one["reason"]) for one in done] == [
        ("release", "Dr. A", "re-sent by the scanner")
    ]


@needs_dcmtk
@needs_orthanc
def test_a_rejected_study_stays_and_the_ledger_says_so(site, tmp_path):
    node, dcmtk, _ = site
    files = make_instances(tmp_path, 8)
    duplicate_slice(files)
    send(node, files)
    study = node.wait_for(study_of(files), "held")
    node.command("quarantine", "reject", str(study["id"]), "--by", "Dr. B", "--reason", "confirmed")
    assert node.studies()[study["study_uid"]]["state"] == "rejected"
    assert not {dataset_bytes(file) for file in files} & set(dcmtk.data_sets())
    ledger = node.ask("ledger", "--deep")
    assert ledger["adds_up"]
    assert ledger["sources"][0]["held"] >= 8


@needs_dcmtk
@needs_orthanc
def test_a_late_instance_is_assessed_and_delivered_too(site, tmp_path):
    node, dcmtk, _ = site
    files = make_instances(tmp_path, 6)
    send(node, files[:5])
    study = node.wait_for(study_of(files), "delivered")
    send(node, files[5:])
    wait_until(lambda: dataset_bytes(files[5]) in dcmtk.data_sets(), seconds=60)
    assert node.wait_for(study["study_uid"], "delivered")["instances"] == 6


@needs_dcmtk
@needs_orthanc
def test_a_duplicate_is_counted_and_the_same_uid_with_other_pixels_is_held(site, tmp_path):
    node, _, _ = site
    files = make_instances(tmp_path, 6)
    send(node, files)
    study = node.wait_for(study_of(files), "delivered")
    before = node.ask("ledger")["sources"][0]
    send(node, files[:1])
    after = node.ask("ledger")["sources"][0]
    assert (after["duplicates"], after["received"]) == (before["duplicates"] + 1, before["received"])

    altered = dcmread(files[0])
    altered.PixelData = bytes(reversed(altered.PixelData))
    altered.save_as(files[0], enforce_file_format=True)
    send(node, files[:1])
    held = node.wait_for(study["study_uid"], "held")
    assert held["kinds"] == ["integrity"]


@needs_dcmtk
@needs_orthanc
def test_dcmsend_and_echoscu_are_served_and_strangers_are_not(site, tmp_path):
    node, _, _ = site
    assert run_echoscu(node.port).returncode == 0
    assert run_echoscu(node.port, calling="STRANGER").returncode != 0
    assert run_echoscu(node.port, called="OTHER").returncode != 0
    files = make_instances(tmp_path, 3)
    assert run_dcmsend(node.port, files).returncode == 0
    node.wait_for(study_of(files), "delivered")
    metrics = node.metrics()
    assert 'pacs_guard_associations_refused_total{reason="' in metrics
    assert 'pacs_guard_received_instances_total{outcome="stored",source="ct-1",status="0x0000"}' in metrics


@needs_dcmtk
@needs_orthanc
def test_counters_survive_the_restart_of_a_role(site, tmp_path):
    node, _, _ = site

    def stored() -> float:
        lines = [line for line in node.metrics().splitlines() if line.startswith("pacs_guard_received_instances_total")]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    before = stored()
    old = node.pid("receive")
    assert node.kill("receive")
    wait_until(lambda: node.pid("receive") not in {old, None} and run_echoscu(node.port).returncode == 0, seconds=60)
    files = make_instances(tmp_path, 2)
    send(node, files)
    assert stored() == before + 2


@needs_dcmtk
@needs_orthanc
def test_reading_commands_answer_people_and_machines(site):
    node, _, _ = site
    assert "roles heard of: deliver" in node.command("status").stdout
    assert set(node.ask("status")["roles"]) == {"receive", "detect", "deliver", "ops"}
    assert "it adds up" in node.command("ledger").stdout
    found = {one["what"]: one["ok"] for one in node.ask("doctor")}
    assert all(found.values()), found
    assert "destination orthanc" in found
    unknown = node.command("studies", "show", "4711", check=False)
    assert unknown.returncode == 1
    assert "there is no study '4711'" in unknown.stderr
    assert "Traceback" not in unknown.stderr


@needs_dcmtk
def test_one_dead_pacs_delays_no_other_and_gets_its_study_when_it_is_back(tmp_path):
    port = free_port()
    with storescp(tmp_path / "alive") as alive:
        config = write_config(tmp_path / "node", {"dead": ("STORESCP", port), "alive": ("STORESCP", alive.port)})
        with running(config) as node:
            files = make_instances(tmp_path / "in", 3)
            send(node, files)
            wait_until(lambda: len(alive.files()) == 3, seconds=60)
            study = node.wait_for(study_of(files), "forwarding")
            ends = {d["destination"]: d["state"] for d in node.ask("studies", "show", str(study["id"]))["deliveries"]}
            assert ends == {"dead": "pending", "alive": "delivered"}
            with storescp(tmp_path / "dead", port=port) as back:
                node.wait_for(study["study_uid"], "delivered")
                assert sorted(back.data_sets()) == sorted(dataset_bytes(file) for file in files)


@needs_dcmtk
def test_a_clean_series_is_judged_by_the_forensic_detector_and_arrives(tmp_path):
    files = write_series(make_phantom(slices=24, size=256, seed=5), tmp_path / "in", description="clean")
    with storescp(tmp_path / "pacs") as pacs:
        config = write_config(tmp_path / "node", {"pacs": ("STORESCP", pacs.port)}, detectors=("integrity", "forensic"))
        with running(config) as node:
            send(node, files)
            study = node.wait_for(study_of(files), "delivered", "held")
            shown = node.ask("studies", "show", str(study["id"]))
            assert (study["state"], study["verdict"]) == ("delivered", "CLEAN"), shown
            assert set(shown["assessment"]["bundles"]) == {"integrity", "forensic"}
            assert 'pacs_guard_detector_score_count{detector="forensic"} 1.0' in node.metrics()


def serve(config, *, environment=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pacs_guard", "serve", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def test_an_occupied_port_ends_the_node_with_a_sentence(tmp_path):
    config = write_config(tmp_path / "node", {"pacs": ("PACS", free_port())})
    port = int(config.read_text().split("port = ")[1].split("\n")[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = serve(config)
    assert done.returncode == 78
    assert f"port {port}: another program listens there" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_ends_the_node_with_every_problem(tmp_path):
    config = write_config(tmp_path / "node", {"pacs": ("PACS", 0)}, quiet=-1)
    done = serve(config)
    assert done.returncode == 78
    assert "destinations.0.port: 0 was given" in done.stderr
    assert "completeness.quiet_seconds: -1" in done.stderr


def test_a_bundle_that_is_none_ends_the_node_with_a_sentence(tmp_path):
    config = write_config(tmp_path / "node", {"pacs": ("PACS", free_port())}, detectors=("integrity", "nonsense"))
    done = serve(config)
    assert done.returncode == 78
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_ends_the_node_with_a_sentence(tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "data").write_text("a file where the folder should be")
    config = write_config(tmp_path / "node", {"pacs": ("PACS", free_port())})
    done = serve(config)
    assert done.returncode == 78
    assert "node.data_dir" in done.stderr
    assert "Traceback" not in done.stderr
