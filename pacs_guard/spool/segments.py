"""The segments that a process writes to: one in use, the next one made ahead."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pacs_guard.spool.failures import translated
from pacs_guard.spool.records import Record, room
from pacs_guard.spool.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pacs_guard.spool.segment import Placed

_SMALLER = 8
_TRY_AGAIN_SECONDS = 10.0


class SegmentWriter:
    """Appends instances to the segment in use.

    Parameters
    ----------
    root : Path
        Of the spool.
    size : int
        Of a segment, bytes; where the disk has no room for one, an eighth of it is tried.
    """

    def __init__(self, root: Path, size: int) -> None:
        self._root = root
        self._size = size
        self._active: Segment | None = None
        self._next: Segment | None = None
        self._preparation: threading.Thread | None = None
        self._not_before = 0.0
        self._lock = threading.Lock()

    @property
    def unused(self) -> int:
        """Bytes of the disk that are taken already and hold nothing yet."""
        return sum(segment.unused for segment in (self._active, self._next) if segment is not None)

    def append(self, preamble: bytes, parts: Sequence[bytes | bytearray | memoryview], record: Record) -> Placed | None:
        """Write an instance into a segment; None if it does not fit into one, or none can be made just now.

        Parameters
        ----------
        preamble : bytes
            What comes before the data set.
        parts : sequence of bytes-like
            The data set.
        record : Record
            Without its place.

        Raises
        ------
        SpoolError
            If it cannot be written.
        """
        while (segment := self._current()) is not None and room(record.size) <= segment.size:
            try:
                placed = segment.append(preamble, parts, record)
            except OSError as error:
                raise translated(error, "a received instance cannot be stored") from error
            if placed is not None:
                return placed
            self._leave(segment)
        return None

    def release(self) -> None:
        """Let go of the segments in use; the next instance begins a new one."""
        with self._lock:
            preparation, self._preparation = self._preparation, None
        if preparation is not None:
            preparation.join()
        with self._lock:
            segments = [segment for segment in (self._active, self._next) if segment is not None]
            self._active = self._next = None
        for segment in segments:
            segment.retire()

    def _current(self) -> Segment | None:
        segment = self._active
        if segment is None:
            with self._lock:
                segment = self._active = self._active or self._following()
        if segment is not None and self._next is None and self._preparation is None:
            self._prepare(segment)
        return segment

    def _leave(self, segment: Segment) -> None:
        with self._lock:
            if self._active is segment:
                self._active = None
        segment.retire()

    def _following(self) -> Segment | None:
        """Return the segment made ahead, or make one; None if the disk has no room for any."""
        if self._preparation is not None:
            self._preparation.join()
            self._preparation = None
        segment, self._next = self._next, None
        return segment or self._make()

    def _prepare(self, used: Segment) -> None:
        """Begin to make the next segment once half of the one in use is."""
        if used.unused > self._size // 2 or time.monotonic() < self._not_before:
            return
        with self._lock:
            if self._next is None and self._preparation is None and self._active is used:
                self._preparation = threading.Thread(target=self._make_next, name="segment", daemon=True)
                self._preparation.start()

    def _make_next(self) -> None:
        self._next = self._make()

    def _make(self) -> Segment | None:
        if time.monotonic() < self._not_before:
            return None
        for size in (self._size, self._size // _SMALLER):
            try:
                return Segment(self._root, size)
            except OSError:  # instances get files of their own meanwhile, which say what is wrong if they fail too
                continue
        self._not_before = time.monotonic() + _TRY_AGAIN_SECONDS
        return None
