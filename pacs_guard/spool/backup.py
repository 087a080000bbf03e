"""Copies of files that are never changed once they are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Collection


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
