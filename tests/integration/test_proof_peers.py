"""Storage commitment and counts with real peers: Orthanc both ways, and DCMTK's archive."""

from __future__ import annotations

import httpx
import pytest

from tests.integration import peers
from tests.integration.peers import dcmtk, needs_orthanc, orthanc
from tests.integration.proving import FAST, SOON, Guard
from tests.integration.test_proof import PROVED, study


def orthanc_destination(port: int, **proof) -> dict:
    settings = {**FAST, "wait_seconds": 3.0, "timeout_seconds": 30.0, **proof}
    return {"name": "pacs", "ae_title": "ORTHANC", "port": port, "retry": SOON.model_dump(), "proof": settings}


def modalities(guard_port: int) -> dict:
    return {"DicomModalities": {"guard": ["PACSGUARD", "127.0.0.1", guard_port]}}


@needs_orthanc
def test_orthanc_proves_what_it_took_and_gets_what_it_lost_again(tmp_path):
    dicom_port = peers.free_port()
    guard = Guard(tmp_path / "node", orthanc_destination(dicom_port, method="commitment", delay_seconds=0.6))
    contents, _ = study(3)
    with orthanc(tmp_path / "orthanc", dicom_port=dicom_port, **modalities(guard.port)) as pacs, guard.running():
        number = guard.forward(*contents)
        guard.wait_for(number, "delivered")
        lost = pacs.instances()[0]
        httpx.delete(f"http://127.0.0.1:{pacs.http_port}/instances/{lost}").raise_for_status()
        guard.wait_for_proofs(PROVED, PROVED, PROVED)
        assert len(pacs.instances()) == 3
        assert guard.state(number) == "delivered"
        assert len(guard.transactions()) == 2


@needs_orthanc
def test_orthanc_is_counted_where_commitment_is_not_wanted(tmp_path):
    dicom_port = peers.free_port()
    guard = Guard(tmp_path / "node", orthanc_destination(dicom_port, method="count", attempts=2, timeout_seconds=0.1))
    contents, _ = study(3)
    with (
        orthanc(tmp_path / "orthanc", dicom_port=dicom_port, DicomAlwaysAllowFind=True, **modalities(guard.port)),
        guard.running(),
    ):
        guard.forward(*contents)
        guard.wait_for_proofs(PROVED, PROVED, PROVED)
        assert guard.transactions() == []


@needs_orthanc
def test_orthanc_asks_the_node_and_is_told(tmp_path):
    dicom_port = peers.free_port()
    source = {"ae_titles": ["CT1", "ORTHANC"], "commitment": {"holder": "node", "port": dicom_port}}
    guard = Guard(tmp_path / "node", orthanc_destination(peers.free_port()), source=source)
    contents, uids = study(2)
    guard.receive(contents[0])
    with orthanc(tmp_path / "orthanc", dicom_port=dicom_port, **modalities(guard.port)) as scu, guard.running():
        references = [["1.2.840.10008.5.1.4.1.1.2", uid] for uid in uids]
        url = f"http://127.0.0.1:{scu.http_port}/modalities/guard/storage-commitment"
        asked = httpx.post(url, json={"DicomInstances": references}, timeout=30).raise_for_status().json()
        report = peers.wait_until(
            lambda: (found := scu.get(asked["Path"]).json())["Status"] != "Pending" and found, what="the report"
        )
        assert report["Status"] == "Failure"
        assert [one["SOPInstanceUID"] for one in report["Success"]] == [uids[0]]
        [failure] = report["Failures"]
        assert failure["SOPInstanceUID"] == uids[1]
        assert "was not available" in failure["Description"]  # its words for 0x0112


DCMQRSCP = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
guard = (PACSGUARD, localhost, {guard_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {folder} RW (200, 1024mb) ANY
AETable END
"""


@pytest.mark.peer
@pytest.mark.skipif(dcmtk("dcmqrscp") is None, reason="DCMTK is not installed: dcmqrscp not found")
def test_dcmtk_archive_lists_what_it_has(tmp_path):
    port, folder = peers.free_port(), tmp_path / "archive"
    folder.mkdir()
    guard = Guard(tmp_path / "node", {**orthanc_destination(port), "ae_title": "ARCHIVE"})
    file = tmp_path / "dcmqrscp.cfg"
    file.write_text(DCMQRSCP.format(port=port, guard_port=guard.port, folder=folder))
    contents, _ = study(3)
    log = tmp_path / "dcmqrscp.log"
    with peers._process([dcmtk("dcmqrscp"), "-c", str(file)], log) as process:
        peers._wait_for_port(process, port, log)
        with guard.running():
            guard.forward(*contents)
            guard.wait_for_proofs(PROVED, PROVED, PROVED)
