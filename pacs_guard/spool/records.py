"""How instances lie in a segment: records one after another, each with a header that tells what follows (no I/O).

A record begins at a multiple of `BLOCK`, so that writing or removing one never touches a block of another; its DICOM
Part 10 content follows its header at once. The header names the segment, so that nothing that a sender puts into a data
set can pass for one, and the data set's hash, so that a record can be told to be whole without its row.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

BLOCK = 4096
HEADER = 128
LIVE = b"PGRECORD"
REMOVED = b"PGREMOVE"
"""What stands in a header's place where the file system cannot give the record's room back."""

_FACTS = struct.Struct("<16sIQ32s")
_CRC = struct.Struct("<I")
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
    is_live : bool
        False if the instance was removed.
    """

    start: int
    offset: int
    length: int
    digest: bytes
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
    """Return the header of a record in the segment of that name, 32 hexadecimal digits."""
    facts = _FACTS.pack(bytes.fromhex(segment), record.offset, record.length, record.digest)
    return (LIVE + facts + _CRC.pack(zlib.crc32(facts))).ljust(HEADER, b"\0")


def read_header(segment: str, begin: int, content: bytes) -> Record | None:
    """Return what a header says that was read at `begin`; None if that is no header of this segment."""
    facts = content[len(LIVE) : len(LIVE) + _FACTS.size]
    checked = content[len(LIVE) + _FACTS.size :][: _CRC.size]
    if content[: len(LIVE)] not in {LIVE, REMOVED} or checked != _CRC.pack(zlib.crc32(facts)):
        return None
    name, offset, length, digest = _FACTS.unpack(facts)
    if name.hex() != segment:
        return None
    return Record(begin + HEADER, offset, length, digest, content.startswith(LIVE))
