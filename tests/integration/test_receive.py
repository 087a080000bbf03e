"""Receiving from real peers: DCMTK's storescu, dcmsend and echoscu, and an SCU that misbehaves on purpose."""

from __future__ import annotations

import hashlib
import select
import socket
import sqlite3
import threading
import time
from contextlib import closing

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import Verification

from pacs_guard.errors import CommitUnknownError, QueueError, QueueUnavailableError, SpoolFullError, SupervisionError
from pacs_guard.queue import schema
from pacs_guard.spool.held import IncomingRecord
from pacs_guard.spool.incoming import IncomingFile
from tests.integration import receiving
from tests.integration.peers import (
    dataset_bytes,
    is_listening,
    needs_dcmtk,
    run_dcmsend,
    run_echoscu,
    run_storescu,
    wait_until,
)
from tests.integration.receiving import associate, associated, node, request_fragments, send_raw
from tests.integration.samples import OPAQUE, SENDABLE, encoded, make_data_set, make_instances

PRIVATE_SOP_CLASS = "1.2.826.0.1.3680043.9.3811.99.1"
STORESCU_OPTIONS = {
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    DeflatedExplicitVRLittleEndian: "-xd",
    RLELossless: "-xr",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEG2000Lossless: "-xv",
}

# before they are sent, to another uncompressed syntax
CONVERTED_BY_DCMSEND = {ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}


@pytest.fixture(autouse=True, params=["fast", "stock", "fast, a file for each"])
def transport(request, monkeypatch):
    """How the node of each test reads the network and keeps instances: whatever holds for one must hold for all."""
    transport, _, files = request.param.partition(",")
    monkeypatch.setattr(receiving, "TRANSPORT", transport)
    if files:
        monkeypatch.setattr(receiving, "SEGMENT_BYTES", 0)


def a_slice(number: int = 1, **how):
    return make_data_set("1.2.3.100", "1.2.3.200", number, **how)


def refused_with(running) -> int:
    (refusal,) = running.refusals()
    return refusal["status"]


# what comes in is what lies in the spool


@needs_dcmtk
@pytest.mark.parametrize(
    ("sender", "syntax"),
    [("storescu", syntax) for syntax in SENDABLE]
    + [("dcmsend", syntax) for syntax in SENDABLE if syntax not in CONVERTED_BY_DCMSEND],
    ids=lambda value: getattr(value, "keyword", value),
)
def test_instances_are_kept_byte_for_byte(tmp_path, sender, syntax):
    files = make_instances(tmp_path / "in", 3, transfer_syntax=syntax)
    with node(tmp_path) as running:
        if sender == "storescu":
            sent = run_storescu(running.port, files, options=("-v", "-R", STORESCU_OPTIONS[syntax]))
        else:
            sent = run_dcmsend(running.port, files)
        assert sent.returncode == 0, sent.stderr
        rows = running.instances()
        assert {row["transfer_syntax_uid"] for row in rows} == {syntax}
        expected = {dataset_bytes(file) for file in files}
        if syntax == DeflatedExplicitVRLittleEndian:  # DCMTK deflates anew
            assert [dcmread(running.spool.content_at(row["path"])).PixelData for row in rows] == [
                dcmread(file).PixelData for file in files
            ]
        else:
            assert set(running.data_sets()) == expected
        assert [row["sha256"] for row in rows] == [hashlib.sha256(data).hexdigest() for data in running.data_sets()]
    assert running.files("incoming") == []


