"""The fast transport against a peer that a test scripts: what stock pynetdicom reads is what was stored."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF

from pacs_guard.config import DestinationSettings, DestinationTlsSettings
from pacs_guard.deliver.channel import open_channel
from pacs_guard.deliver.command import StoreRequest
from pacs_guard.deliver.fast import FastChannel
from pacs_guard.deliver.payload import VerifiedReader
from pacs_guard.deliver.pdu import ABORT, RELEASE_RP, RELEASE_RQ
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import SpoolCorruptError, TransientDeliveryError
from tests.authority import Authority

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


class Line:
    """How the peer and the channel of each test are connected."""

    server: ssl.SSLContext | None = None
    settings: DestinationTlsSettings | None = None


@pytest.fixture(autouse=True, scope="module", params=["tcp", "tls"])
def line(request, tmp_path_factory):
    """Run every test over bare TCP and over TLS with certificates on both sides."""
    if request.param == "tls":
        authority = Authority(tmp_path_factory.mktemp("authority"))
        peer, own = authority.issue("pacs"), authority.issue("node")
        Line.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
        Line.server.verify_mode = ssl.CERT_REQUIRED
        Line.server.load_cert_chain(peer.cert_file, peer.key_file)
        Line.settings = DestinationTlsSettings(**own.as_settings(), ca_file=authority.ca_file)
    yield
    Line.server = Line.settings = None


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    return Line.server.wrap_socket(connection, server_side=True) if Line.server is not None else connection


def read_pdu(stream) -> bytes:
    head = stream.read(6)
    return head + stream.read(int.from_bytes(head[2:6], "big")) if len(head) == 6 else b""


def acceptance(request: bytes, max_pdu: int) -> bytes:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(request)
    primitive = pdu.to_primitive()
    primitive.result = 0
    for context in primitive.presentation_context_definition_list:
        context.result = 0
    primitive.presentation_context_definition_results_list = primitive.presentation_context_definition_list
    primitive.user_information[0].maximum_length_received = max_pdu
    return A_ASSOCIATE_AC(primitive).encode()


def response(message_id: int, status: int, size: int = 0) -> bytes:
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status, answer.AffectedSOPClassUID = message_id, status, UID(CT)
    message = C_STORE_RSP()
    message.primitive_to_message(answer)
    encoded = b""
    for primitive in message.encode_msg(1, size):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        encoded += pdu.encode()
    return encoded


class Peer:
    """Accepts one association, reads messages as pynetdicom does, and answers each as `script(peer, message)` says."""

    def __init__(self, script, max_pdu: int = 16384, greeting: bytes = b"") -> None:
        self.script = script
        self.max_pdu = max_pdu
        self.greeting = greeting
        self.received: list[tuple[str, bytes]] = []
        self.largest_pdu = 0
        self.released = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.connection = accept(self._listener)
        except OSError:
            return
        with self.connection, self.connection.makefile("rb") as stream:
            try:
                self.connection.sendall(acceptance(read_pdu(stream), self.max_pdu) + self.greeting)
                while self._message(stream):
                    continue
            except (ConnectionError, OSError):
                return

    def _message(self, stream) -> bool:
        message = DIMSEMessage()
        while encoded := read_pdu(stream):
            if encoded == RELEASE_RQ:
                self.released = True
                self.connection.sendall(RELEASE_RP)
                return False
            if encoded[0] != 4:
                return False
            pdu = P_DATA_TF()
            pdu.decode(encoded)
            self.largest_pdu = max(self.largest_pdu, len(encoded) - 6)
            if message.decode_msg(pdu.to_primitive()):
                primitive = message.message_to_primitive()
                self.received.append((str(primitive.AffectedSOPInstanceUID), primitive.DataSet.getvalue()))
                return self.script(self, primitive) is not False
        return False

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


class MemorySpool:
    """Instances that lie in memory."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = list(contents)
        self.instances = [
            StoredInstance(
                number,
                InstanceKey("1.2.3", "1.2.3.1", f"1.2.3.1.{number + 1}", hashlib.sha256(content).hexdigest()),
                CT,
                EXPLICIT,
                f"{number}",
                0,
                len(content),
            )
            for number, content in enumerate(contents)
        ]

    def descriptor(self, instance):
        descriptor = os.memfd_create("instance")
        assert os.write(descriptor, self.contents[instance.id]) == len(self.contents[instance.id])
        return descriptor, 0


