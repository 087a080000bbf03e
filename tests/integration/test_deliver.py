"""Delivery to real peers: DCMTK's storescp, Orthanc, and SCPs that misbehave."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydantic import SecretStr
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from pacs_guard.config import RetrySettings, Settings, WebhookSettings
from pacs_guard.deliver.echo import echo
from pacs_guard.deliver.notify import Notifier
from pacs_guard.domain.policy import Decision
from pacs_guard.errors import PermanentDeliveryError, TransientDeliveryError
from tests.integration import peers
from tests.integration.delivering import Node, pacs, part10, scp, with_dcmtk

CT = "1.2.840.10008.5.1.4.1.1.2"
SILENT = {"acse_timeout_seconds": 1.0, "dimse_timeout_seconds": 1.0, "network_timeout_seconds": 1.0}


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    assert node.metrics.errors == []
    node.database.close()


@pytest.fixture(params=["fast", "stock"])
def transport(request, node):
    """Run a test over both transports."""
    node.transport = request.param


over_both = pytest.mark.usefixtures("transport")


@pytest.fixture
def study():
    return f"2.25.{uuid.uuid4().int % 10**30 + 1}"  # short enough to make others under it


def many_syntaxes(study: str, folder: Path) -> list[bytes]:
    """The same CT and some MR in every syntax that a router meets."""
    explicit = part10(study=study)
    return [
        explicit,
        part10("MR_small_implicit.dcm", study=study),
        part10("MR_small_RLE.dcm", study=study),
        part10("MR_small_jpeg_ls_lossless.dcm", study=study),
        part10("MR_small_jp2klossless.dcm", study=study),
        part10("image_dfl.dcm", study=study),
        with_dcmtk("dcmcjpeg", ("+e1",), part10(study=study), folder),
    ]


def is_deflated(content: bytes) -> bool:
    return bool(pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID.is_deflated)


def by_uid(contents: list[bytes]) -> dict[str, bytes]:
    """Data sets' bytes by SOP Instance UID."""
    return {
        str(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID): peers.dataset_bytes(content) for content in contents
    }


@over_both
@peers.needs_dcmtk
def test_every_syntax_reaches_storescp_byte_for_byte(node, study, tmp_path):
    sent = many_syntaxes(study, tmp_path)
    with peers.storescp(tmp_path / "pacs") as scp_:
        number = node.forward(*sent)
        with node.deliverer(pacs(scp_.port)):
            node.wait_for(number, "delivered")
        assert by_uid([file.read_bytes() for file in scp_.files()]) == by_uid(sent)
    assert node.metrics.counts == {("delivered", "pacs", "native"): len(sent), ("study", "pacs"): 1}


@over_both
@peers.needs_orthanc
@peers.needs_dcmtk
def test_every_syntax_reaches_orthanc_byte_for_byte(node, study, tmp_path):
    # Orthanc keeps a deflated data set with zeros up to its inflated length behind it
    sent = [content for content in many_syntaxes(study, tmp_path) if not is_deflated(content)]
    with peers.orthanc(tmp_path / "orthanc") as orthanc:
        number = node.forward(*sent)
        with node.deliverer(pacs(orthanc.dicom_port)):
            node.wait_for(number, "delivered")
        assert orthanc.data_sets() == by_uid(sent)
    assert node.metrics.counts["delivered", "pacs", "native"] == len(sent)


@over_both
@peers.needs_dcmtk
def test_a_destination_that_takes_implicit_only_gets_lossless_transcodes(node, study, tmp_path):
    sent = many_syntaxes(study, tmp_path)
    with peers.storescp(tmp_path / "pacs", options=("+xi",)) as scp_:
        number = node.forward(*sent)
        with node.deliverer(pacs(scp_.port)):
            node.wait_for(number, "delivered")
        arrived = {pydicom.dcmread(file).SOPInstanceUID: file.read_bytes() for file in scp_.files()}
    assert len(arrived) == len(sent)
    for content in sent:
        ds = pydicom.dcmread(io.BytesIO(content))
        result = pydicom.dcmread(io.BytesIO(arrived[ds.SOPInstanceUID]))
        assert result.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert np.array_equal(result.pixel_array, ds.pixel_array)
        assert result.PatientID == ds.PatientID
        if ds.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian:
            assert peers.dataset_bytes(arrived[ds.SOPInstanceUID]) == peers.dataset_bytes(content)
    transcoded = [item[5] for item in node.items()]
    assert transcoded.count(ImplicitVRLittleEndian) == len(sent) - 1
    assert transcoded.count(None) == 1


