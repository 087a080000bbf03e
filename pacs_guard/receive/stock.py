"""What keeps the library's own way of reading the network within bounds of memory and time."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pynetdicom.transport import RequestHandler

from pacs_guard.errors import ProtocolError

if TYPE_CHECKING:
    from pynetdicom.association import Association

LARGEST_CONTROL_PDU = 1 << 20
_HEADER = struct.Struct(">BxL")
_P_DATA = 4
_KINDS = range(1, 8)
_UNKNOWN_KIND = 0xFF
_PROGRESS = 1 << 16  # so many bytes are to come in each time-out, on average
_CHUNK = 1 << 16
_LEFT_BYTES = 1 << 20


class StockRequestHandler(RequestHandler):
    """The request handler to give to the library's server where the library is to read the network."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        wrapped: Any = association.dul.socket
        wrapped.recv = GuardedReading(association, wrapped.socket, self.ae.maximum_pdu_size).read
        return association


class GuardedReading:
    """Reads PDUs for the library, which would take any length, and wait for the rest of one for ever.

    The library asks for the six bytes of a PDU's header, and then for as many as these say. Where they say too much it
    is given a type that it does not know: it aborts the association for that (PS3.8 table 9-10, AA-1 and AA-8), and
    reads nothing of it. A peer that sends less than 64 KiB for each time-out, counted over a message, is taken for one
    that has ended the connection.

    Parameters
    ----------
    association : Association
    connection : socket
    largest_data : int
        Longest P-DATA-TF PDU that was announced, bytes; 0 for any.
    """

    def __init__(self, association: Association, connection: Any, largest_data: int) -> None:
        self._association = association
        self._connection = connection
        self._largest_data = largest_data
        self._body_follows = False
        self._is_refused = False
        self._began = 0.0
        self._received = 0

    def read(self, count: int) -> bytearray:
        """Return the next `count` bytes, fewer where the connection ended.

        Raises
        ------
        OSError
            If the connection is broken, or the peer too slow (TimeoutError).
        """
        if self._body_follows:
            self._body_follows = False
            return self._receive(count)
        if self._is_refused:
            self._let_go()
            return bytearray()
        return self._header(count)

    def _header(self, count: int) -> bytearray:
        if getattr(self._association.dimse, "message", None) is None:
            self._began, self._received = time.monotonic(), 0
        header = self._receive(count)
        if len(header) == _HEADER.size:
            kind, length = _HEADER.unpack(header)
            self._body_follows = kind in _KINDS
            if self._body_follows and length > (most := self._most(kind)):
                self._refuse(f"a PDU of type {kind:02X}H with {length} bytes; at most {most} are read")
                header[0] = _UNKNOWN_KIND
        return header

    def _most(self, kind: int) -> float:
        if kind != _P_DATA:
            return LARGEST_CONTROL_PDU
        return self._largest_data or float("inf")

    def _refuse(self, why: str) -> None:
        self._body_follows, self._is_refused = False, True
        sink = getattr(self._association.dimse, "sink", None)
        if sink is not None:  # before that nobody knows yet who calls
            sink.broken(ProtocolError(why))

    def _receive(self, count: int) -> bytearray:
        received = bytearray()
        try:
            while len(received) < count:
                self._connection.settimeout(self._time_left())
                chunk = self._connection.recv(min(count - len(received), _CHUNK))
                if not chunk:
                    break
                received += chunk
                self._received += len(chunk)
        finally:
            self._connection.settimeout(self._association.network_timeout)  # answers may take as long
        return received

    def _time_left(self) -> float | None:
        """Return how long the next bytes may take, None for any time.

        Raises
        ------
        TimeoutError
            If they are overdue.
        """
        of = self._association
        limit = of.dimse_timeout if of.is_established else of.acse_timeout
        if limit is None:
            return None
        left = self._began + limit * (1 + self._received // _PROGRESS) - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the peer sent {self._received} bytes of a message and is too slow with the rest")
        return min(left, limit)

    def _let_go(self) -> None:
        """Take what is there already: a connection closed upon it would be reset, and the abort be lost."""
        left = _LEFT_BYTES
        with suppress(OSError):
            self._connection.settimeout(0.0)
            while left > 0 and (chunk := self._connection.recv(_CHUNK)):
                left -= len(chunk)
        self._connection.settimeout(self._association.network_timeout)
