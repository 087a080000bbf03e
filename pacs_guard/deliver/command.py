"""DIMSE command sets of the storage service, encoded and parsed (PS3.7 6.3.1, 9.3.1): pure functions over bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
_MEDIUM = 0x0000  # the priority that every SCP must take (PS3.7 9.1.1.1.6)
_WITH_DATA_SET = 0x0001
_NO_DATA_SET = 0x0101

# element numbers of group 0000 (PS3.7 E.1)
_GROUP_LENGTH = 0x0000
_SOP_CLASS = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_RESPONDED = 0x0120
_PRIORITY = 0x0700
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_SOP_INSTANCE = 0x1000

_HEAD = struct.Struct("<HHL")
_US = struct.Struct("<H")
_GROUP_LENGTH_ELEMENT = struct.Struct("<HHLL")


def _element(number: int, value: bytes) -> bytes:
    return _HEAD.pack(0x0000, number, len(value)) + value


# what every request has in common, around its Message ID
_REQUEST_BEFORE_ID = _element(_COMMAND_FIELD, _US.pack(C_STORE_RQ)) + _HEAD.pack(0x0000, _MESSAGE_ID, _US.size)
_REQUEST_AFTER_ID = _element(_PRIORITY, _US.pack(_MEDIUM)) + _element(_DATA_SET_TYPE, _US.pack(_WITH_DATA_SET))


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE request says beside its data set.

    Attributes
    ----------
    context_id : int
        Presentation context that it goes over.
    message_id : int
        1 to 65535.
    sop_class_uid, sop_instance_uid : str
        As received, whether they are valid UIDs or not.
    """

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """What a C-STORE response says.

    Attributes
    ----------
    message_id : int
        Of the request that it answers.
    status : int
    comment : str
        Error Comment, empty where there is none.
    """

    message_id: int
    status: int
    comment: str = ""


def encode_store_request(request: StoreRequest) -> bytes:
    """Return the command set of a C-STORE request, in Implicit VR Little Endian as every command set is."""
    elements = b"".join(
        (
            _uid_element(_SOP_CLASS, request.sop_class_uid),
            _REQUEST_BEFORE_ID,
            _US.pack(request.message_id),
            _REQUEST_AFTER_ID,
            _uid_element(_SOP_INSTANCE, request.sop_instance_uid),
        )
    )
    return _GROUP_LENGTH_ELEMENT.pack(0x0000, _GROUP_LENGTH, 4, len(elements)) + elements


def parse_store_response(command_set: bytes) -> StoreResponse:
    """Read a command set that has to be a C-STORE response.

    Raises
    ------
    ValueError
        If it is another message, or none at all; says what was found.
    """
    elements = _elements(command_set)
    field = _number(elements, _COMMAND_FIELD, "Command Field")
    if field != C_STORE_RSP:
        raise ValueError(f"a message with Command Field 0x{field:04X}; expected a C-STORE response, 0x8001")
    if _number(elements, _DATA_SET_TYPE, "Command Data Set Type") != _NO_DATA_SET:
        raise ValueError("a C-STORE response with a data set; expected none")
    return StoreResponse(
        message_id=_number(elements, _MESSAGE_ID_RESPONDED, "Message ID Being Responded To"),
        status=_number(elements, _STATUS, "Status"),
        comment=elements.get(_ERROR_COMMENT, b"").decode("ascii", "replace").strip(" \0"),
    )


def _elements(command_set: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    position, total = 0, len(command_set)
    while position < total:
        start = position + _HEAD.size
        if start > total:
            raise ValueError(f"a command set that ends inside an element's head, at byte {position}")
        group, element, length = _HEAD.unpack_from(command_set, position)
        position = start + length
        if group != 0x0000 or position > total:
            raise ValueError(f"a command set with a broken element ({group:04X},{element:04X}) of {length} bytes")
        found[element] = command_set[start:position]
    return found


def _number(elements: dict[int, bytes], element: int, name: str) -> int:
    value = elements.get(element, b"")
    if len(value) != _US.size:
        raise ValueError(f"a command set whose {name} (0000,{element:04X}) has {len(value)} bytes; expected 2")
    number: int = _US.unpack(value)[0]
    return number


def _uid_element(number: int, uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return _element(number, value + b"\0" if len(value) % 2 else value)
