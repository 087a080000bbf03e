"""The fast transport against stock pynetdicom: the same bytes kept and the same answers, however a stream is cut."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage

from pacs_guard.queue import schema
from tests.authority import both_sides
from tests.integration import receiving
from tests.integration.peers import free_port, wait_until
from tests.integration.receiving import node
from tests.integration.samples import encoded, make_data_set
from tests.integration.wire_streams import (
    ABORT,
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    command,
    data_pdus,
    pdvs,
)

EXAMPLES = int(os.environ.get("PACS_GUARD_WIRE_EXAMPLES", "15"))
STORE, ECHO = 0x8001, 0x8030

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A node of each transport, in this process, and a fast one that is called over TLS."""
    identity, context = both_sides(tmp_path_factory.mktemp("authority"))
    kinds = (
        ("fast", {}),
        ("stock", {}),
        ("fast", {"tls": {"port": free_port()}, "identity": identity, "plain": False}),
    )
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        nodes = []
        for transport, how in kinds:
            patch.setattr(receiving, "TRANSPORT", transport)
            nodes.append(stack.enter_context(node(tmp_path_factory.mktemp(transport), max_pdu_bytes=0, **how)))
        yield [(running, context if running.settings.receive.tls is not None else None) for running in nodes]


@pytest.fixture
def fast(tmp_path):
    with node(tmp_path, transport="fast", network_timeout_seconds=3) as running:
        yield running


KINDS = ("store", "again", "garbage", "no data set", "other class", "no uid", "echo", "cancel")


