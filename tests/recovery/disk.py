"""A disk that forgets what was not synced: what is left of a spool when the power goes."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class ForgetfulDisk:
    """Notes what each sync makes durable under a folder: a file's content, or a folder's entries.

    This is less than any real file system keeps: a file whose content was synced is lost all the same unless every
    folder above it was synced after its entry was made.

    Parameters
    ----------
    root : Path
        The folder; it exists and is durable itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._contents: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}
        self._lock = threading.Lock()

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for `os.fsync` and `os.fdatasync` from now on."""
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, partial(self._sync, getattr(os, name)))

    def _sync(self, real: Callable[[int], None], descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115  # not a path of its own
        if path == self._root or self._root in path.parents:
            number = os.fstat(descriptor).st_ino
            with self._lock:
                if path.is_dir():
                    self._entries[number] = {entry.name: entry.inode() for entry in os.scandir(path)}
                else:
                    self._contents[number] = path.read_bytes()
        real(descriptor)

    def after_power_loss(self, target: Path) -> Path:
        """Write what a loss of power at this moment would leave to a new folder, and return it."""
        with self._lock:
            contents, entries = dict(self._contents), dict(self._entries)

        def restore(number: int, folder: Path) -> None:
            folder.mkdir(parents=True, mode=0o700)
            for name, inode in entries.get(number, {}).items():
                if inode in contents:
                    (folder / name).write_bytes(contents[inode])
                elif inode in entries:
                    restore(inode, folder / name)

        restore(self._root.stat().st_ino, target)
        return target
