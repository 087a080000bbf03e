"""P-DATA-TF as pynetdicom reads it, and streams cut anywhere."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import P_DATA_TF

from pacs_guard.deliver.pdu import (
    ABORT,
    LARGEST_FRAGMENT,
    RELEASE_RP,
    RELEASE_RQ,
    CommandParser,
    Pdu,
    PduError,
    PduParser,
    PduType,
    fragment_bytes,
    p_data,
)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same bytes in pieces that end at `cuts`."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def stock_values(stream: bytes) -> list[tuple[int, bytes]]:
    """(context ID, control header and data) of each presentation data value, as pynetdicom decodes them."""
    values = []
    while stream:
        end = 6 + int.from_bytes(stream[2:6], "big")
        pdu = P_DATA_TF()
        pdu.decode(stream[:end])
        values += [tuple(value) for value in pdu.to_primitive().presentation_data_value_list]
        stream = stream[end:]
    return values


@given(data=st.binary(max_size=3000), size=st.integers(2, 700), command=st.booleans(), last=st.booleans())
def test_pynetdicom_reads_what_was_cut_into_fragments(data, size, command, last):
    buffers = list(p_data(data, context_id=5, size=size, command=command, last=last))
    values = stock_values(b"".join(buffers))
    assert b"".join(value[1:] for _, value in values) == data
    assert {context for context, _ in values} == {5}
    assert all(1 <= len(value) <= size + 1 for _, value in values)
    assert [value[0] for _, value in values] == [int(command)] * (len(values) - 1) + [int(command) + 2 * last]


@pytest.mark.parametrize(
    ("announced", "expected"),
    [(0, LARGEST_FRAGMENT), (4096, 4090), (16384, 16378), (16383, 16376), (1 << 31, LARGEST_FRAGMENT), (7, 1), (8, 2)],
)
def test_a_fragment_fits_the_pdu_that_the_peer_announced(announced, expected):
    assert fragment_bytes(announced) == expected


PDUS = st.lists(
    st.builds(Pdu, st.sampled_from(PduType), st.binary(max_size=300)),
    max_size=6,
)


@given(pdus=PDUS, cuts=st.lists(st.integers(0, 5000), max_size=12))
def test_pdus_are_found_however_the_network_cuts_the_stream(pdus, cuts):
    stream = b"".join(bytes((pdu.kind, 0)) + len(pdu.body).to_bytes(4, "big") + pdu.body for pdu in pdus)
    parser = PduParser()
    assert [pdu for piece in pieces_of(stream, cuts) for pdu in parser.feed(piece)] == pdus


@given(
    commands=st.lists(st.binary(min_size=1, max_size=120), max_size=4),
    size=st.integers(2, 60),
    together=st.integers(1, 5),
)
def test_command_sets_are_put_together_from_fragments(commands, size, together):
    items = [
        bytes(buffer)
        for command in commands
        for head, buffer in pairs(p_data(command, context_id=1, size=size, command=True))
        for buffer in [head[6:] + bytes(buffer)]
    ]
    # several presentation data values may share one PDU
    bodies = [b"".join(items[start : start + together]) for start in range(0, len(items), together)]
    parser = CommandParser()
    assert [command for body in bodies for command in parser.feed(body)] == commands


def pairs(buffers):
    buffers = list(buffers)
    return zip(buffers[::2], buffers[1::2], strict=True)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for(data):
    for parser in (PduParser(), CommandParser()):
        with suppress(PduError):
            parser.feed(data)


def test_a_data_set_is_no_answer():
    with pytest.raises(PduError, match="a data set"):
        CommandParser().feed(b"\0\0\0\x04\x01\x02ab")


def test_a_pdu_of_unreasonable_length_is_refused_before_it_is_waited_for():
    with pytest.raises(PduError, match="4294967295 bytes"):
        PduParser().feed(b"\x04\0\xff\xff\xff\xff")


def test_control_pdus_are_those_of_the_standard():
    found = PduParser().feed(RELEASE_RQ + RELEASE_RP + ABORT)
    assert [(pdu.kind, len(pdu.body)) for pdu in found] == [
        (PduType.RELEASE_RQ, 4),
        (PduType.RELEASE_RP, 4),
        (PduType.ABORT, 4),
    ]
