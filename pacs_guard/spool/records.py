"""How instances lie in a segment: records one after another, each with a header that tells what follows (no I/O).

A record begins at a multiple of `BLOCK`, so that writing or removing one never touches a block of another; its DICOM
Part 10 content follows its header at once. The header names the segment, so that nothing that a sender puts into a data
set can pass for one, the data set's hash, so that a record can be told to be whole without its row, and what else that
row says, so that it can be written again.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

BLOCK = 4096
HEADER = 1024
LIVE = b"PGRECRD2"
REMOVED = b"PGREMVD2"
"""What stands in a header's place where the file system cannot give the record's room back."""

_FACTS = struct.Struct("<16sIQ32sH")
_CRC = struct.Struct("<I")
_BEGIN = len(LIVE) + _CRC.size
LONGEST_ORIGIN = HEADER - _BEGIN - _FACTS.size
"""Bytes of a header that are left for where a record comes from."""

_PATH = re.compile(r"(segments/[0-9a-f]{32}\.seg)/([0-9]+)")


class Place(NamedTuple):
    """Where an instance's Part 10 content lies.

    Attributes
    ----------
    file : str
        Relative to the spool's root.
    start : int
        Where in the file it begins, bytes; 0 for a file of its own.
    """

    file: str
    start: int

    @property
    def is_in_segment(self) -> bool:
        """Whether other instances lie in the same file."""
        return self.start > 0


def place_of(path: str) -> Place:
    """Return where the instance lies whose path in the spool is given."""
    found = _PATH.fullmatch(path)
    return Place(found[1], int(found[2])) if found else Place(path, 0)


class Record(NamedTuple):
    """What a header says.

    Attributes
    ----------
    start : int
        Where in the segment its Part 10 content begins, bytes.
    offset : int
        Where in that content the data set begins, bytes.
    length : int
        Bytes of the data set.
    digest : bytes
        SHA-256 of the data set.
    origin : bytes
        What else its row says (`pacs_guard.receive.origin`); empty if that is not known.
    is_live : bool
        False if the instance was removed.
    """

    start: int
    offset: int
    length: int
    digest: bytes
    origin: bytes = b""
    is_live: bool = True

    @property
    def size(self) -> int:
        """Bytes of the Part 10 content."""
        return self.offset + self.length

    @property
    def begin(self) -> int:
        """Where its header begins."""
        return self.start - HEADER

    @property
    def stop(self) -> int:
        """Where the next record may begin."""
        return self.begin + room(self.size)


def room(size: int) -> int:
    """Return the bytes that a record with so much content takes in a segment."""
    return -(-(HEADER + size) // BLOCK) * BLOCK


def header(segment: str, record: Record) -> bytes:
    """Return the header of a record in the segment of that name, 32 hexadecimal digits.

    An origin that is too long for it is left out.
    """
    origin = record.origin if len(record.origin) <= LONGEST_ORIGIN else b""
    facts = _FACTS.pack(bytes.fromhex(segment), record.offset, record.length, record.digest, len(origin)) + origin
    return (LIVE + _CRC.pack(zlib.crc32(facts)) + facts).ljust(HEADER, b"\0")


def read_header(segment: str, begin: int, content: bytes) -> Record | None:
    """Return what a header says that was read at `begin`; None if that is no header of this segment."""
    if content[: len(LIVE)] not in {LIVE, REMOVED} or len(content) < HEADER:
        return None
    name, offset, length, digest, size = _FACTS.unpack_from(content, _BEGIN)
    facts = content[_BEGIN : _BEGIN + _FACTS.size + size]
    if content[len(LIVE) : _BEGIN] != _CRC.pack(zlib.crc32(facts)) or name.hex() != segment:
        return None
    return Record(begin + HEADER, offset, length, digest, facts[_FACTS.size :], content.startswith(LIVE))
