"""Copies of files that are never changed once they are there, and of segments, which are."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_CLOCK_SECONDS = 2.0


def copy_new_files(source: Path, target: Path) -> int:
    """Copy every file under `source` that `target` does not have in the same size, and return how many.

    Raises
    ------
    SpoolError
        If a file cannot be copied; one that is removed meanwhile is no error.
    """
    copied = 0
    for folder, _, names in os.walk(source):
        for name in names:
            original = Path(folder, name)
            copy = target / original.relative_to(source)
            try:
                copied += _copy(original, copy)
            except FileNotFoundError:  # retention was faster
                continue
            except OSError as error:
                raise SpoolError(f"{original} cannot be copied to {copy}: {error.strerror or error}") from error
    return copied


def _copy(original: Path, copy: Path) -> bool:
    size = original.stat().st_size
    if copy.exists() and copy.stat().st_size == size:
        return False
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = copy.with_name(f"{copy.name}.part")
    shutil.copy2(original, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(copy)
    return True


def copy_changed_segments(source: Path, target: Path) -> int:
    """Copy every segment under `source` that was changed since it was copied, without its holes; return how many.

    Raises
    ------
    SpoolError
        If one cannot be copied; one that is removed meanwhile is no error.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    copied = 0
    for original in sorted(source.glob("*.seg")):
        copy = target / original.name
        try:
            copied += _copy_segment(original, copy)
        except FileNotFoundError:  # retention was faster
            continue
        except OSError as error:
            raise SpoolError(f"{original} cannot be copied to {copy}: {error.strerror or error}") from error
    return copied


def _copy_segment(original: Path, copy: Path) -> bool:
    began, before = time.time(), original.stat()
    if copy.exists() and copy.stat().st_mtime_ns == before.st_mtime_ns and copy.stat().st_size == before.st_size:
        return False
    temporary = copy.with_name(f"{copy.name}.part")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    with original.open("rb") as content, temporary.open("r+b") as file:
        for start, stop in _parts_with_data(content.fileno()):
            os.lseek(file.fileno(), start, os.SEEK_SET)
            while start < stop:
                start += os.sendfile(file.fileno(), content.fileno(), start, stop - start)  # noqa: PLW2901  # so far
        os.ftruncate(file.fileno(), before.st_size)
        os.fsync(file.fileno())
    # what changed a moment ago may change again and keep its time: it is copied again the next time
    modified = before.st_mtime_ns if before.st_mtime < began - _CLOCK_SECONDS else 0
    os.utime(temporary, ns=(modified, modified))
    temporary.replace(copy)
    return True


def _parts_with_data(descriptor: int) -> Iterator[tuple[int, int]]:
    stop = 0
    while True:
        try:
            start = os.lseek(descriptor, stop, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, stop


def remove_others(source: Path, target: Path, keep: Collection[str]) -> int:
    """Remove the files under `target` that are neither under `source` nor named in `keep`; return how many."""
    removed = 0
    for folder, _, names in os.walk(target):
        for name in names:
            path = Path(folder, name).relative_to(target)
            if not (source / path).exists() and str(path) not in keep:
                (target / path).unlink()
                removed += 1
    return removed
