"""An instance being received that is small enough to be held in memory until it is whole, then written once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pacs_guard.spool.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.spool.incoming import IncomingFile, Reader
    from pacs_guard.spool.segment import Placed
    from pacs_guard.spool.segments import SegmentWriter

LARGEST_HELD = 1 << 20
"""Bytes; what is larger goes into a file of its own as it comes."""

_WORTH_HASHING = 1 << 17
_WORTH_HOLDING = 1 << 12  # to refer to a few bytes takes more than to copy them
_HEAD = 1 << 14


class HeldReader:
    """A data set from its first byte, read where it is held.

    Parameters
    ----------
    parts : list of bytes-like
    """

    def __init__(self, parts: list[bytes | bytearray | memoryview]) -> None:
        self._parts = parts
        self._content = b""
        for part in parts:
            self._content += part[: _HEAD - len(self._content)]
            if len(self._content) == _HEAD:
                break
        self._at = 0

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only where the data set ends."""
        stop = self._at + count
        if stop > len(self._content):
            self._content = b"".join(self._parts)
        found = self._content[self._at : stop]
        self._at += len(found)
        return found

    def skip(self, count: int) -> None:
        """Pass over bytes without reading them."""
        self._at += count


class IncomingRecord:
    """An instance being received that will lie in a segment, or in a file of its own if it becomes too large.

    Nothing that is written is copied; `detach` has that done where the memory is needed for something else.

    Parameters
    ----------
    segments : SegmentWriter
        Where it is to be written.
    make_file : callable
        Begins a file of its own.
    preamble : bytes
        What precedes the data set.

    Attributes
    ----------
    offset : int
        Where the data set starts in the Part 10 content, bytes.
    length : int
        Bytes of the data set so far.
    """

    def __init__(self, segments: SegmentWriter, make_file: Callable[[bytes], IncomingFile], preamble: bytes) -> None:
        self._segments = segments
        self._make_file = make_file
        self._preamble = preamble
        self._file: IncomingFile | None = None
        self._parts: list[bytes | bytearray | memoryview] = []
        self._digest = hashlib.sha256()
        self._hashed_parts = 0
        self._unhashed = 0
        self.offset = len(preamble)
        self.length = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append to the data set.

        Raises
        ------
        SpoolFullError
            If the disk has no room left.
        SpoolError
            If it fails otherwise.
        """
        self.length += len(data)
        if self._file is not None or self.length > LARGEST_HELD:
            self._as_file().write(data)
            return
        self._hold(data)
        self._unhashed += len(data)
        if self._unhashed >= _WORTH_HASHING:
            self._hash()

    def detach(self) -> None:
        """Let go of the memory that was passed to `write`."""
        if self._parts:
            self._hash()
            self._parts = [b"".join(self._parts)]
            self._hashed_parts = 1

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the data set so far."""
        if self._file is not None:
            return self._file.sha256
        self._hash()
        return self._digest.hexdigest()

    def reader(self) -> HeldReader | Reader:
        """Return the data set, to look at before it is placed.

        Raises
        ------
        SpoolError
            If what was written so far cannot be flushed.
        """
        return HeldReader(self._parts) if self._file is None else self._file.reader()

    def place(self, path: str, origin: bytes = b"") -> Placed:
        """Write it where it stays: to a segment, or to `path`, relative to the spool's root; it is to be synced yet.

        Parameters
        ----------
        path : str
        origin : bytes
            What a segment keeps of it beside its bytes.

        Raises
        ------
        SpoolError
            If any step fails.
        """
        if self._file is None:
            self._hash()
            record = Record(0, self.offset, self.length, self._digest.digest(), origin)
            placed = self._segments.append(self._preamble, self._parts, record)
            if placed is not None:
                self._parts = []
                return placed
        return self._as_file().place(path)

    def set_aside(self) -> str:
        """Keep it among the refused ones, and return its path relative to the spool's root."""
        return self._as_file().set_aside()

    def discard(self) -> None:
        """Drop it; nothing happens if it was placed or set aside."""
        self._parts = []
        if self._file is not None:
            self._file.discard()

    def _hold(self, data: bytes | memoryview) -> None:
        if len(data) >= _WORTH_HOLDING:
            self._parts.append(data)
        elif len(self._parts) > self._hashed_parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += data
        else:
            self._parts.append(bytearray(data))

    def _hash(self) -> None:
        for part in self._parts[self._hashed_parts :]:
            self._digest.update(part)
        self._hashed_parts = len(self._parts)
        self._unhashed = 0

    def _as_file(self) -> IncomingFile:
        if self._file is None:
            self._file = self._make_file(self._preamble)
            parts, self._parts = self._parts, []
            for part in parts:
                self._file.write(part)
        return self._file
