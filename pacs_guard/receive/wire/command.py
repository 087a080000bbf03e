"""The two command sets that are read and written here: C-STORE-RQ and C-STORE-RSP (PS3.7 9.3.1, 6.3.1)."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

LARGEST_COMMAND_SET = 1 << 16
"""The longest that PS3.7 allows has less than a kibibyte."""

_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")
_PDU_AND_PDV = struct.Struct(">BxLLBB")
_C_STORE_RQ, _C_STORE_RSP, _NO_DATA_SET = 0x0001, 0x8001, 0x0101
_SOP_CLASS, _FIELD, _MESSAGE_ID, _RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _COMMENT, _SOP_INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
_LAST_OF_COMMAND = 0x03
_UID = re.compile(rb"([0-9.]{1,64})\0?")


class StoreCommand(NamedTuple):
    """What matters of a C-STORE-RQ.

    Attributes
    ----------
    message_id : int
    sop_class_uid, sop_uid : str
        Affected SOP Class and Instance UID.
    """

    message_id: int
    sop_class_uid: str
    sop_uid: str


def read_store_command(content: bytes | bytearray) -> StoreCommand | None:
    """Return a C-STORE-RQ that announces a data set; None if this is another command set, or unusual in any way."""
    elements = _elements(content)
    if elements is None or _number(elements, _FIELD) != _C_STORE_RQ:
        return None
    message_id = _number(elements, _MESSAGE_ID)
    sop_class = _UID.fullmatch(elements.get(_SOP_CLASS, b""))
    sop_uid = _UID.fullmatch(elements.get(_SOP_INSTANCE, b""))
    if message_id is None or sop_class is None or sop_uid is None:
        return None
    if _number(elements, _DATA_SET_TYPE) in {None, _NO_DATA_SET}:
        return None
    return StoreCommand(message_id, sop_class[1].decode(), sop_uid[1].decode())


def _elements(content: bytes | bytearray) -> dict[int, bytes] | None:
    """Return the values by element number; None unless they are group 0000, ascending and whole."""
    found: dict[int, bytes] = {}
    at, last = 0, -1
    while at < len(content):
        if at + _ELEMENT.size > len(content):
            return None
        group, number, length = _ELEMENT.unpack_from(content, at)
        start = at + _ELEMENT.size
        at = start + length
        if group or number <= last or at > len(content):
            return None
        found[number] = bytes(content[start:at])
        last = number
    return found


def _number(elements: dict[int, bytes], number: int) -> int | None:
    value = elements.get(number, b"")
    return int(_US.unpack(value)[0]) if len(value) == _US.size else None


def store_response(context_id: int, request: StoreCommand, status: int, comment: str = "") -> bytes:
    """Return the P-DATA-TF PDU that answers a C-STORE-RQ.

    Parameters
    ----------
    context_id : int
        Presentation context of the request.
    request : StoreCommand
    status : int
    comment : str
        Error Comment, of the default character repertoire, at most 64 characters.
    """
    body = b"".join(
        (
            _element(_SOP_CLASS, _padded(request.sop_class_uid, b"\0")),
            _element(_FIELD, _US.pack(_C_STORE_RSP)),
            _element(_RESPONDED_TO, _US.pack(request.message_id)),
            _element(_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
            _element(_STATUS, _US.pack(status)),
            _element(_COMMENT, _padded(comment, b" ")) if comment else b"",
            _element(_SOP_INSTANCE, _padded(request.sop_uid, b"\0")),
        )
    )
    body = _element(0x0000, struct.pack("<L", len(body))) + body
    return _PDU_AND_PDV.pack(0x04, len(body) + 6, len(body) + 2, context_id, _LAST_OF_COMMAND) + body


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", errors="replace")
    return value + padding * (len(value) % 2)


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value
