"""What is left in segments whose process is gone: set aside where no row knows it, given back where it is nothing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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


def clear_up(root: Path, known: Callable[[Collection[str]], set[str]], older_than: float) -> Leftovers:
    """Look through all segments that no process writes to.

    Parameters
    ----------
    root : Path
        Of the spool.
    known : callable
        Returns those of some paths that a row needs.
    older_than : float
        Segments changed later are left alone; seconds since the epoch.

    Raises
    ------
    OSError
        If one cannot be read, or an instance not be set aside.
    """
    found = Leftovers()
    for file, descriptor in _left_alone(root):
        if os.fstat(descriptor).st_mtime <= older_than:
            _clear_up(root, file, descriptor, known, found)
    return found


def unwritten(root: Path, written: Callable[[Collection[str]], set[str]]) -> Iterator[list[tuple[str, Record]]]:
    """Yield, for each segment that no process writes to, its whole records that no row ever knew, with their paths.

    Nobody else looks through the segment meanwhile.

    Parameters
    ----------
    root : Path
        Of the spool.
    written : callable
        Returns those of some paths that a row has, whether it needs them or not.

    Raises
    ------
    OSError
        If one cannot be read; after all others.
    """
    failure: OSError | None = None
    for file, descriptor in _left_alone(root):
        try:
            records = {f"{file}/{record.start}": record for record in records_in(descriptor, file)}
            unknown = sorted(records.keys() - written(list(records)))
            whole = [(path, records[path]) for path in unknown if _is_whole(descriptor, records[path])]
        except OSError as error:
            failure = error
            continue
        if whole:
            yield whole
    if failure is not None:
        raise failure


def _left_alone(root: Path) -> Iterator[tuple[str, int]]:
    """Yield path and descriptor of each segment that no process writes to, locked until the next is asked for."""
    for segment in sorted((root / "segments").iterdir()):
        try:
            descriptor = os.open(segment, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # retention was faster
            continue
        try:
            with left_alone(descriptor) as is_mine:
                if is_mine:
                    yield f"segments/{segment.name}", descriptor
        finally:
            os.close(descriptor)


def _clear_up(
    root: Path, file: str, descriptor: int, known: Callable[[Collection[str]], set[str]], found: Leftovers
) -> None:
    records = {f"{file}/{record.start}": record for record in records_in(descriptor, file)}
    needed = known(list(records))
    for path in sorted(records.keys() - needed):
        _take_out(root, path, descriptor, records[path], found)
    end = max((records[path].stop for path in needed), default=0)
    if not end:
        (root / file).unlink(missing_ok=True)
    elif end < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, end)


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
