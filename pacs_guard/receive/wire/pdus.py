"""A stream of bytes taken apart into PDUs and the fragments of P-DATA-TF PDUs (PS3.8 9.3): bytes in, events out.

Nothing is held but a header that is cut in two and control PDUs, whose size is bounded; the length of a P-DATA-TF PDU
does not matter. No sockets and no threads: whatever the pieces that the bytes come in, the same messages come out.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from pacs_guard.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_CONTROL_PDU = 1 << 20
"""An A-ASSOCIATE-RQ with 128 presentation contexts of 64 transfer syntaxes each has about half a mebibyte."""

_HEADER = 6
_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")
_P_DATA_TF = 0x04
_CONTROL = {0x01, 0x02, 0x03, 0x05, 0x06, 0x07}
_IS_COMMAND, _IS_LAST = 1, 2


class DataPdu(NamedTuple):
    """The header of a P-DATA-TF PDU; its fragments follow.

    Attributes
    ----------
    length : int
        Bytes of its presentation data values.
    """

    length: int


class Fragment(NamedTuple):
    """The next bytes of a message, all or part of one presentation data value (PS3.8 9.3.5.1).

    Attributes
    ----------
    context_id : int
        Presentation context.
    is_command : bool
        Whether they belong to the command set.
    is_last : bool
        Whether they end the command set or data set.
    data : memoryview
        Into what was fed: to be used before more is fed.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class ControlPdu(NamedTuple):
    """Any other PDU, whole.

    Attributes
    ----------
    content : bytes
        Header included.
    """

    content: bytes


class PduParser:
    """Takes a connection's bytes apart.

    Parameters
    ----------
    max_length : int
        Largest P-DATA-TF PDU that was negotiated, without its header of six bytes (PS3.8 D.1); 0 for any.

    Examples
    --------
    >>> [event] = PduParser(max_length=0).feed(bytes.fromhex("05 00 00000004 00000000"))
    >>> event.content[0]
    5
    """

    def __init__(self, *, max_length: int) -> None:
        self._max_length = max_length
        self._head = bytearray()
        self._control = bytearray()
        self._control_left = 0
        self._pdu_left = 0
        self._pdv_left = 0
        self._context_id = 0
        self._is_command = False
        self._is_last = False

    @property
    def fragment_left(self) -> int:
        """How many bytes of the presentation data value under way are still to come."""
        return self._pdv_left

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[DataPdu | Fragment | ControlPdu]:
        """Yield what the next bytes bring; they are taken in as the iterator is advanced.

        Raises
        ------
        ProtocolError
            On the first byte that breaks the protocol; the parser is of no use afterwards.
        """
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._pdv_left:
                stop = min(end, at + self._pdv_left)
                self._pdv_left -= stop - at
                yield self._fragment(view[at:stop])
                at = stop
            elif self._control_left:
                stop = min(end, at + self._control_left)
                self._control_left -= stop - at
                self._control += view[at:stop]
                at = stop
                if not self._control_left:
                    yield self._control_pdu()
            else:
                stop = min(end, at + _HEADER - len(self._head))
                self._head += view[at:stop]
                at = stop
                if len(self._head) == _HEADER:
                    event = self._begin_pdv() if self._pdu_left else self._begin_pdu()
                    if event is not None:
                        yield event

    def _begin_pdu(self) -> DataPdu | ControlPdu | None:
        kind, length = _PDU.unpack(self._head)
        if kind == _P_DATA_TF:
            self._head.clear()
            if self._max_length and length > self._max_length:
                raise ProtocolError(f"a P-DATA-TF PDU of {length} bytes; {self._max_length} were negotiated")
            self._announce(length)
            return DataPdu(length)
        if kind not in _CONTROL:
            raise ProtocolError(f"a PDU of type {kind:02X}H; PS3.8 has 01H to 07H")
        if length > LARGEST_CONTROL_PDU:
            raise ProtocolError(
                f"a PDU of type {kind:02X}H with {length} bytes; at most {LARGEST_CONTROL_PDU} are read"
            )
        self._control, self._head = self._head, bytearray()
        self._control_left = length
        return None if length else self._control_pdu()

    def _announce(self, left: int) -> None:
        """Note what is left of a P-DATA-TF PDU: nothing, or room for one more header at least."""
        if 0 < left < _HEADER:
            raise ProtocolError(f"{left} bytes of a P-DATA-TF PDU hold no presentation data value")
        self._pdu_left = left

    def _begin_pdv(self) -> Fragment | None:
        length, self._context_id, control = _PDV.unpack(self._head)
        self._head.clear()
        size, room = length - 2, self._pdu_left - _HEADER
        if not 0 <= size <= room:
            raise ProtocolError(f"a presentation data value of {length} bytes; its PDU has room for {room + 2}")
        self._is_command, self._is_last = bool(control & _IS_COMMAND), bool(control & _IS_LAST)
        self._announce(room - size)
        self._pdv_left = size
        return None if size else self._fragment(memoryview(b""))

    def _fragment(self, data: memoryview) -> Fragment:
        return Fragment(self._context_id, self._is_command, self._is_last and not self._pdv_left, data)

    def _control_pdu(self) -> ControlPdu:
        content = bytes(self._control)
        self._control.clear()
        return ControlPdu(content)
