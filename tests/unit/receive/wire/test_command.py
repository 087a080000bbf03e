"""The fast transport's own command sets, against pynetdicom's."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF

from pacs_guard.receive.wire.command import StoreCommand, read_store_command, store_response

CT = "1.2.840.10008.5.1.4.1.1.2"


def command(**changes):
    """The command set of a C-STORE-RQ as pynetdicom encodes it."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, "1.2.3"
    request.DataSet = BytesIO(b"1")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that are wrong on purpose
        for name, value in changes.items():
            setattr(message.command_set, name, value)
    return encode(message.command_set, True, True)


def test_plain_request_is_read():
    assert read_store_command(command()) == StoreCommand(7, CT, "1.2.3")
    assert read_store_command(command(MoveOriginatorMessageID=3)) == StoreCommand(7, CT, "1.2.3")


@pytest.mark.parametrize(
    "content",
    [
        command(CommandDataSetType=0x0101),
        command(CommandField=0x8001),
        command(AffectedSOPInstanceUID=""),
        command(AffectedSOPInstanceUID="slice_1"),
        command(AffectedSOPInstanceUID="1." * 33),
        command(MessageID=None),
        command()[:-1],
        command() + b"\0",
        command()[12:] + command()[:12],
        b"\x08\x00" + command()[2:],
        b"",
    ],
)
def test_whatever_is_unusual_is_left_to_the_library(content):
    assert read_store_command(content) is None


def test_other_message_is_left_to_the_library():
    echo = C_ECHO()
    echo.MessageID = 1
    message = C_ECHO_RQ()
    message.primitive_to_message(echo)
    assert read_store_command(encode(message.command_set, True, True)) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(content):
    assert read_store_command(content) is None or content


@pytest.mark.parametrize(("status", "comment"), [(0x0000, ""), (0xA700, "no room"), (0xC000, "x" * 64)])
def test_library_reads_the_response(status, comment):
    content = store_response(5, StoreCommand(65535, CT, "1.2.3"), status, comment)
    pdu = P_DATA_TF()
    pdu.decode(content)
    assert len(content) == pdu.pdu_length + 6
    message = DIMSEMessage()
    assert message.decode_msg(pdu.to_primitive())
    found = message.message_to_primitive()
    assert message.context_id == 5
    assert (found.Status, found.ErrorComment or "") == (status, comment)
    assert (found.MessageIDBeingRespondedTo, found.AffectedSOPInstanceUID) == (65535, "1.2.3")
    assert found.AffectedSOPClassUID == CT
    length = struct.unpack_from("<L", content, 20)[0]
    assert length == len(content) - 24
