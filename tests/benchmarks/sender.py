"""A sender that costs next to nothing: one process for each association, everything encoded before the clock starts."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from typing import TYPE_CHECKING

from pydicom.uid import ExplicitVRLittleEndian

from pacs_guard.deliver.command import StoreRequest, encode_store_request, parse_store_response
from pacs_guard.deliver.negotiation import Negotiation
from pacs_guard.deliver.pdu import (
    RELEASE_RQ,
    CommandParser,
    Pdu,
    PduParser,
    fragment_bytes,
    p_data,
)

if TYPE_CHECKING:
    from tests.benchmarks.loads import Load

CALLING = "CT1"
_FORK = multiprocessing.get_context("fork")
_SECONDS = 300.0


class _Association:
    def __init__(self, port: int, called: str, sop_class: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pdus = PduParser()
        self._commands = CommandParser()
        negotiation = Negotiation(CALLING, called, [(sop_class, [ExplicitVRLittleEndian])], ("127.0.0.1", port))
        self.socket.sendall(negotiation.request())
        accepted = negotiation.answer(self._next_pdu())
        assert accepted.contexts, "the peer accepts no CT images"
        self.context_id = accepted.contexts[0][0]
        self.size = fragment_bytes(accepted.max_pdu_bytes)

    def _next_pdu(self) -> Pdu:
        while not (pdus := self._pdus.feed(self._receive())):
            continue
        assert len(pdus) == 1
        return pdus[0]

    def _receive(self) -> bytes:
        # a peer that sends its answer in two writes would otherwise wait for our delayed acknowledgement
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = self.socket.recv(1 << 16)
        assert data, "the peer closed the connection"
        return data

    def send(self, parts: list[bytes]) -> None:
        sent = self.socket.sendmsg(parts)
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            self.socket.sendall(memoryview(part)[sent:])
            sent = 0

    def status(self) -> int:
        while not (commands := self._commands.feed(self._next_pdu().body)):
            continue
        return parse_store_response(commands[0]).status

    def release(self) -> None:
        self.socket.sendall(RELEASE_RQ)
        self._next_pdu()
        self.socket.close()


def _joined(*args: object, **options: object) -> bytes:
    return b"".join(p_data(*args, **options))  # type: ignore[arg-type]  # handed on as they are


def _send_or_say(start, *arguments) -> None:
    try:
        _send(start, *arguments)
    except BaseException:
        start.abort()  # nobody waits for a process that failed
        raise


def _send(start, results, port: int, called: str, load: Load, count: int, size: int) -> None:
    tail = _joined(load.tail, context_id=1, size=size)
    prepared = []
    for number, (sop, head) in enumerate(load.heads(count), start=1):
        request = StoreRequest(1, number % 65536 or 1, load.sop_class_uid, sop)
        command = _joined(encode_store_request(request), context_id=1, size=size, command=True)
        prepared.append(command + _joined(head, context_id=1, size=size, last=False))
    start.wait()
    # a peer that serves one association after another lets the others wait here
    association = _Association(port, called, load.sop_class_uid)
    for head in prepared:
        association.send([head, tail])
        status = association.status()
        assert status == 0, f"answered 0x{status:04X}"
    association.release()
    results.put(time.monotonic())


def send(port: int, called: str, load: Load, count: int, associations: int) -> float:
    """Send `count` instances over some associations at once; return the seconds from negotiation to release.

    Every association sends a study of its own. Preparing is not counted.
    """
    probe = _Association(port, called, load.sop_class_uid)
    assert probe.context_id == 1
    probe.release()
    start, results = _FORK.Barrier(associations + 1), _FORK.Queue()
    each = max(1, count // associations)
    workers = [
        _FORK.Process(target=_send_or_say, args=(start, results, port, called, load, each, probe.size))
        for _ in range(associations)
    ]
    for worker in workers:
        worker.start()
    start.wait(_SECONDS)
    started = time.monotonic()
    ends = [results.get(timeout=_SECONDS) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == os.EX_OK
    return max(ends) - started
