"""Peers that mean no good: the receiver stays within its bounds, serves the others, and loses nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from pacs_guard.queue import schema
from pacs_guard.receive import stock
from pacs_guard.receive.wire import provider
from tests.integration.peers import wait_until
from tests.integration.receiving import node
from tests.integration.samples import encoded, make_data_set
from tests.integration.wire_streams import (
    C_ECHO_RQ,
    C_STORE_RQ,
    RELEASE_RQ,
    VERIFICATION,
    RawPeer,
    command,
    data_pdus,
    pdvs,
)

MANY = int(os.environ.get("PACS_GUARD_CONNECTIONS", "100"))
FORK = multiprocessing.get_context("fork")


def a_store(number=1, **how):
    data_set = make_data_set("1.2.3.77", "1.2.3.77.1", number, **how)
    head = pdvs(1, command(C_STORE_RQ, number, sop_uid=data_set.SOPInstanceUID, data=True), (), is_command=True)
    return head, encoded(data_set)


def serves(running, number=90) -> bool:
    head, content = a_store(number)
    peer = RawPeer.connect(running.port)
    peer.send(data_pdus(head + pdvs(1, content, (), is_command=False), [1]))
    [answer] = peer.answers(1)
    peer.send(RELEASE_RQ)
    return answer[3] == 0x0000 and peer.end() == "released"


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def hold(port, count, content, ready, go=None):
    opened = []
    if go is not None:
        go.wait()
    for _ in range(count):
        connection = socket.socket()
        opened.append(connection)
        connection.settimeout(5)
        with contextlib.suppress(OSError):  # its queue may be full just now, or it closed again already
            connection.connect(("127.0.0.1", port))
            connection.sendall(content)
    ready.set()
    threading.Event().wait()


@contextlib.contextmanager
def connections(port, count, content=b""):
    """Connections of another process, which stay open as far as it is concerned."""
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(port, count, content, ready), daemon=True)
    process.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        process.kill()
        process.join()


def test_thousands_of_connections_leave_room_for_those_who_mean_it(tmp_path):
    with node(tmp_path, max_associations=8, acse_timeout_seconds=60) as running:
        memory = []
        for round_ in range(3):
            with connections(running.port, MANY):
                assert serves(running, 91 + round_)
                wait_until(lambda: threading.active_count() < 60, what="the threads of closed connections are gone")
                assert len(running.receiver._handlers.waiting) <= 8
                assert files_open() < 150
                memory.append(resident_bytes())
        # garbage of the first is still there; it does not pile up
        assert memory[-1] - memory[0] < 64 << 20


def test_without_a_file_to_spare_the_receiver_waits_and_goes_on(tmp_path):
    with node(tmp_path, max_associations=64, acse_timeout_seconds=60) as running:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        go, ready = FORK.Event(), FORK.Event()
        process = FORK.Process(target=hold, args=(running.port, 40, b"", ready, go), daemon=True)
        process.start()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # whatever is open stays open
            go.set()
            wait_until(lambda: running.receiver._said_shortage > 0, what="the shortage is noticed")
            used, began = processor_seconds(), time.monotonic()
            time.sleep(1.0)
            share = (processor_seconds() - used) / (time.monotonic() - began)
            # without a pause it would be all of one
            assert share < 0.3, f"{share:.0%} of a processor were used for waiting"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            process.kill()
        wait_until(lambda: len(running.receiver._handlers.waiting) == 0, what="the end of the connections")
        assert serves(running)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">BxL", 4, 2**32 - 1),
        struct.pack(">BxL", 4, 20_000),
        struct.pack(">BxL", 5, (1 << 20) + 1),
        struct.pack(">BxL", 1, 2**32 - 1),
    ],
)
def test_the_stock_transport_aborts_for_an_oversized_pdu_before_it_reads_it(tmp_path, header):
    with node(tmp_path, transport="stock", max_pdu_bytes=16_384) as running:
        before = resident_bytes()
        peer = RawPeer.connect(running.port)
        began = time.monotonic()
        peer.send(header + bytes(1 << 18))
        assert peer.end() == "aborted"
        assert time.monotonic() - began < 5  # nobody waited for the rest
        assert resident_bytes() - before < 16 << 20
        wait_until(lambda: running.receiver.open_associations == 0, what="the end of the association")
        assert serves(running)


def test_the_stock_transport_reads_no_oversized_request_of_a_stranger(tmp_path):
    with (
        node(tmp_path, transport="stock", acse_timeout_seconds=60) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as stranger,
    ):
        stranger.sendall(struct.pack(">BxL", 1, 1 << 30) + bytes(1 << 16))
        assert stranger.recv(100)[:1] in {b"\x07", b""}
        assert serves(running)


def test_the_stock_transport_lets_a_peer_go_that_drips_bytes(tmp_path):
    head, content = a_store(rows=64)
    stream = data_pdus(head + pdvs(1, content, (), is_command=False), [1])
    with node(tmp_path, transport="stock", dimse_timeout_seconds=0.8, network_timeout_seconds=30) as running:
        peer = RawPeer.connect(running.port)
        peer.send(stream[:500])
        began = time.monotonic()
        with contextlib.suppress(OSError):  # it is closed at last
            for at in range(500, len(stream)):
                peer.send(stream[at : at + 1])
                time.sleep(0.1)
                if running.receiver.open_associations == 0:
                    break
        assert time.monotonic() - began < 5
        assert running.files("incoming") == running.instances() == []
        assert serves(running)


def test_the_stock_transport_lets_a_peer_go_that_drips_its_request(tmp_path):
    with (
        node(tmp_path, transport="stock", acse_timeout_seconds=0.8, network_timeout_seconds=30) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as stranger,
    ):
        stranger.sendall(struct.pack(">BxL", 1, 500))
        waiting = running.receiver._handlers.waiting
        wait_until(lambda: len(waiting) == 1, what="the connection")
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while len(waiting) and time.monotonic() - began < 5:
                stranger.sendall(b"\0")
                time.sleep(0.1)
        assert time.monotonic() - began < 5


def test_the_stock_transport_keeps_a_peer_that_is_slow_but_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(stock, "_PROGRESS", 2000)
    head, content = a_store(rows=64)
    stream = data_pdus(head + pdvs(1, content, (), is_command=False), [1])
    with node(tmp_path, transport="stock", dimse_timeout_seconds=0.8) as running:
        peer = RawPeer.connect(running.port)
        began = time.monotonic()
        for start in range(0, len(stream), 1000):
            peer.send(stream[start : start + 1000])
            time.sleep(0.2)
        assert time.monotonic() - began > 1.6
        assert [answer[3] for answer in peer.answers(1)] == [0x0000]
        peer.send(RELEASE_RQ)
        assert peer.end() == "released"


def test_a_peer_that_drips_bytes_is_let_go_after_the_network_timeout(tmp_path):
    head, content = a_store(rows=64)
    stream = data_pdus(head + pdvs(1, content, (), is_command=False), [1])
    with node(tmp_path, network_timeout_seconds=0.8) as running:
        peer = RawPeer.connect(running.port)
        peer.send(stream[:500])
        began = time.monotonic()
        for at in range(500, len(stream)):
            peer.send(stream[at : at + 1])
            time.sleep(0.1)
            if running.receiver.open_associations == 0:
                break
        assert time.monotonic() - began < 5
        assert peer.end() == "aborted"
        assert running.files("incoming") == running.instances() == []


def test_a_peer_that_is_slow_but_goes_on_keeps_its_association(tmp_path, monkeypatch):
    monkeypatch.setattr(provider, "_PROGRESS", 2000)
    head, content = a_store(rows=64)
    stream = data_pdus(head + pdvs(1, content, (), is_command=False), [1])
    with node(tmp_path, network_timeout_seconds=0.8) as running:
        peer = RawPeer.connect(running.port)
        began = time.monotonic()
        for start in range(0, len(stream), 1000):
            peer.send(stream[start : start + 1000])
            time.sleep(0.2)
        assert time.monotonic() - began > 1.6
        assert [answer[3] for answer in peer.answers(1)] == [0x0000]
        peer.send(RELEASE_RQ)
        assert peer.end() == "released"


def test_small_messages_count_as_progress(tmp_path):
    echo = pdvs(3, command(C_ECHO_RQ, 1, sop_class=VERIFICATION, data=False), (), is_command=True)
    with node(tmp_path, network_timeout_seconds=0.8) as running:
        peer = RawPeer.connect(running.port)
        for _ in range(6):
            time.sleep(0.3)
            peer.send(data_pdus(echo, [1]))
            assert [answer[3] for answer in peer.answers(1)] == [0x0000]
        peer.send(RELEASE_RQ)
        assert peer.end() == "released"


def test_associations_that_are_never_released_end_after_the_network_timeout(tmp_path):
    with node(tmp_path, max_associations=4, network_timeout_seconds=1) as running:
        kept = [RawPeer.connect(running.port) for _ in range(4)]
        for peer in kept:
            head, content = a_store(kept.index(peer) + 1)
            peer.send(data_pdus(head + pdvs(1, content, (), is_command=False), [1]))
            assert [answer[3] for answer in peer.answers(1)] == [0x0000]
        wait_until(lambda: running.receiver.open_associations == 0, what="the end of silent associations")
        assert [peer.end() for peer in kept] == ["aborted"] * 4
        assert len(running.instances()) == 4
        assert running.rows(schema.associations) == []
        assert serves(running)


def test_many_half_requests_take_no_more_memory_than_their_bytes(tmp_path):
    half = struct.pack(">BxL", 1, 1 << 20) + bytes(1 << 16)
    with node(tmp_path, max_associations=16, acse_timeout_seconds=60) as running:
        before = resident_bytes()
        with connections(running.port, 200, half):
            wait_until(lambda: len(running.receiver._handlers.waiting) <= 16, what="the oldest are closed")
            assert serves(running)
            # a buffer of one mebibyte for each that waits, or is being closed
            assert resident_bytes() - before < 128 << 20


@pytest.mark.parametrize(
    ("calling", "called"),
    [("../../etc/passwd", "PACSGUARD"), ("CT1\x1b[2J\r\n", "PACSGUARD"), ("$(id)", "`id`"), ("TESTSCU", "../..")],
)
def test_tricks_in_ae_titles_are_refused_and_leave_nothing(tmp_path, calling, called):
    request = bytearray(struct.pack(">BxLH2x", 1, 68, 1) + calling.ljust(16).encode() + called.ljust(16).encode())
    request[26:42], request[10:26] = request[10:26], called.ljust(16).encode()
    with node(tmp_path) as running, socket.create_connection(("127.0.0.1", running.port)) as stranger:
        stranger.settimeout(10)
        stranger.sendall(bytes(request) + bytes(32))
        assert stranger.recv(100)[:1] in {b"\x03", b"\x07", b""}
        wait_until(lambda: len(running.receiver._handlers.waiting) == 0, what="the end")
        assert running.receiver.open_associations == 0
        assert serves(running)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize("uid", ["../../../../tmp/x", "/etc/passwd", "1.2.3;id", "1.2[/b]", "..", "1.2.3\\..\\x"])
def test_tricks_in_uids_are_kept_as_text_and_never_become_a_path(tmp_path, uid):
    data_set = make_data_set("1.2.3.78", "1.2.3.78.1", 1)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        data_set[keyword]._value = uid
    content = encoded(data_set)
    with node(tmp_path) as running:
        peer = RawPeer.connect(running.port)
        head = pdvs(1, command(C_STORE_RQ, 1, sop_uid=uid, data=True), (), is_command=True)
        peer.send(data_pdus(head + pdvs(1, content, (), is_command=False), [1]))
        [answer] = peer.answers(1)
        peer.connection.close()
        assert answer[3] in {0x0000, 0xA900, 0xC000}
        files = {path.resolve() for path in (tmp_path / "data").rglob("*") if path.is_file()}
        assert all(path.is_relative_to(tmp_path / "data") for path in files)
        for row in running.instances():
            assert uid not in row["path"]
            assert (running.spool.root / row["path"]).resolve().is_relative_to(running.spool.root.resolve())
