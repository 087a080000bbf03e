"""The other ends: a PACS that remembers what it answered, a modality, and lines that can be cut."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage

from pacs_guard.deliver.command import StoreRequest, encode_store_request, parse_store_response
from pacs_guard.deliver.negotiation import Negotiation, NegotiationError
from pacs_guard.deliver.pdu import RELEASE_RQ, CommandParser, PduParser, PduType, p_data
from tests.integration.peers import free_port
from tests.recovery.roles import FORK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXPLICIT = "1.2.840.10008.1.2.1"
_FRAGMENT = 4000


class Modality:
    """Sends instances until each is acknowledged, however often the line or the node goes away.

    Parameters
    ----------
    port : int
    instances : list of (str, bytes)
        SOP Instance UID and data set of each.
    """

    def __init__(self, port: int, instances: list[tuple[str, bytes]]) -> None:
        self._port = port
        self.sent = {sop: hashlib.sha256(data).hexdigest() for sop, data in instances}
        self.waiting = list(instances)
        self.acknowledged: dict[str, str] = {}
        self.failed = 0

    def try_once(self) -> None:
        """Send over one association what is not acknowledged yet, as far as that goes."""
        address = ("127.0.0.1", self._port)
        with (
            contextlib.suppress(OSError, NegotiationError, ValueError),
            socket.create_connection(address, timeout=15) as connection,
        ):
            self._send_all(connection)

    def _send_all(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pdus, commands = PduParser(), CommandParser()

        def next_pdu():
            while not (found := pdus.feed(data := connection.recv(65536))):
                if not data:
                    raise ConnectionError("closed")
            return found[0]

        negotiation = Negotiation("CT1", "PACSGUARD", [(CTImageStorage, [EXPLICIT])], ("127.0.0.1", self._port))
        connection.sendall(negotiation.request())
        negotiation.answer(next_pdu())
        for number, (sop, data) in enumerate(list(self.waiting), start=1):
            command = encode_store_request(StoreRequest(1, number, CTImageStorage, sop))
            parts = [*p_data(command, context_id=1, size=_FRAGMENT, command=True)]
            connection.sendall(b"".join([*parts, *p_data(data, context_id=1, size=_FRAGMENT)]))
            pdu = next_pdu()
            if pdu.kind is not PduType.P_DATA_TF:
                return
            response = parse_store_response(commands.feed(pdu.body)[0])
            if response.status == 0 and response.message_id == number:
                self.acknowledged[sop] = self.sent[sop]
                self.waiting.remove((sop, data))
            else:
                self.failed += 1
        connection.sendall(RELEASE_RQ)
        next_pdu()


class Pacs:
    """A stock pynetdicom storage SCP in a process of its own; each instance is written down before it is answered."""

    def __init__(self, record: Path) -> None:
        self.port = free_port()
        self._record = record
        self._record.touch()
        self._process = FORK.Process(target=self._run, daemon=True)
        self._process.start()

    def _run(self) -> None:
        descriptor = os.open(self._record, os.O_WRONLY | os.O_APPEND)

        def store(event: Any) -> int:
            data = event.request.DataSet.getvalue()
            line = f"{event.request.AffectedSOPInstanceUID} {hashlib.sha256(data).hexdigest()}\n"
            os.write(descriptor, line.encode())
            return 0

        entity = AE("PACS")
        entity.add_supported_context(CTImageStorage, [EXPLICIT])
        entity.start_server(("127.0.0.1", self.port), evt_handlers=[(evt.EVT_C_STORE, store)])

    def received(self) -> dict[str, Counter[str]]:
        """How often each content arrived, by SOP Instance UID."""
        found: dict[str, Counter[str]] = {}
        for line in self._record.read_text().splitlines():
            uid, digest = line.split()
            found.setdefault(uid, Counter())[digest] += 1
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join()


class Line:
    """A TCP proxy in a process of its own that can be cut after a number of bytes, in whatever direction they go."""

    def __init__(self, target: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._target = target
        self._budget = FORK.Value("q", -1)
        self._cuts = FORK.Value("i", 0)
        self._process = FORK.Process(target=self._run, daemon=True)
        self._process.start()
        self._listener.close()

    @property
    def cuts(self) -> int:
        """How often it was cut."""
        return self._cuts.value

    def cut_after(self, count: int) -> None:
        """Cut the connection that carries the next `count` bytes, once."""
        self._budget.value = count

    def _run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            other = {near: far, far: near}
            for side in other:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for data, source in self._pieces(near, far):
                keep = self._allowed(len(data))
                other[source].sendall(data[:keep])
                if keep < len(data):
                    return

    @staticmethod
    def _pieces(near: socket.socket, far: socket.socket) -> Iterator[tuple[bytes, socket.socket]]:
        while True:
            for source in select.select([near, far], [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                yield data, source

    def _allowed(self, count: int) -> int:
        with self._budget.get_lock():
            budget = self._budget.value
            if budget < 0:
                return count
            if budget > count:
                self._budget.value = budget - count
                return count
            self._budget.value = -1
            self._cuts.value += 1
            return max(0, budget - 1)

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Poll until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds:g} s")
        time.sleep(0.01)
