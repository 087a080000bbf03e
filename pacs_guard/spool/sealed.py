"""What is done to segments by those who do not write to them: records found, looked at, removed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pacs_guard.spool.records import BLOCK, HEADER, REMOVED, Place, Record, read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEEP_SIZE_AND_PUNCH_HOLE = 0x03
_LIBC = ctypes.CDLL(None, use_errno=True)
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS}


def name_of(file: str) -> str:
    """Return the name that the headers of a segment's records hold, from its path."""
    return file.rpartition("/")[2].removesuffix(".seg")


def record_at(descriptor: int, place: Place) -> Record | None:
    """Return the record of an instance; None if there is none at its place any more.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    begin = place.start - HEADER
    record = read_header(name_of(place.file), begin, os.pread(descriptor, HEADER, begin))
    return record if record is not None and record.is_live else None


def records_in(descriptor: int, file: str) -> Iterator[Record]:
    """Yield the records of a segment that were not removed; holes are passed over.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    name, position, size = name_of(file), 0, os.fstat(descriptor).st_size
    while position < size:
        try:
            position = os.lseek(descriptor, position, os.SEEK_DATA) // BLOCK * BLOCK
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        record = read_header(name, position, os.pread(descriptor, HEADER, position))
        if record is not None and record.is_live:
            yield record
        position = record.stop if record is not None else position + BLOCK


def remove(root: Path, place: Place) -> None:
    """Give the room of an instance's record back, and unlink its segment if that was the last; it may be gone.

    Where the file system makes no holes the record is marked, and its bytes go with the segment.

    Raises
    ------
    OSError
        If that fails.
    """
    try:
        descriptor = os.open(root / place.file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        record = record_at(descriptor, place)
        if record is not None:
            clear(descriptor, record)
        unlink_if_empty(root, place.file, descriptor)
    finally:
        os.close(descriptor)


def clear(descriptor: int, record: Record) -> None:
    """Remove a record from its segment.

    Raises
    ------
    OSError
        If that fails.
    """
    begin, length = ctypes.c_int64(record.begin), ctypes.c_int64(record.stop - record.begin)
    if _LIBC.fallocate(descriptor, _KEEP_SIZE_AND_PUNCH_HOLE, begin, length) == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number))
    os.pwrite(descriptor, REMOVED, record.begin)


@contextmanager
def left_alone(descriptor: int) -> Iterator[bool]:
    """Whether no process writes to a segment, or looks through it, until the block ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def unlink_if_empty(root: Path, file: str, descriptor: int) -> bool:
    """Unlink a segment that no process writes to and that holds nothing; return whether it was.

    Raises
    ------
    OSError
        If that fails.
    """
    if next(records_in(descriptor, file), None) is not None:
        return False
    with left_alone(descriptor) as is_mine:
        if is_mine:
            (root / file).unlink(missing_ok=True)
    return is_mine