@pytest.mark.parametrize("syntax", [*SENDABLE, *OPAQUE], ids=lambda uid: uid.keyword)
def test_bytes_on_the_wire_are_the_bytes_in_the_spool(tmp_path, syntax):
    (file,) = make_instances(tmp_path / "in", 1, transfer_syntax=syntax)
    content = dataset_bytes(file)
    with node(tmp_path) as running:
        with associated(running.port, transfer_syntaxes=(syntax,)) as association:
            assert send_raw(association, content, sop_uid=dcmread(file).SOPInstanceUID).Status == 0x0000
        assert running.data_sets() == [content]
        head = dcmread(running.spool.content_at(running.instances()[0]["path"]), stop_before_pixels=True).file_meta
        assert (head.TransferSyntaxUID, head.MediaStorageSOPInstanceUID) == (syntax, dcmread(file).SOPInstanceUID)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_identifiers_that_are_no_uids_are_kept_for_the_detectors(tmp_path):
    data_set = a_slice()
    data_set.SOPInstanceUID = "slice_0001"
    with node(tmp_path) as running, associated(running.port) as association:
        assert send_raw(association, encoded(data_set), sop_uid="slice_0001").Status == 0x0000
        assert running.instances()[0]["sop_uid"] == "slice_0001"


def test_first_transfer_syntax_of_the_proposer_is_taken(tmp_path):
    proposed = (JPEG2000Lossless, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    with node(tmp_path) as running:
        for order in (proposed, proposed[::-1]):
            with associated(running.port, transfer_syntaxes=order) as association:
                assert association.accepted_contexts[0].transfer_syntax == [order[0]]


def test_transfer_syntax_that_cannot_be_kept_is_passed_over(tmp_path):
    with (
        node(tmp_path) as running,
        associated(running.port, transfer_syntaxes=("1.2.840.10008.1.2.4.94", ExplicitVRLittleEndian)) as association,
    ):
        assert association.accepted_contexts[0].transfer_syntax == [ExplicitVRLittleEndian]


def test_two_associations_send_one_study_in_parallel(tmp_path):
    slices = [a_slice(number) for number in range(1, 41)]

    def send(part, failures):
        with associated(running.port) as association:
            for data_set in part:
                status = send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status
                failures.extend([status] if status else [])

    with node(tmp_path) as running:
        failures: list[int] = []
        threads = [threading.Thread(target=send, args=(part, failures)) for part in (slices[::2], slices[1::2])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(running.data_sets()) == sorted(map(encoded, slices))
        (study,) = running.rows(schema.studies)
        assert study["received_count"] == 40


# what came before


def test_duplicate_is_acknowledged_and_counted_but_kept_once(tmp_path):
    data_set = a_slice()
    with node(tmp_path) as running, associated(running.port) as association:
        for _ in range(2):
            assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
        assert [row["duplicates"] for row in running.instances()] == [1]
        assert len(running.files()) == 1
        assert [outcome for _, outcome, _, _ in running.metrics.instances] == ["stored", "duplicate"]
        assert running.data_sets() == [encoded(data_set)]


def test_same_uid_with_other_pixels_is_kept_beside_the_first(tmp_path):
    first, second = a_slice(seed=1), a_slice(seed=2)
    assert first.SOPInstanceUID == second.SOPInstanceUID
    with node(tmp_path) as running, associated(running.port) as association:
        for data_set in (first, second):
            assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
        assert [outcome for _, outcome, _, _ in running.metrics.instances] == ["stored", "conflict"]
        assert running.data_sets() == [encoded(first), encoded(second)]


# what is refused


def unfinished(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        pytest.param(b"", 0xC000, "empty", id="empty"),
        pytest.param(unfinished(encoded(a_slice())), 0xC000, "cut short", id="cut short"),
        pytest.param(bytes(range(256)) * 40, 0xC000, "cut short", id="garbage"),
        pytest.param(bytes(4000), 0xC000, "has no place", id="zeros"),
        pytest.param(encoded(a_slice(2)), 0xA900, "SOPInstanceUID differs", id="another instance"),
    ],
)
def test_data_set_that_cannot_be_kept_is_refused_and_set_aside(tmp_path, content, status, reason):
    with node(tmp_path) as running, associated(running.port) as association:
        response = send_raw(association, content, sop_uid=a_slice().SOPInstanceUID)
        assert response.Status == status
        assert reason in response.ErrorComment
        assert len(response.ErrorComment) <= 64
        (refusal,) = running.refusals()
        assert (refusal["status"], refusal["source"], refusal["calling_ae"]) == (status, "ct1", "TESTSCU")
        assert reason in refusal["reason"]
        assert running.instances() == []
        assert running.files() == running.files("incoming") == []
        if content:
            assert dataset_bytes(running.spool.root / refusal["path"]) == content
        assert running.metrics.instances == [("ct1", "refused", status, len(content))]
        # the association goes on
        whole = a_slice()
        assert send_raw(association, encoded(whole), sop_uid=whole.SOPInstanceUID).Status == 0x0000


def test_request_without_a_data_set_is_refused(tmp_path):
    with node(tmp_path) as running, associated(running.port) as association:
        assert send_raw(association, None).Status == 0xC000
        assert refused_with(running) == 0xC000


def test_request_without_an_instance_uid_is_answered(tmp_path):
    with node(tmp_path) as running, associated(running.port) as association:
        response = send_raw(association, encoded(a_slice()), sop_uid=None)
        assert (response.Status, response.ErrorComment) == (0xC000, "Affected SOP Instance UID is missing")
        assert refused_with(running) == 0xC000
        assert len(running.files("refused")) == 1


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("change", ["missing", "empty"])
def test_data_set_without_its_uids_is_refused(tmp_path, keyword, change):
    data_set = a_slice()
    sop_uid = data_set.SOPInstanceUID
    if change == "missing":
        delattr(data_set, keyword)
    else:
        setattr(data_set, keyword, "")
    with node(tmp_path) as running, associated(running.port) as association:
        response = send_raw(association, encoded(data_set), sop_uid=sop_uid)
        assert (response.Status, keyword in response.ErrorComment) == (0xA900, True)


def test_oldest_refused_objects_make_room_for_new_ones(tmp_path):
    with node(tmp_path, max_refused_bytes=5000) as running, associated(running.port) as association:
        for _ in range(5):
            assert send_raw(association, bytes(2000)).Status == 0xC000
        assert len(running.files("refused")) == 2
        assert len(running.refusals()) == 5


def test_sop_class_other_than_the_contexts_is_refused(tmp_path):
    with node(tmp_path) as running, associated(running.port) as association:
        response = send_raw(association, encoded(a_slice()), sop_class="1.2.840.10008.5.1.4.1.1.4")
        assert response.Status == 0x0122
        assert refused_with(running) == 0x0122


def test_private_sop_class_is_taken_only_where_that_is_set(tmp_path):
    data_set = a_slice()
    data_set.SOPClassUID = PRIVATE_SOP_CLASS
    with node(tmp_path / "strict") as running:
        association = associate(running.port, sop_classes=(PRIVATE_SOP_CLASS, CTImageStorage))
        assert [context.abstract_syntax for context in association.accepted_contexts] == [CTImageStorage]
        association.release()
    with node(tmp_path / "open", unknown_sop_classes=True) as running:
        with associated(running.port, sop_classes=(PRIVATE_SOP_CLASS,)) as association:
            content, uid = encoded(data_set), data_set.SOPInstanceUID
            assert send_raw(association, content, sop_uid=uid, sop_class=PRIVATE_SOP_CLASS).Status == 0x0000
        assert running.data_sets() == [content]


def test_services_other_than_storage_are_not_offered_even_where_unknown_classes_are(tmp_path):
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    with node(tmp_path, unknown_sop_classes=True) as running:
        association = associate(running.port, sop_classes=(find, Verification))
        assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
        assert association.send_c_echo().Status == 0x0000
        association.release()


# who may call


@needs_dcmtk
def test_echo_is_answered(tmp_path):
    with node(tmp_path) as running:
        assert run_echoscu(running.port).returncode == 0


@needs_dcmtk
def test_unknown_caller_is_told_so(tmp_path):
    with node(tmp_path) as running:
        told = run_echoscu(running.port, calling="STRANGER")
        assert told.returncode != 0
        assert "Calling AE Title Not Recognized" in told.stderr + told.stdout
        wait_until(lambda: running.metrics.refused == ["calling_ae_title"], what="the refusal is counted")
        assert running.metrics.opened == []


@needs_dcmtk
def test_wrong_called_ae_title_is_refused_unless_any_is_allowed(tmp_path):
    with node(tmp_path / "strict") as running:
        told = run_echoscu(running.port, called="SOMEBODY")
        assert "Called AE Title Not Recognized" in told.stderr + told.stdout
        assert running.metrics.refused == ["called_ae_title"]
    with node(tmp_path / "open", require_called_ae_title=False) as running:
        assert run_echoscu(running.port, called="SOMEBODY").returncode == 0


def rejection(association) -> tuple[int, int, int]:
    assert association.is_rejected
    primitive = association.acceptor.primitive
    return primitive.result, primitive.result_source, primitive.diagnostic


def test_caller_from_another_network_is_refused_for_good(tmp_path):
    with node(tmp_path, source={"addresses": ["10.9.0.0/16"]}) as running:
        assert rejection(associate(running.port)) == (1, 1, 1)
        assert running.metrics.refused == ["address"]


def test_association_above_the_limit_is_refused_for_now(tmp_path):
    with node(tmp_path, max_associations=2) as running:
        first, second = associate(running.port), associate(running.port)
        assert rejection(associate(running.port)) == (2, 3, 2)
        assert running.metrics.refused == ["too_many_associations"]
        first.release()
        wait_until(lambda: running.receiver.open_associations == 1, what="the end of an association")
        third = associate(running.port)
        assert third.is_established
        second.release()
        third.release()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sources_own_limit_leaves_room_for_the_others(tmp_path, processes):
    source = {"ae_titles": ["TESTSCU"], "max_associations": 2}
    others = [{"name": "other", "ae_titles": ["OTHER"]}]
    with node(tmp_path, source=source, sources=others, max_associations=6, processes=processes) as running:
        opened = [associate(running.port) for _ in range(2)]
        assert rejection(associate(running.port)) == (2, 3, 2)
        assert running.metrics.refused == ["too_many_associations_of_source"]
        other = associate(running.port, calling="OTHER")
        assert other.is_established
        opened.pop().release()
        wait_until(lambda: running.receiver.open_associations == 2, what="the end of an association")
        opened.append(associate(running.port))
        assert opened[-1].is_established
        for association in (*opened, other):
            association.release()


def test_association_is_refused_for_now_when_the_disk_is_nearly_full(tmp_path, monkeypatch):
    with node(tmp_path, min_free_bytes=10**6) as running:
        monkeypatch.setattr(running.spool, "free_bytes", lambda: 10**5)
        assert rejection(associate(running.port)) == (2, 3, 2)
        assert running.metrics.refused == ["disk_watermark"]


def test_association_is_refused_for_now_when_the_queue_does_not_answer(tmp_path, monkeypatch):
    def unavailable(*_args, **_options):
        raise QueueUnavailableError("the database did not answer: locked")

    with node(tmp_path) as running:
        monkeypatch.setattr(running.intake, "open_association", unavailable)
        assert rejection(associate(running.port)) == (2, 3, 1)
        assert running.metrics.refused == ["database_unavailable"]
        assert running.receiver.open_associations == 0


def test_silent_connections_keep_nobody_out(tmp_path):
    with node(tmp_path, max_associations=3, acse_timeout_seconds=60) as running:
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(8)]
        waiting = running.receiver._handlers.waiting
        wait_until(lambda: len(waiting) == 3, what="the oldest connections are closed")
        with associated(running.port) as association:
            assert association.is_established
            assert len(waiting) <= 3
        # each connection has a thread of its own, so that which came first is known to about one
        closed = [connection for connection in silent if select.select([connection], [], [], 0)[0]]
        assert len(closed) >= 5
        assert {connection.recv(10) for connection in closed} == {b""}
        for connection in silent:
            connection.close()
        wait_until(lambda: len(waiting) == 0, what="the others are gone")


