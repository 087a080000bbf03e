"""One segment while a process writes to it: records appended side by side, made durable together."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pacs_guard.spool.folders import sync_all
from pacs_guard.spool.records import HEADER, Record, header, room

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pacs_guard.spool.folders import Folder

_MOST_PARTS = 1000  # IOV_MAX is 1024


class Placed(NamedTuple):
    """An instance that lies where it stays, and will be durable once `holder` is synced.

    Attributes
    ----------
    path : str
        Its path in the spool.
    holder : Folder or Segment
    """

    path: str
    holder: Folder | Segment


class Segment:
    """A file whose room is taken at once, so that neither its size nor its folder changes with a record.

    It is locked for as long as this process may write to it. Threads reserve room one after the other and write side by
    side. After a write or a sync that failed nothing more is taken in or called durable, as nobody knows then which of
    its pages the kernel let go.

    Parameters
    ----------
    root : Path
        Of the spool.
    size : int
        Bytes.

    Raises
    ------
    OSError
        If there is no room for it, or it cannot be made.

    Attributes
    ----------
    path : str
        Relative to the spool's root.
    size : int
        Bytes.
    """

    def __init__(self, root: Path, size: int) -> None:
        self._root = root
        self._name = os.urandom(16).hex()
        self.path = f"segments/{self._name}.seg"
        self.size = size
        self._end = 0
        self._unsettled = 0
        self._is_retired = False
        self._failure: OSError | None = None
        self._counting = threading.Lock()
        self._syncing = threading.Lock()
        self._descriptor = self._made()

    def _made(self) -> int:
        temporary, final = self._root / f"incoming/{self._name}.part", self._root / self.path
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before anybody can find it
            os.posix_fallocate(descriptor, 0, self.size)
            os.fsync(descriptor)
            temporary.rename(final)
            sync_all((self._root / "segments",))
        except OSError:
            os.close(descriptor)
            for left in (temporary, final):
                with suppress(OSError):
                    left.unlink(missing_ok=True)
            raise
        return descriptor

    @property
    def unused(self) -> int:
        """Bytes that can still be reserved."""
        return 0 if self._is_retired else self.size - self._end

    def append(self, preamble: bytes, parts: Sequence[bytes | bytearray | memoryview], record: Record) -> Placed | None:
        """Write a record; None if there is no room for it left.

        Whoever gets a place calls `settle` once the row is written, or will not be.

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
        OSError
            If it cannot be written; the segment takes nothing more then.
        """
        begin = self._reserve(room(record.size))
        if begin is None:
            return None
        placed = record._replace(start=begin + HEADER)
        try:
            _write_at(self._descriptor, [header(self._name, record) + preamble, *parts], begin)
        except OSError:
            self.retire()
            self.settle()
            raise
        return Placed(f"{self.path}/{placed.start}", self)

    def _reserve(self, count: int) -> int | None:
        with self._counting:
            if self._is_retired or self._end + count > self.size:
                return None
            begin = self._end
            self._end += count
            self._unsettled += 1
        return begin

    def sync(self) -> None:
        """Make every record durable that was written before.

        Raises
        ------
        OSError
            If that failed, now or at any time before.
        """
        with self._syncing:  # the kernel tells a failure to one caller only
            if self._failure is not None:
                raise self._failure
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                self._failure = error
                self.retire()
                raise

    def settle(self) -> None:
        """Note that nothing more will be done about one of its records by this process."""
        with self._counting:
            self._unsettled -= 1
        self._close_if_done()

    def retire(self) -> None:
        """Take nothing more in; once all records are settled, give unused room back and let go of the file."""
        with self._counting:
            self._is_retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        with self._counting:
            if not self._is_retired or self._unsettled or self._descriptor < 0:
                return
            descriptor, self._descriptor = self._descriptor, -1
        with suppress(OSError):  # reconciliation does it
            if self._end:
                os.ftruncate(descriptor, self._end)
            else:
                (self._root / self.path).unlink()
        os.close(descriptor)


def _write_at(descriptor: int, parts: list[bytes | bytearray | memoryview], position: int) -> None:
    if len(parts) > _MOST_PARTS:
        parts = [b"".join(parts)]
    written = os.pwritev(descriptor, parts, position)
    left = sum(map(len, parts)) - written
    if not left:
        return
    rest = memoryview(b"".join(parts))[written:]
    while rest:
        position += written
        written = os.pwrite(descriptor, rest, position)
        rest = rest[written:]
