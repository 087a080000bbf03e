"""Bytes in, events out: whatever pieces the bytes come in, and nothing held that a peer can make grow."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.errors import ProtocolError
from pacs_guard.receive.wire.pdus import LARGEST_CONTROL_PDU, ControlPdu, DataPdu, Fragment, PduParser


def pdv(context, control, data):
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def data_pdu(*values):
    content = b"".join(values)
    return struct.pack(">BxL", 4, len(content)) + content


def control_pdu(kind, content=bytes(4)):
    return struct.pack(">BxL", kind, len(content)) + content


def joined(events):
    """Fragments of one presentation data value put together again, everything as plain values."""
    found = []
    for event in events:
        if not isinstance(event, Fragment):
            found.append(event)
            continue
        piece = [event.context_id, event.is_command, event.is_last, bytes(event.data)]
        unfinished = found and isinstance(found[-1], list) and not found[-1][2] and found[-1][:2] == piece[:2]
        if unfinished:
            found[-1] = [*piece[:3], found[-1][3] + piece[3]]
        else:
            found.append(piece)
    return found


def copied(event):
    return event._replace(data=bytes(event.data)) if isinstance(event, Fragment) else event


def parsed(content, cuts=(), **how):
    parser = PduParser(**{"max_length": 0, **how})
    borders = [0, *sorted(cuts), len(content)]
    events = []
    for start, stop in itertools.pairwise(borders):
        events += [copied(event) for event in parser.feed(content[start:stop])]
    return joined(events)


VALUES = st.builds(pdv, st.integers(1, 255), st.integers(0, 3), st.binary(max_size=300))
PDUS = st.one_of(
    st.lists(VALUES, max_size=4).map(lambda values: data_pdu(*values)),
    st.builds(control_pdu, st.sampled_from([1, 2, 3, 5, 6, 7]), st.binary(max_size=40)),
)


@given(st.lists(PDUS, max_size=6).map(b"".join), st.data())
def test_any_cuts_give_the_same_events(content, data):
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=30))
    assert parsed(content, cuts) == parsed(content)
    assert parsed(content, range(len(content))) == parsed(content)


@given(st.binary(max_size=400), st.data())
def test_garbage_gives_events_or_a_protocol_error_the_same_for_any_cuts(content, data):
    def outcome(cuts):
        try:
            return parsed(content, cuts, max_length=1 << 16)
        except ProtocolError as error:
            return str(error)

    assert outcome(data.draw(st.lists(st.integers(0, len(content)), max_size=30))) == outcome(())


def test_a_message_comes_out_as_it_went_in():
    content = data_pdu(pdv(3, 1, b"ab"), pdv(3, 3, b"c"), pdv(3, 0, b"de")) + data_pdu(pdv(3, 2, b"")) + control_pdu(5)
    assert parsed(content) == [
        DataPdu(8 + 7 + 8),
        [3, True, True, b"abc"],
        [3, False, False, b"de"],
        DataPdu(6),
        [3, False, True, b""],
        ControlPdu(control_pdu(5)),
    ]


def test_only_the_last_piece_of_a_last_value_is_last():
    content = data_pdu(pdv(1, 2, b"abcd"))
    parser = PduParser(max_length=0)
    first = [event for event in parser.feed(content[:-2]) if isinstance(event, Fragment)]
    second = list(parser.feed(content[-2:]))
    assert [(bytes(event.data), event.is_last) for event in first + second] == [(b"ab", False), (b"cd", True)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (control_pdu(8), "type 08H"),
        (control_pdu(0), "type 00H"),
        (b"GET / HTTP/1.1", "type 47H"),
        (struct.pack(">BxL", 4, 1001), "1001 bytes; 1000 were negotiated"),
        (struct.pack(">BxL", 1, LARGEST_CONTROL_PDU + 1), "at most"),
        (struct.pack(">BxL", 4, 5) + bytes(5), "5 bytes of a P-DATA-TF PDU hold no"),
        (struct.pack(">BxLLBB", 4, 10, 7, 1, 2), "7 bytes; its PDU has room for 6"),
        (struct.pack(">BxLLBB", 4, 10, 1, 1, 2), "1 bytes; its PDU has room"),
        (struct.pack(">BxLLBB", 4, 10, 0, 1, 2), "0 bytes; its PDU has room"),
        (struct.pack(">BxLLBB", 4, 10, 4, 1, 2) + bytes(4), "2 bytes of a P-DATA-TF PDU hold no"),
        (struct.pack(">BxLLBB", 4, 10, 2**32 - 1, 1, 2), "its PDU has room"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_breaks_the_protocol_is_refused(content, reason, bytewise):
    with pytest.raises(ProtocolError, match=reason):
        parsed(content, range(len(content)) if bytewise else (), max_length=1000)


def test_the_largest_pdu_negotiated_is_taken():
    assert parsed(data_pdu(pdv(1, 2, bytes(994))), max_length=1000)[0] == DataPdu(1000)


def test_nothing_is_held_of_a_value_that_never_ends():
    parser = PduParser(max_length=0)
    list(parser.feed(struct.pack(">BxLLBB", 4, 2**32 - 1, 2**32 - 5, 1, 0)))
    piece = bytes(1 << 16)
    for _ in range(100):
        assert [len(event.data) for event in parser.feed(piece)] == [1 << 16]
    assert len(parser._head) + len(parser._control) == 0