def test_receivers_that_share_a_port_share_the_limit_and_the_work(tmp_path):
    with node(tmp_path, processes=2, max_associations=6) as running:
        second = running.another("test-2")
        try:
            opened = [associate(running.port) for _ in range(6)]
            assert all(association.is_established for association in opened)
            assert running.receiver.open_associations + second.open_associations == 6
            assert rejection(associate(running.port)) == (2, 3, 2)
            for number, association in enumerate(opened, start=1):
                data_set = a_slice(number)
                assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
                association.release()
            assert len(running.instances()) == 6
        finally:
            second.stop(5)


# what goes wrong here


def test_instance_is_answered_out_of_resources_below_the_watermark(tmp_path, monkeypatch):
    data_set = a_slice()
    with node(tmp_path, min_free_bytes=10**6) as running, associated(running.port) as association:
        monkeypatch.setattr(running.spool, "free_bytes", lambda: 10**5)
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0xA700
        assert running.files() == running.files("incoming") == running.files("refused") == []
        monkeypatch.undo()
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000


@pytest.mark.parametrize("step", ["write", "place"])
def test_full_disk_is_answered_and_leaves_nothing(tmp_path, monkeypatch, step):
    def full(*_):
        raise SpoolFullError("a received instance cannot be stored: No space left on device")

    data_set = a_slice()
    with node(tmp_path) as running, associated(running.port) as association:
        monkeypatch.setattr(IncomingRecord if receiving.SEGMENT_BYTES else IncomingFile, step, full)
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0xA700
        assert running.files() == running.files("incoming") == []
        monkeypatch.undo()
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
        assert running.data_sets() == [encoded(data_set)]


