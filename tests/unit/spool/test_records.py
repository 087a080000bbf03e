"""The format of segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.spool.records import (
    BLOCK,
    HEADER,
    LONGEST_ORIGIN,
    REMOVED,
    Place,
    Record,
    header,
    place_of,
    read_header,
    room,
)

NAME = "0123456789abcdef" * 2


@given(
    st.integers(0, 2**40),
    st.integers(0, 2**31),
    st.integers(0, 2**60),
    st.binary(min_size=32, max_size=32),
    st.binary(max_size=LONGEST_ORIGIN),
)
def test_what_is_written_is_read(block, offset, length, digest, origin):
    record = Record(block * BLOCK + HEADER, offset, length, digest, origin)
    content = header(NAME, record)
    assert len(content) == HEADER
    assert read_header(NAME, record.begin, content) == record
    assert record.begin % BLOCK == record.stop % BLOCK == 0
    assert record.start + record.size <= record.stop < record.start + record.size + BLOCK


def test_what_is_no_header_of_this_segment_is_not_taken_for_one():
    content = header(NAME, Record(HEADER, 10, 20, bytes(32), b"ct"))
    assert read_header(NAME[::-1], 0, content) is None
    assert read_header(NAME, 0, content[:-1]) is None
    assert read_header(NAME, 0, b"") is None
    assert read_header(NAME, 0, bytes(HEADER)) is None
    for at in range(8 + 4 + 16 + 4 + 8 + 32 + 2 + 2):
        flipped = bytearray(content)
        flipped[at] ^= 1
        assert read_header(NAME, 0, bytes(flipped)) is None


def test_an_origin_that_is_too_long_is_left_out():
    content = header(NAME, Record(HEADER, 10, 20, bytes(32), bytes(LONGEST_ORIGIN + 1)))
    assert read_header(NAME, 0, content) == Record(HEADER, 10, 20, bytes(32))


def test_a_mark_makes_a_record_removed():
    record = read_header(NAME, 0, REMOVED + header(NAME, Record(HEADER, 10, 20, bytes(32)))[len(REMOVED) :])
    assert (record.is_live, record.stop) == (False, BLOCK)


@pytest.mark.parametrize(("size", "expected"), [(0, BLOCK), (BLOCK - HEADER, BLOCK), (BLOCK - HEADER + 1, 2 * BLOCK)])
def test_room_is_whole_blocks(size, expected):
    assert room(size) == expected


def test_a_path_says_where_its_instance_lies():
    assert place_of(f"segments/{NAME}.seg/128") == Place(f"segments/{NAME}.seg", 128)
    assert place_of(f"segments/{NAME}.seg/128").is_in_segment
    for path in (
        "instances/ab/cd/ef.dcm",
        f"segments/{NAME}.seg/../../x",
        "segments/x.seg/128",
        "evidence/1/report.dcm",
    ):
        assert place_of(path) == Place(path, 0)
        assert not place_of(path).is_in_segment