def message(kind: str, number: int, rows: int) -> tuple[int, bytes, bytes | None, str]:
    """Return presentation context, command set, data set and SOP Instance UID of one message."""
    data_set = make_data_set("1.2.3.9", "1.2.3.9.1", number, rows=rows)
    uid, content = str(data_set.SOPInstanceUID), encoded(data_set)
    if kind == "echo":
        return 3, command(C_ECHO_RQ, number, sop_class=VERIFICATION, data=False), None, ""
    if kind == "cancel":
        return 1, command(C_CANCEL_RQ, number, data=False), None, ""
    if kind == "no data set":
        return 1, command(C_STORE_RQ, number, sop_uid=uid, data=False), None, uid
    how = {"sop_uid": "" if kind == "no uid" else uid, "data": True}
    if kind == "other class":
        how["sop_class"] = "1.2.840.10008.5.1.4.1.1.4"
    return 1, command(C_STORE_RQ, number, **how), content[: len(content) // 2] if kind == "garbage" else content, uid


@st.composite
def scripts(draw):
    """Messages, how each is cut into values, how those are packed into PDUs, and how the stream is cut."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    values, uids, last = [], [], None
    for kind in kinds:
        number = next(_numbers) % 60000 + 1
        made = (
            last if kind == "again" and last is not None else message(kind, number, draw(st.sampled_from([0, 8, 64])))
        )
        context, command_set, content, uid = made
        last = made if content is not None else last
        cuts = st.lists(st.integers(0, 200), max_size=4)
        values += pdvs(context, command_set, draw(cuts), is_command=True)
        if content is not None:
            # what is drawn must not depend on the length: the numbers in the content never repeat
            data_cuts = [cut % (len(content) + 1) for cut in draw(st.lists(st.integers(0, 65535), max_size=6))]
            values += pdvs(context, content, data_cuts, is_command=False)
        uids.append(uid)
    stream = data_pdus(values, draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    cuts = [cut % (len(stream) + 1) for cut in draw(st.lists(st.integers(0, 65535), max_size=8))]
    unfinished = draw(st.integers(0, 400))
    ending = draw(st.sampled_from([RELEASE_RQ, ABORT, b""]))
    return kinds, uids, stream, cuts, unfinished, ending


def play(running, tls, script):
    """Send a script to a node and return its answers, how it ended, and what is kept of the script's instances."""
    kinds, uids, stream, cuts, unfinished, ending = script
    peer = RawPeer.connect(running.settings.receive.ports[0], tls)
    assert (peer.contexts[CTImageStorage], peer.contexts[VERIFICATION]) == (1, 3)
    peer.send(stream, cuts)
    answers = peer.answers(sum(kind != "cancel" for kind in kinds))
    if ending != RELEASE_RQ:  # within the next message
        peer.send(stream[: min(unfinished, len(stream) // 2)] if ending == b"" else b"")
    peer.send(ending)
    if ending == b"":
        peer.connection.shutdown(socket.SHUT_WR)
    end = peer.end()
    kept = [
        (row["sop_uid"], row["sha256"], row["length"], row["duplicates"])
        for row in running.instances()
        if row["sop_uid"] in uids
    ]
    return answers, end if ending == RELEASE_RQ else "", sorted(kept)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_both_transports_keep_the_same_bytes_and_give_the_same_answers(both, script):
    fast, stock, secured = (play(running, tls, script) for running, tls in both)
    assert fast == stock
    assert secured == fast
    assert all(isinstance(one, tuple) for one in fast[0])


def test_nothing_is_left_of_the_scripts(both):
    for running, _ in both:
        wait_until(lambda running=running: running.receiver.open_associations == 0, what="the end of all associations")
        wait_until(lambda running=running: not running.files("incoming"), what="no file being received")


# what breaks the protocol: a clean abort, nothing kept, the node goes on


def store(number=1, *, context=1, cuts=()):
    data_set = make_data_set("1.2.3.9", "1.2.3.9.1", number)
    content = encoded(data_set)
    values = pdvs(1, command(C_STORE_RQ, number, sop_uid=data_set.SOPInstanceUID, data=True), (), is_command=True)
    return values, pdvs(context, content, cuts, is_command=False)


def half():
    head, data = store(cuts=(2000, 4000))
    return head + data[:2]


BROKEN = {
    "longer than negotiated": struct.pack(">BxL", 4, 262145) + bytes(100),
    "context never accepted": data_pdus(
        pdvs(5, command(C_STORE_RQ, 1, sop_uid="1.2", data=True), (), is_command=True), [9]
    ),
    "data set over another context": data_pdus(half() + pdvs(3, b"abc", (), is_command=False), [1]),
    "command within a data set": data_pdus(half() + store(2)[0], [1]),
    "data set without a command": data_pdus(store()[1], [1]),
    "value longer than its PDU": data_pdus(half(), [1]) + struct.pack(">BxLLBB", 4, 20, 99, 1, 0) + bytes(14),
    "PDU of no known type": data_pdus(half(), [1]) + b"\x09\x00\x00\x00\x00\x04abcd",
    "command set without end": data_pdus([struct.pack(">LBB", 30002, 1, 1) + bytes(30000)] * 3, [1]),
    "command set that is none": data_pdus(pdvs(1, bytes(range(64)), (), is_command=True), [1]),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_breaks_the_protocol_is_aborted_and_leaves_nothing(fast, content):
    peer = RawPeer.connect(fast.port)
    peer.send(content)
    assert peer.end() == "aborted"
    wait_until(lambda: fast.receiver.open_associations == 0, what="the end of the association")
    assert fast.files("incoming") == fast.files() == fast.instances() == []
    assert fast.rows(schema.associations) == []
    assert accepts(fast)


def accepts(running, number=50) -> bool:
    peer = RawPeer.connect(running.port)
    head, data = store(number)
    peer.send(data_pdus(head + data, [1]))
    [answer] = peer.answers(1)
    peer.send(RELEASE_RQ)
    return answer[3] == 0x0000 and peer.end() == "released"


@pytest.mark.parametrize("largest", [4096, 0])
def test_pdus_of_any_size_that_was_negotiated_are_taken(tmp_path, largest):
    with node(tmp_path, transport="fast", max_pdu_bytes=largest) as running:
        data_set = make_data_set("1.2.3.9", "1.2.3.9.1", 1, rows=512)
        content = encoded(data_set)
        size = (largest or 1 << 20) - 6
        peer = RawPeer.connect(running.port)
        values = pdvs(1, command(C_STORE_RQ, 1, sop_uid=data_set.SOPInstanceUID, data=True), (), is_command=True)
        values += pdvs(1, content, range(size, len(content), size), is_command=False)
        peer.send(data_pdus(values, [1]))
        assert [answer[3] for answer in peer.answers(1)] == [0x0000]
        peer.send(RELEASE_RQ)
        assert peer.end() == "released"
        assert running.data_sets() == [content]


def test_requests_that_do_not_wait_for_answers_are_answered_in_order(fast):
    peer = RawPeer.connect(fast.port)
    values = []
    for number in range(1, 31):
        if number % 3:
            head, data = store(number)
            values += head + data
        else:
            values += pdvs(3, command(C_ECHO_RQ, number, sop_class=VERIFICATION, data=False), (), is_command=True)
    peer.send(data_pdus(values, [3]))
    answers = peer.answers(30)
    assert [answer[2] for answer in answers] == list(range(1, 31))
    assert {answer[3] for answer in answers} == {0x0000}
    peer.send(RELEASE_RQ)
    assert peer.end() == "released"


def test_peer_that_sends_slowly_is_served(fast):
    head, data = store(cuts=(1000, 3000, 7000))
    stream = data_pdus(head + data, [2])
    peer = RawPeer.connect(fast.port)
    for start in range(0, len(stream), len(stream) // 20):
        peer.send(stream[start : start + len(stream) // 20])
        time.sleep(0.02)
    assert [answer[3] for answer in peer.answers(1)] == [0x0000]
    peer.send(ABORT)
    assert peer.end() == "closed"


def test_peer_that_falls_silent_within_a_data_set_is_aborted(fast):
    peer = RawPeer.connect(fast.port)
    peer.send(data_pdus(half(), [1]))
    wait_until(fast.is_receiving, what="a data set being received")
    assert peer.end() == "aborted"
    wait_until(lambda: not fast.is_receiving() and not fast.files("incoming"), what="the data set is gone")


def test_rest_of_a_message_is_waited_for_as_long_as_the_dimse_time_out_says(tmp_path):
    with node(tmp_path, transport="fast", network_timeout_seconds=600, dimse_timeout_seconds=1) as running:
        waits_within, waits_between = RawPeer.connect(running.port), RawPeer.connect(running.port)
        waits_within.send(data_pdus(half(), [1]))
        assert waits_within.end() == "aborted"
        waits_between.send(data_pdus([value for part in store() for value in part], [2]))
        assert [answer[3] for answer in waits_between.answers(1)] == [0x0000]
        time.sleep(2)
        waits_between.send(RELEASE_RQ)
        assert waits_between.end() == "released"


def test_peer_that_never_reads_is_let_go_and_what_it_was_told_is_kept(tmp_path):
    with node(tmp_path, transport="fast", network_timeout_seconds=1) as running:
        peer = RawPeer.connect(running.port)
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        values = pdvs(3, command(C_ECHO_RQ, 1, sop_class=VERIFICATION, data=False), (), is_command=True)
        stop = time.monotonic() + 30
        peer.connection.settimeout(1)
        try:
            while time.monotonic() < stop and running.receiver.open_associations:
                peer.connection.sendall(data_pdus(values * 500, [1]))
        except OSError:
            pass
        # what it sent before is answered first, which takes a busy machine a while
        wait_until(lambda: running.receiver.open_associations == 0, seconds=90, what="the end of the association")
        peer.connection.close()


def test_release_while_a_data_set_is_under_way_ends_it(fast):
    peer = RawPeer.connect(fast.port)
    peer.send(data_pdus(half(), [1]) + RELEASE_RQ)
    assert peer.end() == "released"
    wait_until(lambda: fast.files("incoming") == [], what="the file is gone")
    assert fast.instances() == []


def test_connection_without_a_request_ends_with_the_artim_timer(tmp_path):
    with (
        node(tmp_path, transport="fast", acse_timeout_seconds=0.5) as running,
        socket.create_connection(("127.0.0.1", running.port)) as silent,
    ):
        silent.settimeout(10)
        assert silent.recv(100) == b""
