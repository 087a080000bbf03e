"""A disk that is full soon: a small tmpfs, where this user may mount one."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class NoMountError(OSError):
    """Nothing can be mounted here; says why."""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Mount a disk of `size` bytes on a folder while the block runs; yields what gives it another size.

    Raises
    ------
    NoMountError
        If this user may not mount anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield lambda bytes_: _mount("-o", f"remount,size={bytes_}", str(folder))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NoMountError("there is no mount command") from error
    except subprocess.CalledProcessError as error:
        raise NoMountError(error.stderr.strip()) from error