@over_both
def test_a_lossy_instance_is_never_transcoded(node, study, tmp_path):
    lossy = part10("SC_rgb_jpeg_dcmtk.dcm", study=study)
    assert pydicom.dcmread(io.BytesIO(lossy)).file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    contexts = [("1.2.840.10008.5.1.4.1.1.7", [ExplicitVRLittleEndian]), (CT, [ExplicitVRLittleEndian])]
    with scp(lambda _: 0, contexts=contexts) as (port, received):
        number = node.forward(lossy, part10(study=study))
        with node.deliverer(pacs(port)):
            node.wait_for(number, "failed")
    lossy_item, clean_item = node.items()
    assert clean_item[2] == "delivered"
    assert lossy_item[2] == "failed"
    assert "JPEG Baseline" in lossy_item[4]
    assert len(received) == 1


def test_nothing_is_transcoded_where_that_is_switched_off(node, study):
    with scp(lambda _: 0, contexts=[(CT, [ImplicitVRLittleEndian])]) as (port, received):
        number = node.forward(part10(study=study))
        with node.deliverer(pacs(port, transcode=False)):
            node.wait_for(number, "failed")
    assert received == []
    assert node.metrics.counts["failed", "pacs", "permanent"] == 1


@over_both
def test_a_pacs_that_is_down_gets_the_study_once_it_is_up(node, study):
    port = peers.free_port()
    number = node.forward(part10(study=study))
    with node.deliverer(pacs(port)):
        peers.wait_until(lambda: node.metrics.counts["failed", "pacs", "transient"] >= 2, what="two attempts")
        assert node.state(number) == "forwarding"
        with scp(lambda _: 0, port=port) as (_, received):
            node.wait_for(number, "delivered")
            assert len(received) == 1


def test_a_pacs_that_stays_down_is_given_up_and_can_be_retried(node, study):
    port = peers.free_port()
    number = node.forward(part10(study=study), part10(study=study))
    few = RetrySettings(max_attempts=2, base_seconds=0.05)
    with node.deliverer(pacs(port, retry=few)):
        node.wait_for(number, "failed")
        assert all("cannot be reached" in item[4] for item in node.items())
        with scp(lambda _: 0, port=port) as (_, received):
            assert node.forwarding.retry(number) == 2
            node.wait_for(number, "delivered")
            assert len(received) == 2


@over_both
def test_a_refused_instance_keeps_no_other_back(node, study):
    bad, odd, busy, warned, known = (f"{study}.9.{i}" for i in range(5))
    once = {busy: 0xA700}
    answers = {bad: 0xA900, odd: 0xC001, warned: 0xB000, known: 0x0111}

    def answer(event):
        sop = str(event.request.AffectedSOPInstanceUID)
        return once.pop(sop, answers.get(sop, 0))

    uids = [bad, busy, odd, warned, known, f"{study}.9.7", f"{study}.9.8"]
    with scp(answer) as (port, received):
        number = node.forward(*(part10(study=study, sop=sop) for sop in uids))
        with node.deliverer(pacs(port)):
            node.wait_for(number, "failed")
    outcome = {item[1]: (item[2], item[3]) for item in node.items()}
    assert outcome[bad] == ("failed", 0xA900)
    assert outcome[odd] == ("failed", 0xC001)
    assert outcome[warned] == ("delivered", 0xB000)
    assert outcome[known] == ("delivered", 0x0111)
    assert outcome[busy] == ("delivered", 0)
    assert received.count(busy) == 2
    assert all(received.count(sop) == 1 for sop in uids if sop != busy)


def test_three_transient_failures_in_a_row_end_the_attempt(node, study):
    with scp(lambda _: 0xA700) as (port, received):
        number = node.forward(*(part10(study=study) for _ in range(6)))
        with node.deliverer(pacs(port, retry=RetrySettings(base_seconds=600))):
            peers.wait_until(lambda: len(received) == 3, what="three tries")
            time.sleep(0.3)  # nothing further may come
            assert len(received) == 3
    assert node.state(number) == "forwarding"


