"""Command sets against pynetdicom's."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE

from pacs_guard.deliver.command import StoreRequest, StoreResponse, encode_store_request, parse_store_response

CT = "1.2.840.10008.5.1.4.1.1.2"
UIDS = st.lists(st.integers(0, 99999), min_size=1, max_size=9).map(lambda parts: ".".join(map(str, [1, 2, *parts])))


def stock_command(message, primitive) -> bytes:
    message.primitive_to_message(primitive)
    values = [value for pdu in message.encode_msg(1, 0) for value in pdu.presentation_data_value_list]
    return b"".join(value[1:] for _, value in values if value[0] & 1)


@given(message_id=st.integers(1, 65535), sop_class=UIDS, instance=UIDS)
def test_a_request_is_byte_for_byte_that_of_pynetdicom(message_id, sop_class, instance):
    request = C_STORE()
    request.MessageID, request.Priority = message_id, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(sop_class), UID(instance)
    request.DataSet = BytesIO(b"\x08\0\x05\0\0\0\0\0")
    expected = stock_command(C_STORE_RQ(), request)
    assert encode_store_request(StoreRequest(1, message_id, sop_class, instance)) == expected


@given(
    message_id=st.integers(1, 65535),
    status=st.sampled_from((0x0000, 0x0111, 0x0122, 0xA700, 0xA900, 0xB000, 0xC123)),
    comment=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), max_size=40),
)
def test_a_response_of_pynetdicom_is_read(message_id, status, comment):
    response = C_STORE()
    response.MessageIDBeingRespondedTo, response.Status = message_id, status
    response.AffectedSOPClassUID = UID(CT)
    if comment:
        response.ErrorComment = comment
    encoded = stock_command(C_STORE_RSP(), response)
    assert parse_store_response(encoded) == StoreResponse(message_id, status, comment)


@given(st.binary(max_size=120))
def test_other_bytes_are_refused_with_a_reason(data):
    with pytest.raises(ValueError, match=r"expected|broken|ends"):
        parse_store_response(data)


def test_another_message_is_no_response():
    echo = C_ECHO()
    echo.MessageID = 1
    with pytest.raises(ValueError, match="0x0030; expected a C-STORE response"):
        parse_store_response(stock_command(C_ECHO_RQ(), echo))
