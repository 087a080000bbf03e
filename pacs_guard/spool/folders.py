"""Folders that are known to be durable, so that a new file in one of them costs one sync and not one for each level."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MOST_OPEN = 128
_MOST_TRIES = 10


class Folder:
    """An open folder whose own entry, and those of all folders above it, are on disk.

    While it is open its inode is used by no other folder, and once it was removed nothing can be put into it: what was
    put into it under this descriptor therefore lies where the path says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changes = 0  # how many wait for a sync or had one
        self._settled = 0  # up to here they had one
        self._failure: tuple[int, OSError] | None = None
        self._counting = threading.Lock()
        self._syncing = threading.Lock()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # it could not even be opened
            os.close(self._descriptor)

    def take_in(self, source: str, name: str) -> None:
        """Move a file into this folder.

        Raises
        ------
        FileNotFoundError
            If the folder was removed.
        """
        os.rename(source, name, dst_dir_fd=self._descriptor)  # pathlib knows no descriptors

    def sync(self) -> None:
        """Make its entries durable; threads that ask while a sync is under way share the next one.

        Raises
        ------
        OSError
            If it failed. The kernel tells a failure once, so all who shared the sync are told here.
        """
        with self._counting:
            self._changes += 1
            mine = self._changes
        with self._syncing:
            if mine > self._settled:
                self._sync_all_changes()
            if self._failure is not None and mine <= self._failure[0]:
                raise self._failure[1]

    def settle(self) -> None:
        """Note that a row knows one of its files, or none will; a folder is held for nobody."""

    def _sync_all_changes(self) -> None:
        changes = self._changes
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._failure = changes, error
        self._settled = changes


class Folders:
    """The folders of instances, kept open while they are in use.

    Parameters
    ----------
    root : Path
        Durable itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[str, Folder] = OrderedDict()
        self._lock = threading.Lock()

    def take_in(self, source: str, target: str) -> Folder:
        """Move a file to `target`, relative to the root, making folders as needed; return the one to be synced."""
        path, _, name = target.rpartition("/")
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                folder = self._folder(path)
                folder.take_in(source, name)
            except FileNotFoundError:  # the folder was empty and removed just now
                if not tries_left:
                    raise
                self._forget(path)
            else:
                return folder
        raise AssertionError  # the last try returns or raises

    def _folder(self, path: str) -> Folder:
        with self._lock:
            known = self._open.get(path)
            if known is not None:
                self._open.move_to_end(path)
                return known
        made = self._make(self._root / path)
        with self._lock:
            self._open[path] = made
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return made

    def _make(self, path: Path) -> Folder:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        folder = Folder(path)
        # whoever made it may not have synced its entry yet
        sync_all(above for above in path.parents if above != self._root and above.is_relative_to(self._root))
        return folder

    def _forget(self, path: str) -> None:
        with self._lock:
            self._open.pop(path, None)


def sync_all(paths: Iterable[Path]) -> None:
    """Make the entries of folders durable."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
