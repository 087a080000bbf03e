"""PDUs of the upper layer as bytes (PS3.8 9.3): P-DATA-TF cut from buffers without copying, and stream parsers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum


class PduType(IntEnum):
    """First byte of a PDU."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class PduError(ValueError):
    """Bytes that are no PDU, or none that was allowed; says what was found."""


@dataclass(frozen=True, slots=True)
class Pdu:
    """A whole PDU.

    Attributes
    ----------
    kind : PduType
    body : bytes
        What follows the six bytes of type and length.
    """

    kind: PduType
    body: bytes


RELEASE_RQ = bytes((PduType.RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE_RP = bytes((PduType.RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))
ABORT = bytes((PduType.ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))
"""An A-ABORT by the service user, which gives no reason (PS3.8 9.3.8)."""

LARGEST_FRAGMENT = (1 << 18) - 6
"""An acceptor that sets no limit is not sent everything in one PDU."""
LARGEST_RECEIVED = 1 << 20
"""No PDU that a storage SCU has to read comes near it."""

_COMMAND = 0x01
_LAST = 0x02
_HEAD = struct.Struct(">BxL")
_P_DATA_HEAD = struct.Struct(">BxLLBB")
_PDV_HEAD = struct.Struct(">LBB")


def fragment_bytes(max_pdu_bytes: int) -> int:
    """Return how many bytes of a message fit one P-DATA-TF, an even number as PS3.8 9.3.5 wants PDVs to be.

    Parameters
    ----------
    max_pdu_bytes : int
        What the acceptor announced (PS3.8 D.1); 0 for no limit. It counts what follows the PDU's own head.
    """
    if max_pdu_bytes == 0:
        return LARGEST_FRAGMENT
    return max(1, min(max_pdu_bytes - 6, LARGEST_FRAGMENT) & ~1)


def p_data(
    data: bytes | memoryview, *, context_id: int, size: int, command: bool = False, last: bool = True
) -> list[bytes | memoryview]:
    """Return `data` as P-DATA-TF PDUs of one fragment each: heads and views of `data` in turn.

    Every fragment costs two buffers: hand over no more of a long data set at once than is to be sent at once.

    Parameters
    ----------
    data : bytes or memoryview
        A command set, or the next part of a data set; may be empty.
    context_id : int
        Presentation context.
    size : int
        Most bytes of a fragment.
    command : bool
        Whether it belongs to a command set.
    last : bool
        Whether the message ends with it.
    """
    control = _COMMAND if command else 0
    end = control | (_LAST if last else 0)
    if len(data) <= size:
        return [_p_data_head(len(data), context_id, end), data]
    view = memoryview(data)
    fragments = [view[start : start + size] for start in range(0, len(view), size)]
    buffers: list[bytes | memoryview] = [_p_data_head(size, context_id, control)] * (2 * len(fragments))
    buffers[1::2] = fragments
    buffers[-2] = _p_data_head(len(fragments[-1]), context_id, end)
    return buffers


def _p_data_head(length: int, context_id: int, control: int) -> bytes:
    return _P_DATA_HEAD.pack(PduType.P_DATA_TF, length + 6, length + 2, context_id, control)


class PduParser:
    """Cuts PDUs out of whatever pieces the network delivers."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> list[Pdu]:
        """Take what was received, and return the PDUs that it completes.

        Raises
        ------
        PduError
            If it is no PDU, or an unreasonably long one.
        """
        self._received += data
        found = []
        while len(self._received) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._received)
            if kind not in _KNOWN:
                raise PduError(f"something that starts with 0x{kind:02X} and is no PDU")
            if length > LARGEST_RECEIVED:
                raise PduError(f"a PDU of {length} bytes")
            end = _HEAD.size + length
            if len(self._received) < end:
                break
            found.append(Pdu(_KNOWN[kind], bytes(self._received[_HEAD.size : end])))
            del self._received[:end]
        return found


class CommandParser:
    """Puts command sets together from the fragments of P-DATA-TF PDUs."""

    def __init__(self) -> None:
        self._fragments = bytearray()

    def feed(self, body: bytes) -> list[bytes]:
        """Take the body of a P-DATA-TF, and return the command sets that it completes.

        Raises
        ------
        PduError
            If its presentation data values are broken, or carry a data set: no response to a C-STORE has one.
        """
        found = []
        position = 0
        while position < len(body):
            if position + _PDV_HEAD.size > len(body):
                raise PduError(f"a P-DATA-TF whose last item is cut short at byte {position}")
            length, _context, control = _PDV_HEAD.unpack_from(body, position)
            end = position + 4 + length
            if length < 2 or end > len(body):
                raise PduError(f"a P-DATA-TF with an item of {length} bytes in {len(body) - position - 4}")
            if not control & _COMMAND:
                raise PduError("a data set; expected a C-STORE response")
            self._fragments += body[position + _PDV_HEAD.size : end]
            if len(self._fragments) > LARGEST_RECEIVED:
                raise PduError("a command set without end")
            if control & _LAST:
                found.append(bytes(self._fragments))
                self._fragments.clear()
            position = end
        return found


_KNOWN = {int(kind): kind for kind in PduType}
