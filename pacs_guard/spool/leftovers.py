"""What is left in segments whose process is gone: set aside where no row knows it, given back where it is nothing."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pacs_guard.spool.folders import sync_all
from pacs_guard.spool.sealed import clear, left_alone, records_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from pacs_guard.spool.records import Record


@dataclass(slots=True)
class Leftovers:
    """What was found in segments.

    Attributes
    ----------
    orphans : list of str
        Where whole instances without a row were set aside.
    unfinished : int
        Records that were being written when a process died; removed.
    """

    orphans: list[str] = field(default_factory=list)
    unfinished: int = 0


class Rows(Protocol):
    """What is asked of the queue."""

    def known_paths(self, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that a row needs."""
        ...

    def needed_in(self, segment: str) -> set[str]:
        """Return all paths in a segment that a row needs; a slow look."""
        ...


def clear_up(root: Path, rows: Rows, older_than: float) -> Leftovers:
    """Look through all segments that no process writes to.

    Parameters
    ----------
    root : Path
        Of the spool.
    rows : Rows
    older_than : float
        Segments changed later are left alone; seconds since the epoch.

    Raises
    ------
    OSError
        If one cannot be read, or an instance not be set aside.
    """
    found = Leftovers()
    for file in _segments(root):
        with looking(root), _left_alone(root, file) as descriptor:
            if descriptor is not None and os.fstat(descriptor).st_mtime <= older_than:
                _clear_up(root, file, descriptor, rows, found)
    return found


def unwritten(root: Path, written: Callable[[Collection[str]], set[str]]) -> Iterator[list[tuple[str, Record]]]:
    """Yield, for each segment that no process writes to, its whole records that no row ever knew, with their paths.

    They are durable then. Call it while `looking`.

    Parameters
    ----------
    root : Path
        Of the spool.
    written : callable
        Returns those of some paths that a row has, whether it needs them or not.

    Raises
    ------
    OSError
        If something cannot be read; after all else.
    """
    failures: list[OSError] = []
    for file in _segments(root):
        try:
            with _left_alone(root, file) as descriptor:
                if descriptor is not None and (whole := _unwritten(file, descriptor, written, failures)):
                    yield whole
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _unwritten(
    file: str, descriptor: int, written: Callable[[Collection[str]], set[str]], failures: list[OSError]
) -> list[tuple[str, Record]]:
    records = {f"{file}/{record.start}": record for record in records_in(descriptor, file)}
    unknown = sorted(records.keys() - written(list(records)))
    if unknown:
        # what nobody synced yet must not get a row; and what a failed sync left in memory only must not look whole
        os.fdatasync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    whole = []
    for path in unknown:
        try:
            if _is_whole(descriptor, records[path]):
                whole.append((path, records[path]))
        except OSError as error:
            failures.append(error)
    return whole


@contextmanager
def looking(root: Path) -> Iterator[None]:
    """Be the only one, of all processes, who looks through segments, so that a locked one is one that is written to."""
    descriptor = os.open(root / "looking.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _segments(root: Path) -> list[str]:
    return sorted(f"segments/{segment.name}" for segment in (root / "segments").iterdir())


@contextmanager
def _left_alone(root: Path, file: str) -> Iterator[int | None]:
    """Open a segment and keep it locked; None if a process writes to it, or it is gone."""
    try:
        descriptor = os.open(root / file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # retention was faster
        yield None
        return
    try:
        with left_alone(descriptor) as is_mine:
            yield descriptor if is_mine else None
    finally:
        os.close(descriptor)


def _clear_up(root: Path, file: str, descriptor: int, rows: Rows, found: Leftovers) -> None:
    records = {f"{file}/{record.start}": record for record in records_in(descriptor, file)}
    needed = rows.known_paths(list(records))
    for path in sorted(records.keys() - needed):
        _take_out(root, path, descriptor, records[path], found)
    end = max((records[path].stop for path in needed), default=0)
    if end >= os.fstat(descriptor).st_size > 0:
        return
    if rows.needed_in(file) - records.keys():  # a header is broken: whatever lies there stays
        return
    if end:
        os.ftruncate(descriptor, end)
    else:
        (root / file).unlink(missing_ok=True)


def _take_out(root: Path, path: str, descriptor: int, record: Record, found: Leftovers) -> None:
    """Remove a record that no row knows; a whole one was acknowledged perhaps, by an older life of the database."""
    if _is_whole(descriptor, record):
        found.orphans.append(str(_set_aside(root, path, os.pread(descriptor, record.size, record.start))))
    else:
        found.unfinished += 1
    clear(descriptor, record)


def _is_whole(descriptor: int, record: Record) -> bool:
    content = os.pread(descriptor, record.length, record.start + record.offset)
    return hashlib.sha256(content).digest() == record.digest


def _set_aside(root: Path, path: str, content: bytes) -> Path:
    segment, _, start = path.removeprefix("segments/").partition(".seg/")
    target = root / "orphans" / f"{segment}-{start}.dcm"
    temporary = root / "incoming" / f"{segment}-{start}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(target)
    sync_all((target.parent,))
    return target
