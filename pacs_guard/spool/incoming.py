"""An instance being received into a file: written, hashed on the way, then committed, set aside or discarded."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.spool.failures import translated
from pacs_guard.spool.segment import Placed

if TYPE_CHECKING:
    from pacs_guard.spool.folders import Folders

_SMALL = 1 << 15
_ENOUGH = 1 << 17
_HEAD = 1 << 14


class Reader:
    """A received data set from its first byte, read where it lies; its beginning is still in memory.

    Parameters
    ----------
    descriptor : int
    offset : int
        Where the data set starts in the file.
    head : bytes
        Its first bytes.
    """

    def __init__(self, descriptor: int, offset: int, head: bytes) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._head = head
        self._at = 0

    def read(self, count: int) -> bytes:
        """Return the next bytes; fewer only where the data set ends."""
        if self._at + count <= len(self._head):
            found = self._head[self._at : self._at + count]
        else:
            found = os.pread(self._descriptor, count, self._offset + self._at)
        self._at += len(found)
        return found

    def skip(self, count: int) -> None:
        """Pass over bytes without reading them."""
        self._at += count


class IncomingFile:
    """A file being received.

    Small pieces are gathered; large ones go to the kernel as they come, so that nothing is copied twice.

    Parameters
    ----------
    root : Path
        Of the spool.
    folders : Folders
        Where it may end.
    preamble : bytes
        What precedes the data set.

    Attributes
    ----------
    offset : int
        Where the data set starts, bytes.
    length : int
        Bytes of the data set so far.
    """

    def __init__(self, root: Path, folders: Folders, preamble: bytes) -> None:
        self._root = root
        self._folders = folders
        self._path = f"{root}/incoming/{os.urandom(16).hex()}.part"
        self._digest = hashlib.sha256()
        self._head = b""  # of the data set, so that looking at it reads nothing back
        self._preamble = preamble  # until it is written, together with what follows it
        self._gathered = bytearray()
        self.offset = len(preamble)
        self.length = 0
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise translated(error, "a received instance cannot be stored") from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the data set.

        Raises
        ------
        SpoolFullError
            If the disk has no room left.
        SpoolError
            If it fails otherwise.
        """
        if self.length < _HEAD:
            self._head += data[: _HEAD - self.length]
        self.length += len(data)
        if len(data) < _SMALL and len(self._gathered) < _ENOUGH:
            self._gathered += data
        else:
            self._append(data)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the data set so far."""
        digest = self._digest.copy()
        digest.update(self._gathered)
        return digest.hexdigest()

    def reader(self) -> Reader:
        """Return the data set, to look at before it is committed.

        Raises
        ------
        SpoolError
            If what was written so far cannot be flushed.
        """
        self._flush()
        return Reader(self._descriptor, self.offset, self._head)

    def commit(self, path: str) -> None:
        """Make the file durable under its final path, relative to the spool's root.

        Raises
        ------
        SpoolError
            If any step fails; the file is then not visible under that path, or will be set aside at
            reconciliation.
        """
        placed = self.place(path)
        try:
            placed.holder.sync()
        except OSError as error:
            raise translated(error, "a received instance cannot be made durable") from error

    def detach(self) -> None:
        """Let go of the memory that was passed to `write`; nothing of it is held here."""

    def place(self, path: str, origin: bytes = b"") -> Placed:  # noqa: ARG002  # a file keeps nothing beside its bytes
        """Make the content durable and move it to its final path; its folder is to be synced yet.

        Raises
        ------
        SpoolError
            If any step fails.
        """
        self._flush()
        try:
            os.fsync(self._descriptor)
            self._close()
            return Placed(path, self._folders.take_in(self._path, path))
        except OSError as error:
            raise translated(error, "a received instance cannot be made durable") from error

    def set_aside(self) -> str:
        """Keep the file among the refused ones, and return its path relative to the spool's root."""
        path = f"refused/{Path(self._path).stem}.dcm"
        self._flush()
        try:
            self._close()
            Path(self._path).rename(self._root / path)
        except OSError as error:
            raise translated(error, "a refused instance cannot be kept aside") from error
        return path

    def discard(self) -> None:
        """Drop the file; nothing happens if it was committed or set aside."""
        with suppress(OSError):  # it is dropped in any case
            self._close()
        Path(self._path).unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._gathered or self._preamble:
            self._append(b"")

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        """Write what was gathered and `data`, in one system call."""
        preamble, self._preamble = self._preamble, b""
        gathered, self._gathered = self._gathered, bytearray()
        try:
            _write_all(self._descriptor, [part for part in (preamble, gathered, data) if part])
        except OSError as error:
            raise translated(error, "a received instance cannot be stored") from error
        for part in (gathered, data):
            self._digest.update(part)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _write_all(descriptor: int, parts: list[bytes | bytearray | memoryview]) -> None:
    written = os.writev(descriptor, parts)
    left = sum(map(len, parts)) - written
    if not left:
        return
    rest = memoryview(b"".join(parts))[written:]  # a disk that is nearly full takes a part first
    while rest:
        rest = rest[os.write(descriptor, rest) :]