@contextmanager
def channel(port: int, spool, **changes):
    seconds = dict.fromkeys(("acse_timeout_seconds", "dimse_timeout_seconds", "network_timeout_seconds"), 5.0)
    destination = DestinationSettings(name="pacs", ae_title="PACS", port=port, tls=Line.settings, **(seconds | changes))
    opened = open_channel("fast", destination, "GUARD", [(CT, [EXPLICIT])], spool, lambda: None)
    assert isinstance(opened, FastChannel)
    try:
        yield opened
    finally:
        opened.close()


def store(opened, spool, number: int, message_id: int | None = None, following: int | None = None):
    instance = spool.instances[number]
    request = StoreRequest(opened.accepted[0][0], message_id or number + 1, CT, instance.key.sop_uid)
    return opened.exchange(request, instance, None if following is None else spool.instances[following])


@given(
    lengths=st.lists(st.integers(0, 20_000), min_size=1, max_size=3),
    max_pdu=st.one_of(st.just(0), st.integers(60, 400), st.integers(4096, 70_000)),
    piece=st.integers(1, 20_000).map(lambda n: 2 * n),
    answer_size=st.sampled_from((0, 40, 64, 200)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_stock_pynetdicom_reads_exactly_the_stored_bytes(lengths, max_pdu, piece, answer_size, seed):
    rng = random.Random(seed)
    spool = MemorySpool(*(rng.randbytes(length) for length in lengths))
    statuses = [rng.choice((0, 0x0111, 0xA700, 0xB000)) for _ in lengths]

    def answer_in_pieces(peer, request):
        encoded = response(request.MessageID, statuses[request.MessageID - 1], answer_size)
        while encoded:
            count = rng.choice((1, 3, 10, len(encoded)))
            peer.connection.sendall(encoded[:count])
            encoded = encoded[count:]

    with Peer(answer_in_pieces, max_pdu) as peer, channel(peer.port, spool) as opened:
        opened._reader = VerifiedReader(spool, piece)
        ahead = [rng.choice((None, number, min(number + 1, len(lengths) - 1))) for number in range(len(lengths))]
        answers = [store(opened, spool, number, following=ahead[number]) for number in range(len(lengths))]
        assert opened.is_open
    assert [answer.status for answer in answers] == statuses
    assert [data for _, data in peer.received] == spool.contents
    assert [uid for uid, _ in peer.received] == [instance.key.sop_uid for instance in spool.instances]
    assert peer.largest_pdu <= (max_pdu or 1 << 18)
    assert peer.released


def sending(*parts: bytes, close: bool = False):
    def script(peer, _request):
        for part in parts:
            peer.connection.sendall(part)
        return not close

    return script


def success(peer, request):
    peer.connection.sendall(response(request.MessageID, 0))


def half_an_answer(peer, request):
    peer.connection.sendall(response(request.MessageID, 0)[:40])
    return False


MISBEHAVIOUR = {
    "abort": (sending(ABORT), "broke the association off"),
    "release": (sending(RELEASE_RQ), "released the association"),
    "closes": (sending(close=True), "closed the connection"),
    "half an answer": (half_an_answer, "closed the connection"),
    "garbage": (sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no PDU"),
    "another association request": (sending(b"\x01\0\0\0\0\x02ab"), "ASSOCIATE_RQ within an association"),
    "answer to another message": (sending(response(999, 0)), "answered message 999; expected an answer to 1"),
    "a data set": (sending(b"\x04\0\0\0\0\x08\0\0\0\x04\x01\x02ab"), "a data set"),
    "silence": (sending(), "did not answer a C-STORE within 0.5 s"),
}


@pytest.mark.parametrize(("script", "said"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_a_peer_that_misbehaves_ends_the_association_and_nothing_else(script, said):
    spool = MemorySpool(b"abcd" * 1000)
    with Peer(script) as peer, channel(peer.port, spool, dimse_timeout_seconds=0.5) as opened:
        with pytest.raises(TransientDeliveryError, match=said):
            store(opened, spool, 0)
        assert not opened.is_open


@pytest.mark.parametrize("farewell", [ABORT, RELEASE_RQ], ids=["abort", "release"])
def test_what_a_peer_says_between_instances_is_noticed_before_the_next(farewell):
    def answer_and_leave(peer, request):
        peer.connection.sendall(response(request.MessageID, 0) + farewell)

    spool = MemorySpool(b"ab", b"cd")
    with Peer(answer_and_leave) as peer, channel(peer.port, spool) as opened:
        # the farewell arrives with the answer: the instance is there, the association is not
        try:
            assert store(opened, spool, 0).status == 0
        except TransientDeliveryError:
            pytest.fail("an answered instance counts as answered")
        assert not opened.is_open


def test_an_abort_is_noticed_although_the_peer_no_longer_reads():
    spool = MemorySpool(bytes(64 << 20))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def run():
            connection = accept(listener)
            with connection, connection.makefile("rb") as stream:
                connection.sendall(acceptance(read_pdu(stream), 16384))
                stream.read(10)
                connection.sendall(ABORT)
                ended.wait(10)

        ended = threading.Event()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        started = time.monotonic()
        with (
            channel(listener.getsockname()[1], spool, network_timeout_seconds=30.0) as opened,
            pytest.raises(TransientDeliveryError, match="broke the association off"),
        ):
            store(opened, spool, 0)
        assert time.monotonic() - started < 10
        ended.set()
        thread.join(10)


def test_an_altered_instance_is_noticed_before_anything_of_it_is_sent():
    spool = MemorySpool(b"ab" * 50, b"cd" * 50)
    spool.contents[0] = b"xy" * 50
    with Peer(success) as peer, channel(peer.port, spool) as opened:
        with pytest.raises(SpoolCorruptError):
            store(opened, spool, 0)
        assert opened.is_open
        assert store(opened, spool, 1).status == 0
    assert [data for _, data in peer.received] == [b"cd" * 50]


def test_what_was_read_ahead_is_sent_as_it_was_when_it_was_checked():
    spool = MemorySpool(b"ab" * 50, b"cd" * 50, b"ef" * 50)
    with Peer(success) as peer, channel(peer.port, spool) as opened:
        store(opened, spool, 0, following=1)
        spool.contents[1] = b"xx" * 50
        assert store(opened, spool, 1, following=2).status == 0
        with pytest.raises(SpoolCorruptError):  # not what was read ahead, and altered by now
            store(opened, spool, 1)
        assert store(opened, spool, 2).status == 0
    assert [data for _, data in peer.received] == [b"ab" * 50, b"cd" * 50, b"ef" * 50]


def test_a_broken_instance_that_is_read_ahead_spoils_only_itself():
    spool = MemorySpool(b"ab" * 50, b"cd" * 50, b"ef" * 50)
    spool.contents[1] = b"cx" * 50
    with Peer(success) as peer, channel(peer.port, spool) as opened:
        assert store(opened, spool, 0, following=1).status == 0
        with pytest.raises(SpoolCorruptError):
            store(opened, spool, 1, following=2)
        assert opened.is_open
        assert store(opened, spool, 2).status == 0
    assert [data for _, data in peer.received] == [b"ab" * 50, b"ef" * 50]


@pytest.mark.parametrize("broken", [0, 7_999, 8_000, 19_999, None], ids=str)
def test_a_large_instance_that_is_not_what_was_received_is_never_completed(broken):
    spool = MemorySpool(bytes(20_000), b"ab")
    changed = bytearray(spool.contents[0])
    if broken is None:
        del changed[-5_000:]
    else:
        changed[broken] ^= 1
    spool.contents[0] = bytes(changed)
    with Peer(success) as peer, channel(peer.port, spool) as opened:
        opened._reader = VerifiedReader(spool, 8_000)
        with pytest.raises(SpoolCorruptError, match="cut short" if broken is None else "not those received"):
            store(opened, spool, 0)
        assert not opened.is_open
    assert peer.received == []


def test_a_large_instance_is_never_held_as_a_whole():
    spool = MemorySpool(bytes(3 << 20))
    with Peer(success, 0) as peer, channel(peer.port, spool) as opened:
        opened._reader = reader = VerifiedReader(spool, 1 << 16)
        assert store(opened, spool, 0).status == 0
        assert len(reader._buffer) == 1 << 16
    assert peer.received[0][1] == spool.contents[0]
