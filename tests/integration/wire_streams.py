"""DIMSE messages as bytes on the wire, cut and packed as a test wants, and a peer that sends them and reads answers."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode

from tests.integration.receiving import associate

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
VERIFICATION = "1.2.840.10008.1.1"
RELEASE_RQ = bytes([5, 0, 0, 0, 0, 4, 0, 0, 0, 0])
ABORT = bytes([7, 0, 0, 0, 0, 4, 0, 0, 0, 0])


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def padded(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def command(kind: int, message_id: int, *, sop_class: str = CTImageStorage, sop_uid: str = "", data: bool) -> bytes:
    """Encode a command set."""
    parts = [element(0x0100, struct.pack("<H", kind))]
    if kind == C_CANCEL_RQ:
        parts.append(element(0x0120, struct.pack("<H", message_id)))
    else:
        parts = [element(0x0002, padded(sop_class)), *parts, element(0x0110, struct.pack("<H", message_id))]
    if kind == C_STORE_RQ:
        parts.append(element(0x0700, struct.pack("<H", 0)))
    parts.append(element(0x0800, struct.pack("<H", 0x0001 if data else 0x0101)))
    if sop_uid:
        parts.append(element(0x1000, padded(sop_uid)))
    body = b"".join(parts)
    return element(0, struct.pack("<L", len(body))) + body


def pdvs(context: int, content: bytes, cuts: Sequence[int], *, is_command: bool) -> list[bytes]:
    """Cut a command set or data set into presentation data values."""
    borders = [0, *sorted(cut for cut in cuts if cut <= len(content)), len(content)]
    pieces = [content[start:stop] for start, stop in itertools.pairwise(borders)]
    return [
        struct.pack(">LBB", len(piece) + 2, context, is_command | 2 * (number == len(pieces))) + piece
        for number, piece in enumerate(pieces, start=1)
    ]


def data_pdus(values: Sequence[bytes], sizes: Sequence[int]) -> bytes:
    """Pack presentation data values into P-DATA-TF PDUs, `sizes` of them in each."""
    packed, at, turn = b"", 0, 0
    while at < len(values):
        count = max(1, sizes[turn % len(sizes)] if sizes else 1)
        content = b"".join(values[at : at + count])
        packed += struct.pack(">BxL", 4, len(content)) + content
        at, turn = at + count, turn + 1
    return packed


@dataclass
class RawPeer:
    """A connection that was negotiated with pynetdicom and is a bare socket from then on."""

    connection: socket.socket
    contexts: dict[str, int]
    received: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> RawPeer:
        association = associate(
            port,
            sop_classes=(CTImageStorage, VERIFICATION),
            transfer_syntaxes=(ExplicitVRLittleEndian, ImplicitVRLittleEndian),
            tls=tls,
        )
        assert association.is_established
        association._kill = association.dul._kill_thread = True
        association.dul.join(10)
        association.join(10)
        connection = association.dul.socket.socket
        connection.settimeout(20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connection, {str(one.abstract_syntax): one.context_id for one in association.accepted_contexts})

    def send(self, content: bytes, cuts: Sequence[int] = ()) -> None:
        """Send, in pieces; nothing happens once the other side has closed."""
        borders = [0, *sorted(cut for cut in cuts if cut <= len(content)), len(content)]
        try:
            for start, stop in itertools.pairwise(borders):
                if stop > start:
                    self.connection.sendall(content[start:stop])
                    time.sleep(0.0002)
        except OSError:
            return

    def read_pdu(self) -> bytes:
        """Return the next PDU; empty once the other side has closed."""
        while len(self.received) < 6 or len(self.received) < 6 + struct.unpack_from(">xxL", self.received)[0]:
            try:
                piece = self.connection.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                return b""
            self.received += piece
        size = 6 + struct.unpack_from(">xxL", self.received)[0]
        pdu = bytes(self.received[:size])
        del self.received[:size]
        return pdu

    def answers(self, count: int) -> list[tuple]:
        """Return the next `count` answers, fewer if the association ends before."""
        found: list[tuple] = []
        while len(found) < count:
            pdu = self.read_pdu()
            if not pdu or pdu[0] != 4:
                return [*found, ending(pdu)]
            found.append(answer(pdu))
        return found

    def end(self) -> str:
        """Return how the association ends, and close."""
        try:
            return ending(self.read_pdu())
        finally:
            self.connection.close()


def answer(pdu: bytes) -> tuple:
    """What matters of a response: context, command, message, status, comment and SOP instance."""
    content = decode(BytesIO(pdu[12:]), True, True)
    return (
        pdu[10],
        content.CommandField,
        content.MessageIDBeingRespondedTo,
        content.Status,
        str(content.get("ErrorComment", "")),
        str(content.get("AffectedSOPInstanceUID", "")),
    )


def ending(pdu: bytes) -> str:
    return {b"": "closed", b"\x06": "released", b"\x07": "aborted"}.get(pdu[:1], f"PDU {pdu[:1].hex()}")
