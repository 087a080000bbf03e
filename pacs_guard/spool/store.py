"""The spool: received instances as DICOM Part 10 content that is never half-written and never renamed in place.

incoming/   being received; worthless after a crash
instances/  acknowledged, or about to be, each in a file of its own
segments/   the same, many in one file
refused/    answered with a failure and kept aside
orphans/    found without a row at reconciliation and kept aside
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pacs_guard.errors import SpoolCorruptError, SpoolError
from pacs_guard.spool import sealed
from pacs_guard.spool.failures import translated
from pacs_guard.spool.folders import Folders, sync_all
from pacs_guard.spool.held import IncomingRecord
from pacs_guard.spool.incoming import IncomingFile
from pacs_guard.spool.leftovers import clear_up, looking, unwritten
from pacs_guard.spool.records import Place, place_of
from pacs_guard.spool.segments import SegmentWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.spool.folders import Folder
    from pacs_guard.spool.leftovers import Leftovers, Rows
    from pacs_guard.spool.records import Record
    from pacs_guard.spool.segment import Segment

    Incoming = IncomingFile | IncomingRecord

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

    def open(self, instance: StoredInstance) -> BinaryIO:
        """Open an instance's data set.

        Raises
        ------
        SpoolCorruptError
            If it is missing or has another length than was received.
        SpoolError
            If it cannot be opened for another reason, which may pass.
        """
        descriptor, position = self.descriptor(instance)
        return _opened(descriptor, place_of(instance.path), position, instance.length)

    def content(self, instance: StoredInstance) -> BinaryIO:
        """Open an instance's DICOM Part 10 content; raises as `open` does."""
        descriptor, position = self.descriptor(instance)
        size = instance.offset + instance.length
        return _opened(descriptor, place_of(instance.path), position - instance.offset, size)

    def descriptor(self, instance: StoredInstance) -> tuple[int, int]:
        """Open the file that an instance lies in; return its descriptor, and where in it the data set begins.

        Other instances may lie in the same file. Raises as `open` does.
        """
        place = place_of(instance.path)
        try:
            descriptor = os.open(self.root / place.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SpoolCorruptError(f"instance {instance.id}: {instance.path} is gone from the spool") from error
        except OSError as error:
            raise translated(error, f"instance {instance.id}: {instance.path} cannot be read") from error
        size, expected = _size(descriptor, place), instance.offset + instance.length
        if size != expected:
            os.close(descriptor)
            found = f"has {size} bytes, expected {expected}" if size >= 0 else "is gone from the spool"
            raise SpoolCorruptError(f"instance {instance.id}: {instance.path} {found}")
        return descriptor, place.start + instance.offset

    def content_at(self, path: str) -> BinaryIO:
        """Open the Part 10 content at a path as it is, of whatever instance and length.

        Raises
        ------
        SpoolCorruptError
            If there is none.
        SpoolError
            If it cannot be opened for another reason, which may pass.
        """
        place = place_of(path)
        try:
            descriptor = os.open(self.root / place.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SpoolCorruptError(f"{path} is gone from the spool") from error
        except OSError as error:
            raise translated(error, f"{path} cannot be read") from error
        size = _size(descriptor, place)
        if size < 0:
            os.close(descriptor)
            raise SpoolCorruptError(f"{path} is gone from the spool")
        return _opened(descriptor, place, place.start, size)

    def size(self, path: str) -> int:
        """Return the bytes of the Part 10 content at a path; -1 if there is none, or it cannot be opened."""
        place = place_of(path)
        try:
            descriptor = os.open(self.root / place.file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        try:
            return _size(descriptor, place)
        finally:
            os.close(descriptor)

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
    segment_bytes : int
        Size of the segments that small instances are received into; 0 for a file for each.

    Raises
    ------
    SpoolError
        If it cannot be created or written.
    """

    def __init__(self, root: Path, *, segment_bytes: int = 0) -> None:
        super().__init__(root)
        self._folders = Folders(root)
        self._segments = SegmentWriter(root, segment_bytes) if segment_bytes else None
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir(mode=0o700, exist_ok=True)
            for part in ("incoming", "instances", "segments", "refused", "orphans"):
                (root / part).mkdir(mode=0o700, exist_ok=True)
            sync_all((root, root.parent))
        except OSError as error:
            raise translated(error, f"the spool {root} cannot be prepared") from error
        if not os.access(root / "incoming", os.W_OK | os.X_OK):
            raise SpoolError(f"the spool {root} is not writable by this user; give it to the user that runs the node")

    def receive(self, preamble: bytes) -> Incoming:
        """Start an instance with `preamble` (file meta information included) that a data set will follow.

        Raises
        ------
        SpoolError
            If it cannot be created.
        """
        if self._segments is None:
            return self._receive_file(preamble)
        return IncomingRecord(self._segments, self._receive_file, preamble)

    def _receive_file(self, preamble: bytes) -> IncomingFile:
        return IncomingFile(self.root, self._folders, preamble)

    def sync(self, holder: Folder | Segment) -> None:
        """Make durable what was placed in a folder or a segment.

        Raises
        ------
        SpoolError
            If that fails; nobody knows then which of the instances would survive a loss of power.
        """
        try:
            holder.sync()
        except OSError as error:
            raise translated(error, "received instances cannot be made durable") from error

    def release(self) -> None:
        """Let go of the segments that this process writes to; it may go on to receive, into others."""
        if self._segments is not None:
            self._segments.release()

    def path_for(self, study_uid: str) -> str:
        """Return a path that no file has yet, relative to the root; no text of the study enters it."""
        digest = hashlib.sha256(study_uid.encode()).hexdigest()
        return f"instances/{digest[:2]}/{digest[:24]}/{os.urandom(16).hex()}.dcm"

    def remove(self, path: str) -> None:
        """Remove an instance, and its folder or segment if that was the last; nothing happens if it is gone."""
        place = place_of(path)
        target = self.root / place.file
        try:
            if place.is_in_segment:
                sealed.remove(self.root, place)
                return
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

    def clear_up_segments(self, rows: Rows, older_than: float) -> Leftovers:
        """Set aside what no row knows in segments that no process writes to, and give their unused room back.

        Parameters
        ----------
        rows : Rows
        older_than : float
            Segments changed later are left alone; seconds since the epoch.

        Raises
        ------
        SpoolError
            If that fails.
        """
        try:
            return clear_up(self.root, rows, older_than)
        except OSError as error:
            raise translated(error, "segments cannot be cleared up") from error

    def unwritten(self, written: Callable[[Collection[str]], set[str]]) -> Iterator[list[tuple[str, Record]]]:
        """Yield whole records that no row ever knew, with their paths, of each segment that no process writes to.

        They are durable then. Call it while `looking`.

        Parameters
        ----------
        written : callable
            Returns those of some paths that a row has, whether it needs them or not.

        Raises
        ------
        SpoolError
            If something cannot be read; after all else.
        """
        try:
            yield from unwritten(self.root, written)
        except OSError as error:
            raise translated(error, "segments cannot be looked through") from error

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Be the only one, of all processes, who looks through segments.

        Raises
        ------
        SpoolError
            If the lock cannot be opened.
        """
        with ExitStack() as lock:
            try:
                lock.enter_context(looking(self.root))
            except OSError as error:
                raise translated(error, "segments cannot be locked") from error
            yield

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
        system = os.statvfs(self.root)
        return system.f_bavail * system.f_frsize + (self._segments.unused if self._segments is not None else 0)


def _opened(descriptor: int, place: Place, start: int, size: int) -> BinaryIO:
    """Return a file object at `start` of an open file; of a segment, whose instances are small, a copy of the part."""
    if not place.is_in_segment:
        file = os.fdopen(descriptor, "rb")
        file.seek(start)
        return file
    try:
        return io.BytesIO(os.pread(descriptor, size, start))
    except OSError as error:
        raise SpoolCorruptError(f"{place.file} cannot be read: {error}") from error
    finally:
        os.close(descriptor)


def _size(descriptor: int, place: Place) -> int:
    """Return the bytes of an instance's Part 10 content; -1 if it was removed from its segment, or cannot be read."""
    size = os.fstat(descriptor).st_size
    if not place.is_in_segment:
        return size
    try:
        record = sealed.record_at(descriptor, place)
    except OSError:  # a bad sector, most likely
        return -1
    return min(record.size, size - place.start) if record is not None else -1


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise translated(error, f"{folder} cannot be removed") from error