@over_both
def test_an_association_aborted_on_one_instance_is_opened_again_for_the_rest(node, study):
    poison = f"{study}.9.1"
    poisoned = [poison]

    def answer(event):
        if str(event.request.AffectedSOPInstanceUID) in poisoned:
            poisoned.clear()
            event.assoc.abort()
        return 0

    with scp(answer) as (port, _):
        contents = [part10(study=study, sop=poison)] + [part10(study=study) for _ in range(3)]
        number = node.forward(*contents)
        with node.deliverer(pacs(port)):
            node.wait_for(number, "delivered")
    assert node.metrics.counts["failed", "pacs", "transient"] == 1
    assert node.metrics.counts["delivered", "pacs", "native"] == 4


@over_both
def test_an_association_rejected_for_the_calling_ae_is_tried_again(node, study):
    port = peers.free_port()
    number = node.forward(part10(study=study))
    with node.deliverer(pacs(port)):
        with scp(lambda _: 0, port=port, require_calling_aet=["SOMEONE"]):
            peers.wait_until(lambda: node.metrics.counts["failed", "pacs", "transient"] >= 1, what="a rejection")
            assert node.state(number) == "forwarding"
        with scp(lambda _: 0, port=port):
            node.wait_for(number, "delivered")


def test_one_dead_destination_delays_no_other(tmp_path, study):
    node = Node(tmp_path, "dead", "alive")
    with silent_peer() as dead, scp(lambda _: 0) as (port, received):
        node.forward(*(part10(study=study) for _ in range(5)))
        with node.deliverer(pacs(dead, "dead", acse_timeout_seconds=20.0), pacs(port, "alive")) as deliverer:
            started = time.monotonic()
            peers.wait_until(lambda: len(received) == 5, seconds=5, what="five instances at the living one")
            assert time.monotonic() - started < 5
            assert deliverer.is_alive
            dead_items = {item[2] for item in node.items() if item[0] == "dead"}
            assert dead_items == {"pending"}
            disconnect(dead)


PEERS: dict[int, list[socket.socket]] = {}


