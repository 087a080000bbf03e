"""What a suspected study leaves outside the node: results at a review station, and its trail at an audit repository."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager
from xml.etree import ElementTree as ET

from pydicom import dcmread

from pacs_guard.deliver.results.objects import make_objects
from tests.integration.node import running, write_config
from tests.integration.peers import (
    dataset_bytes,
    needs_dcmtk,
    needs_orthanc,
    orthanc,
    run_storescu,
    storescp,
    wait_until,
)
from tests.integration.samples import make_instances
from tests.integration.test_node import duplicate_slice, send, study_of
from tests.unit.deliver.results.conftest import finding, instance, notice, write_study
from tests.unit.ops.audit_schema import problems

COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
RESULTS = """
[results.destination]
name = "review"
ae_title = "REVIEW"
port = {review}

[audit]
host = "127.0.0.1"
port = {repository}
transport = "udp"
include_patient_id = true
"""


@contextmanager
def repository():
    """Collects the audit messages of the datagrams that come in."""
    documents: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        stop = threading.Event()

        def collect():
            while not stop.is_set():
                try:
                    documents.append(server.recv(65536).partition(b"\xef\xbb\xbf")[2])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=collect)
        thread.start()
        try:
            yield server.getsockname()[1], documents
        finally:
            stop.set()
            thread.join()


def told(documents: list[bytes]) -> list[tuple[str, ...]]:
    """Event and type codes of each message, in order."""
    events = [ET.fromstring(one).find("EventIdentification") for one in documents]  # noqa: S314  # the node's own
    return [tuple(code.get("csd-code") for code in event if code.tag != "EventOutcomeDescription") for event in events]


def bypassed_and_found_late(node, folder, pacs):
    """While the detector does not answer, a person lets a study through; it is judged when the detector is back."""
    files = make_instances(folder, 8)
    duplicate_slice(files)
    unknown = node.command("bypass", "on", "--source", "ct-9", "--by", "Dr. B", "--reason", "x", check=False)
    assert unknown.returncode == 78
    detector = node.pid("detect")
    os.kill(detector, signal.SIGSTOP)
    try:
        node.command("bypass", "on", "--source", "ct-1", "--by", "Dr. B", "--reason", "detector stands still")
        send(node, files)
        study = node.wait_for(study_of(files), "delivered")
        assert (study["verdict"], study["bypassed"], len(pacs.files())) == ("UNDETERMINED", True, 8)
        assert node.ask("status")["bypass_on"] == ["ct-1"]
        node.command("bypass", "off", "--source", "ct-1", "--by", "Dr. B", "--reason", "repaired")
    finally:
        os.kill(detector, signal.SIGCONT)
    found = wait_until(
        lambda: (one := node.studies()[study["study_uid"]])["verdict"] == "SUSPECTED" and one,
        seconds=60,
        what="a verdict",
    )
    assert (found["state"], found["bypassed"]) == ("delivered", True)
    assert "pacs_guard_late_findings_total 1.0" in node.metrics()
    assert [turn["switched_on"] for turn in node.ask("bypass", "list")] == [True, False]


@needs_dcmtk
@needs_orthanc
def test_a_suspected_study_leaves_results_and_its_trail(tmp_path):
    files = make_instances(tmp_path / "study", 8)
    duplicate_slice(files)
    patient = dcmread(files[0], stop_before_pixels=True)
    with (
        storescp(tmp_path / "pacs", options=()) as pacs,
        orthanc(tmp_path / "review", ae_title="REVIEW") as review,
        repository() as (port, documents),
    ):
        extra = RESULTS.format(review=review.dicom_port, repository=port)
        config = write_config(tmp_path / "node", {"pacs": ("STORESCP", pacs.port)}, extra=extra)
        with running(config) as node:
            assert run_storescu(node.port, files, calling="STRANGER").returncode != 0
            send(node, files)
            study = node.wait_for(study_of(files), "held")
            node.command("quarantine", "reject", str(study["id"]), "--by", "Dr. B", "--reason", "confirmed")
            wait_until(review.instances, seconds=30, what="results at the review station")
            wait_until(lambda: ("110113", "110135", "rejected") in told(documents), seconds=15, what="the rejection")
            [file] = (node.data_dir / "evidence").glob("*/report.dcm")
            assert list(review.data_sets().values()) == [dataset_bytes(file)]
            assert pacs.files() == []
            bypassed_and_found_late(node, tmp_path / "other", pacs)
            wait_until(lambda: ("110113", "late-finding") in told(documents), seconds=15, what="the late finding")
    # what happened after the ops role ended waits for its next start
    exported = [line.encode() for line in node.command("audit", "export").stdout.splitlines()]
    assert told(exported).count(("110100", "110120")) == told(exported).count(("110100", "110121")) == 4
    assert [problem for one in exported for problem in problems(one)] == []
    report = dcmread(file)
    assert (report.SOPClassUID, report.StudyInstanceUID) == (COMPREHENSIVE_SR, study["study_uid"])
    assert (report.PatientID, report.PatientName) == (patient.PatientID, patient.PatientName)

    assert [problem for one in documents for problem in problems(one)] == []
    events = told(documents)
    of_study = [
        ("110104",),
        ("110103", "assessed"),
        ("110113", "110135", "quarantined"),
        ("110113", "110135", "rejected"),
    ]
    assert [event for event in events if event in of_study][:4] == of_study
    assert {("110100", "110120"), ("110113", "110131"), ("110113", "110126")} <= set(events)
    everything = b"".join(documents)
    assert str(patient.PatientName).encode() not in everything
    assert str(patient.PatientID).encode() in everything  # as asked for
    assert b"calling_ae_title" in everything  # the stranger


@needs_dcmtk
@needs_orthanc
def test_orthanc_takes_report_and_picture_and_shows_the_picture(tmp_path):
    study = write_study(tmp_path / "data", [instance(1), instance(2)], [finding(), notice()])
    made = make_objects(study.result, study.data_dir, study.spool_dir, node="PACSGUARD")
    with orthanc(tmp_path / "orthanc") as review:
        done = run_storescu(review.dicom_port, [study.data_dir / one.path for one in made], called="ORTHANC")
        assert done.returncode == 0, done.stderr
        assert sorted(review.data_sets()) == sorted(one.key.sop_uid for one in made)
        series = [review.get(f"/series/{one}").json()["MainDicomTags"] for one in review.get("/series").json()]
        assert sorted(one["Modality"] for one in series) == ["OT", "SR"]
        previews = [
            review.get(f"/instances/{one}/preview")
            for one in review.instances()
            if review.get(f"/instances/{one}/tags?simplify").json()["Modality"] == "OT"
        ]
        assert [one.headers["Content-Type"] for one in previews] == ["image/png"]
        assert len(review.get("/patients").json()) == 1