@pytest.mark.parametrize(
    ("error", "status", "files_left"),
    [
        (QueueUnavailableError("the database did not answer: locked"), 0xA700, 0),
        (CommitUnknownError("the database did not answer: gone"), 0xA700, 1),
        (QueueError("the database refused a row"), 0x0110, 1),
        (RuntimeError("a fault"), 0x0110, 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failing_queue_is_answered_and_what_may_be_known_stays(tmp_path, monkeypatch, error, status, files_left):
    def fail(*_args, **_options):
        raise error

    data_set = a_slice()
    with node(tmp_path) as running, associated(running.port) as association:
        monkeypatch.setattr(running.intake, "record_all", fail)
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == status
        assert len(running.files()) == files_left
        monkeypatch.undo()
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
        assert running.data_sets() == [encoded(data_set)]


def test_locked_database_is_answered_out_of_resources(tmp_path, monkeypatch):
    monkeypatch.setattr("pacs_guard.queue.database._BUSY_TIMEOUT_SECONDS", 0.2)
    data_set = a_slice()
    with node(tmp_path) as running, associated(running.port) as association:
        with closing(sqlite3.connect(running.database.engine.url.database)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0xA700
            assert running.files() == []
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
        assert running.data_sets() == [encoded(data_set)]


# beginnings and ends


def test_association_aborted_half_way_leaves_nothing(tmp_path):
    with node(tmp_path) as running:
        association = associate(running.port)
        request_part_of_an_instance(association, encoded(a_slice()))
        wait_until(running.is_receiving, what="a data set being received")
        association.abort()
        wait_until(lambda: not running.files("incoming"), what="the file is gone")
        wait_until(lambda: running.receiver.open_associations == 0, what="the end of the association")
        assert running.rows(schema.associations) == []
        assert running.instances() == running.files() == []
        assert running.metrics.closed == running.metrics.opened == ["ct1"]


def test_connection_cut_half_way_leaves_nothing(tmp_path):
    with node(tmp_path) as running:
        association = associate(running.port)
        request_part_of_an_instance(association, encoded(a_slice()))
        wait_until(running.is_receiving, what="a data set being received")
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not running.files("incoming"), what="the file is gone")
        wait_until(lambda: running.rows(schema.associations) == [], what="the end of the association")
        assert running.metrics.closed == ["ct1"]


def request_part_of_an_instance(association, content: bytes) -> None:
    for fragment in request_fragments(association, content, size=1024)[:-2]:
        association.dul.send_pdu(fragment)


def test_silent_association_is_aborted_after_the_network_timeout(tmp_path):
    with node(tmp_path, network_timeout_seconds=0.5) as running:
        association = associate(running.port)
        wait_until(lambda: association.is_aborted, what="the abort")
        wait_until(lambda: running.rows(schema.associations) == [], what="the end of the association")


def test_garbage_instead_of_pdus_ends_only_that_connection(tmp_path):
    with node(tmp_path) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            stranger.settimeout(10)
            while stranger.recv(4096):
                pass
        with associated(running.port) as association:
            data_set = a_slice()
            assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000


def test_command_set_that_cannot_be_read_aborts_the_association(tmp_path):
    with node(tmp_path) as running:
        association = associate(running.port)
        broken = P_DATA()
        context = association.accepted_contexts[0].context_id
        broken.presentation_data_value_list.append((context, b"\x03" + bytes(range(64))))
        association.dul.send_pdu(broken)
        wait_until(lambda: association.is_aborted, what="the abort")
        wait_until(lambda: running.receiver.open_associations == 0, what="the end of the association")


def test_associations_an_earlier_life_left_open_are_forgotten(tmp_path):
    with node(tmp_path) as running:
        running.intake.open_association("a" * 32, calling_ae="X", address="10.0.0.1", source="ct1")
        running.receiver.stop(1)
        running.receiver.start()
        assert running.rows(schema.associations) == []


def test_end_of_an_association_is_written_later_when_the_queue_did_not_answer(tmp_path, monkeypatch):
    def unavailable(*_):
        raise QueueUnavailableError("the database did not answer: locked")

    with node(tmp_path) as running:
        with associated(running.port):
            monkeypatch.setattr(running.intake, "close_association", unavailable)
        wait_until(lambda: running.receiver.open_associations == 0, what="the end of the association")
        assert len(running.rows(schema.associations)) == 1
        monkeypatch.undo()
        running.receiver._handlers.associations.beat()
        assert running.rows(schema.associations) == []


def test_heartbeat_keeps_open_associations_alive(tmp_path):
    with node(tmp_path) as running, associated(running.port):
        with running.database.write() as connection:
            connection.execute(sa.update(schema.associations).values(heartbeat_at=0))
        running.receiver._handlers.associations.beat()
        (row,) = running.rows(schema.associations)
        assert row["heartbeat_at"] > time.time() - 60


def test_stop_lets_a_running_association_finish_and_takes_no_new_one(tmp_path):
    data_set = a_slice()
    with node(tmp_path) as running:
        association = associate(running.port)
        stopping = threading.Thread(target=running.receiver.stop, args=(30,))
        stopping.start()
        wait_until(lambda: not is_listening(running.port), what="the port is closed")
        assert send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID).Status == 0x0000
        association.release()
        stopping.join(timeout=20)
        assert not stopping.is_alive()
        assert len(running.instances()) == 1


def test_stop_aborts_what_does_not_end(tmp_path):
    with node(tmp_path) as running:
        association = associate(running.port)
        running.receiver.stop(0.2)
        wait_until(lambda: association.is_aborted, what="the abort")
        assert running.receiver.open_associations == 0
        assert running.rows(schema.associations) == []


def test_receiver_runs_until_told_to_stop(tmp_path):
    with node(tmp_path) as running:
        running.receiver.stop(1)
        stop = threading.Event()
        serving = threading.Thread(target=running.receiver.serve_forever, args=(stop,))
        serving.start()
        wait_until(lambda: is_listening(running.port), what="the port is open")
        stop.set()
        serving.join(timeout=20)
        assert not serving.is_alive()
        assert not is_listening(running.port)


def test_occupied_port_is_named_with_what_to_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        expected = rf"port {port}: another program listens there; stop it, or set receive.port"
        with pytest.raises(SupervisionError, match=expected), node(tmp_path, port=port):
            pass


@needs_dcmtk
def test_four_hundred_slices_arrive_over_one_association(tmp_path):
    files = make_instances(tmp_path / "in", 400, rows=16)
    with node(tmp_path) as running:
        assert run_dcmsend(running.port, files, options=("-ma",)).returncode == 0
        assert len(running.instances()) == 400
        assert running.metrics.opened == ["ct1"]