@contextmanager
def silent_peer(*, greeting=None):
    """A peer that accepts connections, answers the first PDU by `greeting(connection)` and then never reads again."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    PEERS[port] = []

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            PEERS[port].append(connection)
            if greeting:
                greeting(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        disconnect(port)
        thread.join(5)


def disconnect(port: int) -> None:
    for connection in PEERS.pop(port, []):
        connection.close()


def accept_association(connection: socket.socket) -> None:
    """Accept every proposed context in its first transfer syntax, by hand (PS3.8 9.3.3)."""
    head = connection.recv(6, socket.MSG_WAITALL)
    body = connection.recv(int.from_bytes(head[2:6], "big"), socket.MSG_WAITALL)
    request = A_ASSOCIATE_RQ()
    request.decode(head + body)
    primitive = request.to_primitive()
    primitive.result = 0
    accepted = []
    for context in primitive.presentation_context_definition_list:
        context.result = 0
        context.transfer_syntax = [context.transfer_syntax[0]]
        accepted.append(context)
    primitive.presentation_context_definition_results_list = accepted
    answer = A_ASSOCIATE_AC(primitive)
    connection.sendall(answer.encode())


@over_both
@pytest.mark.parametrize("greeting", [None, accept_association], ids=["no association", "no answer"])
def test_a_peer_that_never_answers_is_a_transient_failure_within_the_time_outs(node, study, greeting):
    with silent_peer(greeting=greeting) as port:
        number = node.forward(part10(study=study))
        started = time.monotonic()
        with node.deliverer(pacs(port, **SILENT)):
            peers.wait_until(
                lambda: node.metrics.counts["failed", "pacs", "transient"], seconds=8, what="a transient failure"
            )
        assert time.monotonic() - started < 8
    assert node.state(number) == "forwarding"
    assert node.items()[0][2] == "pending"


def large(study: str) -> bytes:
    """An instance of more than a sender holds at once."""
    ds = pydicom.dcmread(io.BytesIO(part10(study=study)))
    ds.Rows = ds.Columns = 4096
    ds.PixelData = bytes(4096 * 4096 * 2)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@over_both
def test_a_peer_that_stops_reading_is_a_transient_failure_within_the_time_outs(node, study):
    with silent_peer(greeting=accept_association) as port:
        number = node.forward(large(study))
        started = time.monotonic()
        with node.deliverer(pacs(port, **SILENT)):
            peers.wait_until(
                lambda: node.metrics.counts["failed", "pacs", "transient"], seconds=10, what="a transient failure"
            )
        assert time.monotonic() - started < 10
    assert node.state(number) == "forwarding"


@over_both
def test_altered_bytes_in_the_spool_are_never_sent(node, study):
    first = node.receive(part10(study=study))
    node.receive(part10(study=study))
    with (node.spool.root / first.path).open("r+b") as file:
        file.seek(first.offset + first.length - 1)
        file.write(b"\xff")
    with scp(lambda _: 0) as (port, received):
        number = node.decide()
        with node.deliverer(pacs(port)):
            node.wait_for(number, "failed")
    assert first.key.sop_uid not in received
    assert len(received) == 1
    assert "not those received" in node.items()[0][4]


@over_both
@peers.needs_dcmtk
def test_of_a_large_instance_with_altered_bytes_a_peer_keeps_nothing(node, study, tmp_path):
    broken = node.receive(large(study))
    whole = node.receive(part10(study=study))
    with (node.spool.root / broken.path).open("r+b") as file:
        file.seek(broken.offset + broken.length - 1)
        file.write(b"\xff")
    with peers.storescp(tmp_path / "pacs") as scp_:
        number = node.decide()
        with node.deliverer(pacs(scp_.port)):
            node.wait_for(number, "failed")
        kept = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in scp_.files()]
    assert kept == [whole.key.sop_uid]
    assert "not those received" in node.items()[0][4]


def test_a_held_study_is_not_sent_until_it_is_released(node, study):
    node.receive(part10(study=study))
    number = node.decide(Decision.QUARANTINE)
    with scp(lambda _: 0) as (port, received), node.deliverer(pacs(port)):
        time.sleep(0.3)  # some polls, in which nothing may happen
        assert received == []
        node.review.release(number, who="Dr A", reason="looked at it", destinations=["pacs"])
        node.wait_for(number, "delivered")
        assert len(received) == 1


def test_a_late_instance_stops_the_delivery_until_the_study_is_judged_again(node, study):
    late = part10(study=study)
    arrived = threading.Event()

    def answer(_event):
        if not arrived.is_set():
            node.receive(late)
            arrived.set()
        return 0

    with scp(answer) as (port, received):
        number = node.forward(*(part10(study=study) for _ in range(4)))
        with node.deliverer(pacs(port)):
            peers.wait_until(arrived.is_set, what="the late instance")
            peers.wait_until(lambda: sum(item[2] == "delivered" for item in node.items()) == 1, what="one delivered")
            time.sleep(0.3)  # nothing further may be sent
            assert len(received) == 1
            assert node.state(number) == "receiving"
            node.decide()
            node.wait_for(number, "delivered")
        assert len(received) == len(set(received)) == 5


CRASHING = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from tests.integration.delivering import Node, pacs
node = Node(Path(sys.argv[2]))
with node.deliverer(pacs(int(sys.argv[3]))):
    time.sleep(60)
"""


def test_after_a_crash_in_the_middle_the_rest_is_sent_and_little_else(node, study, tmp_path):
    process: list[subprocess.Popen] = []

    def answer(_event):
        if len(received_) == 4:
            os.kill(process[0].pid, signal.SIGKILL)
        return 0

    with scp(answer) as (port, received_):
        number = node.forward(*(part10(study=study) for _ in range(10)))
        program = [sys.executable, "-c", CRASHING, str(Path(__file__).parents[2]), str(tmp_path), str(port)]
        process.append(subprocess.Popen(program))
        process[0].wait(30)
        known = sum(item[2] == "delivered" for item in node.items())
        assert 1 <= known <= 3  # the fourth was taken, but its answer never arrived
        with node.deliverer(pacs(port)):
            node.wait_for(number, "delivered")
    # what was taken but not yet written down went twice, and nothing else did
    assert len(received_) == 10 + 4 - known
    assert len(set(received_)) == 10


def test_shutdown_finishes_the_instance_under_way_and_leaves_the_rest(node, study):
    begun, go_on = threading.Event(), threading.Event()

    def answer(_event):
        begun.set()
        go_on.wait(10)
        return 0

    with scp(answer) as (port, received):
        number = node.forward(*(part10(study=study) for _ in range(5)))
        with node.deliverer(pacs(port)):
            assert begun.wait(10)
            threading.Timer(0.2, go_on.set).start()
        assert len(received) == 1
        assert [item[2] for item in node.items()].count("delivered") == 1
        assert node.state(number) == "forwarding"
        assert node.forwarding.claim("pacs", "another", 60) is not None


