"""The spool: received instances as DICOM Part 10 files that are never half-written and never renamed in place.

incoming/   being received; worthless after a crash
instances/  acknowledged, or about to be
refused/    answered with a failure and kept aside
orphans/    found without a row at reconciliation and kept aside
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pacs_guard.errors import SpoolCorruptError, SpoolError
from pacs_guard.spool.failures import translated
from pacs_guard.spool.folders import Folder, Folders, sync_all
from pacs_guard.spool.incoming import IncomingFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs_guard.domain.instance import StoredInstance

_CHUNK = 1 << 20


class StoredFiles:
    """Instances in files below a folder, each checked against its row when it is read.

    Parameters
    ----------
    root : Path
        What the instances' paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def absolute(self, instance: StoredInstance) -> Path:
        """Return where an instance's file is."""
        return self.root / instance.path

    def open(self, instance: StoredInstance) -> BinaryIO:
        """Open an instance's file at the first byte of its data set.

        Raises
        ------
        SpoolCorruptError
            If the file is missing or has another length than was received.
        SpoolError
            If it cannot be opened for another reason, which may pass.
        """
        file = os.fdopen(self.descriptor(instance), "rb")
        file.seek(instance.offset)
        return file

    def descriptor(self, instance: StoredInstance) -> int:
        """Open an instance's file for who reads at offsets, and return its descriptor; raises as `open` does."""
        try:
            descriptor = os.open(f"{self.root}/{instance.path}", os.O_RDONLY)
        except FileNotFoundError as error:
            raise SpoolCorruptError(f"instance {instance.id}: {instance.path} is gone from the spool") from error
        except OSError as error:
            raise translated(error, f"instance {instance.id}: {instance.path} cannot be read") from error
        size = os.fstat(descriptor).st_size
        if size != instance.offset + instance.length:
            os.close(descriptor)
            expected = instance.offset + instance.length
            raise SpoolCorruptError(f"instance {instance.id}: {instance.path} has {size} bytes, expected {expected}")
        return descriptor

    def verify(self, instance: StoredInstance) -> None:
        """Check that an instance's bytes are those that were received.

        Raises
        ------
        SpoolCorruptError
            If they are not.
        """
        digest = hashlib.sha256()
        with self.open(instance) as file:
            try:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            except OSError as error:  # a bad sector, most likely
                raise SpoolCorruptError(f"instance {instance.id}: {instance.path} cannot be read: {error}") from error
        if digest.hexdigest() != instance.key.sha256:
            raise SpoolCorruptError(f"instance {instance.id}: the bytes in {instance.path} are not those received")


class Spool(StoredFiles):
    """A folder of received instances.

    Parameters
    ----------
    root : Path
        The folder; created with its parts, readable by its owner alone.

    Raises
    ------
    SpoolError
        If it cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._folders = Folders(root)
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir(mode=0o700, exist_ok=True)
            for part in ("incoming", "instances", "refused", "orphans"):
                (root / part).mkdir(mode=0o700, exist_ok=True)
            sync_all((root, root.parent))
        except OSError as error:
            raise translated(error, f"the spool {root} cannot be prepared") from error
        if not os.access(root / "incoming", os.W_OK | os.X_OK):
            raise SpoolError(f"the spool {root} is not writable by this user; give it to the user that runs the node")

    def receive(self, preamble: bytes) -> IncomingFile:
        """Start a file that will hold `preamble` (file meta information included) and then a data set.

        Raises
        ------
        SpoolError
            If it cannot be created.
        """
        return IncomingFile(self.root, self._folders, preamble)

    def sync(self, folder: Folder) -> None:
        """Make the entries of a folder durable that files were placed in.

        Raises
        ------
        SpoolError
            If that fails; nobody knows then which of the files would survive a loss of power.
        """
        try:
            folder.sync()
        except OSError as error:
            raise translated(error, "received instances cannot be made durable") from error

    def path_for(self, study_uid: str) -> str:
        """Return a path that no file has yet, relative to the root; no text of the study enters it."""
        digest = hashlib.sha256(study_uid.encode()).hexdigest()
        return f"instances/{digest[:2]}/{digest[:24]}/{os.urandom(16).hex()}.dcm"

    def remove(self, path: str) -> None:
        """Remove an instance's file, and its folder if that was the last; nothing happens if it is gone."""
        target = self.root / path
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise translated(error, f"{path} cannot be removed") from error
        _remove_if_empty(target.parent)

    def set_aside_orphan(self, path: str) -> Path | None:
        """Move a file that no row knows out of the way; return where to, or None if it is gone meanwhile."""
        source = self.root / path
        target = self.root / "orphans" / source.name
        try:
            source.replace(target)
        except FileNotFoundError:  # retention was about to remove it
            return None
        except OSError as error:
            raise translated(error, f"{path} cannot be set aside") from error
        _remove_if_empty(source.parent)
        return target

    def instance_paths(self) -> Iterator[tuple[str, float]]:
        """Yield (path, modification time) of every file under ``instances/``."""
        for folder, _, names in os.walk(self.root / "instances"):
            for name in names:
                full = Path(folder, name)
                try:
                    modified = full.stat().st_mtime
                except FileNotFoundError:  # removed since the folder was listed
                    continue
                yield str(full.relative_to(self.root)), modified

    def clear_incoming(self, older_than: float) -> int:
        """Remove what was being received when a process died; `older_than` is in seconds since the epoch."""
        removed = 0
        for file in (self.root / "incoming").iterdir():
            try:
                if file.stat().st_mtime < older_than:
                    file.unlink()
                    removed += 1
            except FileNotFoundError:  # another process was faster
                continue
        return removed

    def limit_refused(self, largest_bytes: int) -> int:
        """Remove the oldest refused objects until the rest fits, and return how many went."""
        files = []
        for file in (self.root / "refused").iterdir():
            with suppress(FileNotFoundError):  # another receiver is at it too
                found = file.stat()
                files.append((found.st_mtime, found.st_size, file))
        total = removed = 0
        for _, size, file in sorted(files, reverse=True):
            total += size
            if total > largest_bytes:
                file.unlink(missing_ok=True)
                removed += 1
        return removed

    def free_bytes(self) -> int:
        """Return what an ordinary user may still write on the spool's disk."""
        return shutil.disk_usage(self.root).free


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise translated(error, f"{folder} cannot be removed") from error