@over_both
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("sop", ["1.2.03.4", "not-a-uid", "1..2"])
def test_an_identifier_that_is_no_uid_is_sent_as_it_came(node, study, sop):
    node.receive(part10(study=study), sop=sop)
    with scp(lambda _: 0) as (port, received):
        number = node.decide()
        with node.deliverer(pacs(port)):
            node.wait_for(number, "delivered")
    assert received == [sop]


@peers.needs_dcmtk
def test_echo_says_who_answers(tmp_path):
    settings = Settings(
        sources=[{"name": "ct", "ae_titles": ["CT1"]}], destinations=[{"name": "pacs", "ae_title": "PACS"}]
    )
    with peers.storescp(tmp_path / "pacs") as scp_:
        echo(settings, pacs(scp_.port))
    with pytest.raises(TransientDeliveryError, match="cannot be reached"):
        echo(settings, pacs(scp_.port))
    with scp(lambda _: 0) as (port, _), pytest.raises(PermanentDeliveryError, match="none of the presentation"):
        echo(settings, pacs(port))


@contextmanager
def webhook(*statuses: int):
    """A server that answers with `statuses`, then 200; yields (URL, requests received)."""
    answers, requests = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((dict(self.headers), json.loads(body)))
            self.send_response(answers.pop(0) if answers else 200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def announcing(webhook: WebhookSettings):
    return SimpleNamespace(webhook=webhook, email=None)


def quarantined(node: Node, study: str) -> int:
    node.receive(part10(study=study))
    return node.decide(Decision.QUARANTINE)


def test_a_webhook_that_fails_first_is_told_again(node, study):
    number = quarantined(node, study)
    with webhook(500, 404) as (url, requests):
        settings = WebhookSettings(url=url, token=SecretStr("secret"), retry=RetrySettings(base_seconds=0.05))
        notifier = Notifier(announcing(settings), node.outbox, node.metrics, poll_seconds=0.02)
        notifier.start()
        peers.wait_until(lambda: node.metrics.counts["notification", "sent"], what="the notification")
        assert notifier.stop(10)
    assert len(requests) == 3
    headers, body = requests[-1]
    assert headers["Authorization"] == "Bearer secret"
    assert body["event"] == "study_quarantined"
    assert body["study"] == number
    assert study not in json.dumps(body)
    assert node.metrics.counts["notification", "failed"] == 2


def test_a_webhook_that_is_out_of_reach_is_given_up(node, study):
    quarantined(node, study)
    settings = WebhookSettings(
        url=f"http://127.0.0.1:{peers.free_port()}/", retry=RetrySettings(max_attempts=2, base_seconds=0.01)
    )
    notifier = Notifier(announcing(settings), node.outbox, node.metrics, poll_seconds=0.02)
    notifier.start()
    peers.wait_until(lambda: node.metrics.counts["notification", "given_up"], what="giving up")
    assert notifier.stop(10)
    assert node.outbox.due() == []


def test_a_destination_that_moves_is_served_at_its_new_address_and_a_new_one_beside_it(node, study):
    dead = peers.free_port()
    with scp(lambda _: 0x0000) as (port, received), node.deliverer(pacs(dead)) as deliverer:
        moved = node.forward(part10(study=study))
        peers.wait_until(lambda: node.metrics.counts["failed", "pacs", "transient"], what="a failed attempt")
        changed = [pacs(port).model_dump(), pacs(port, "archive").model_dump()]
        settings = Settings(sources=[{"name": "ct", "ae_titles": ["CT1"]}], destinations=changed)
        node.assessing.reconfigure(["pacs", "archive"])
        deliverer.reconfigure(settings)
        node.wait_for(moved, "delivered")
        both = node.forward(part10(study=f"{study}.7"))
        node.wait_for(both, "delivered")
        deliverer.reconfigure(settings.model_copy(update={"destinations": settings.destinations[:1]}))
        node.assessing.reconfigure(["pacs"])
        node.wait_for(node.forward(part10(study=f"{study}.8")), "delivered")
        assert deliverer.is_alive
    assert len(received) == 4
