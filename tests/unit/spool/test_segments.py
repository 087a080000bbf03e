"""Instances in segments: written, made durable, read, removed, and cleared up after a process is gone."""

from __future__ import annotations

import ctypes
import errno
import os
import threading

import pytest

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import SpoolCorruptError, SpoolError, SpoolFullError
from pacs_guard.spool import sealed
from pacs_guard.spool.backup import copy_changed_segments
from pacs_guard.spool.held import LARGEST_HELD
from pacs_guard.spool.incoming import IncomingFile
from pacs_guard.spool.reconcile import reconcile
from pacs_guard.spool.records import BLOCK, HEADER
from pacs_guard.spool.segment import Segment
from pacs_guard.spool.store import Spool
from tests.unit.spool.rows import FakeRows

SIZE = 1 << 16
DATA = b"data set " * 1000
LATER = 1e12


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool", segment_bytes=SIZE)
    yield spool
    spool.release()


def put(spool, data=DATA, *, settle=True):
    incoming = spool.receive(b"preamble")
    incoming.write(data[:10])
    incoming.write(memoryview(data)[10:])
    placed = incoming.place(spool.path_for("1.2"))
    spool.sync(placed.holder)
    if settle:
        placed.holder.settle()
    key = InstanceKey("1.2", "1", "2", incoming.sha256)
    return StoredInstance(1, key, "", "", placed.path, incoming.offset, incoming.length)


def segments(spool):
    return sorted((spool.root / "segments").iterdir())


def rows(*instances):
    return FakeRows({one.path: (number, one.offset + one.length) for number, one in enumerate(instances, start=1)})


def gone(spool):
    """Let the process that wrote to the spool be gone, with all that only it knew."""
    for segment in (spool._segments._active, spool._segments._next):
        if segment is not None:
            os.close(segment._descriptor)
            segment._descriptor = -1
    spool._segments._active = spool._segments._next = None


def test_instances_lie_in_one_segment_and_are_read_as_received(spool):
    instances = [put(spool, bytes([number]) * 5000) for number in range(5)]
    assert len({one.path.rpartition("/")[0] for one in instances}) == 1
    for number, one in enumerate(instances):
        with spool.open(one) as file:
            assert file.read() == bytes([number]) * 5000
        with spool.content(one) as file:
            assert file.read() == b"preamble" + bytes([number]) * 5000
        with spool.content_at(one.path) as file:
            assert file.read(8) == b"preamble"
        descriptor, position = spool.descriptor(one)
        assert os.pread(descriptor, 5000, position) == bytes([number]) * 5000
        os.close(descriptor)
        spool.verify(one)
    assert not list((spool.root / "instances").iterdir())


def test_segments_are_readable_by_their_owner_alone(spool):
    put(spool)
    assert [file.stat().st_mode & 0o777 for file in segments(spool)] == [0o600]


def test_a_full_segment_is_followed_by_the_one_made_ahead(spool):
    instances = [put(spool) for _ in range(12)]
    spool.release()
    for one in instances:
        spool.verify(one)
    files = segments(spool)
    assert len(files) == len({one.path.rpartition("/")[0] for one in instances}) == 3
    assert all(file.stat().st_size % BLOCK == 0 for file in files)
    assert sum(file.stat().st_size for file in files) == 12 * 3 * BLOCK, "unused room was not given back"


def test_what_is_too_large_gets_a_file_of_its_own(spool):
    for length in (SIZE, LARGEST_HELD + 1):
        instance = put(spool, bytes(length))
        assert instance.path.startswith("instances/")
        spool.verify(instance)
    assert list((spool.root / "incoming").iterdir()) == []


def test_memory_is_let_go_on_request(spool):
    incoming = spool.receive(b"")
    buffer = bytearray(b"x" * 5000)
    incoming.write(memoryview(buffer))
    incoming.detach()
    buffer[:] = b"y" * 5000
    incoming.write(memoryview(buffer))
    path = incoming.place("").path
    with spool.content_at(path) as file:
        assert file.read() == b"x" * 5000 + b"y" * 5000


def test_many_small_fragments_take_no_more_memory_than_their_bytes(spool):
    incoming = spool.receive(b"")
    for number in range(3000):
        incoming.write(memoryview(bytes([number % 256])))
    assert len(incoming._parts) == 1
    assert incoming.reader().read(4000) == bytes(number % 256 for number in range(3000))
    spool.release()


def test_reader_passes_over_what_it_is_told_to(spool):
    incoming = spool.receive(b"")
    for fragment in (b"a" * 9000, b"b" * 9000, b"c" * 9000):
        incoming.write(fragment)
    reader = incoming.reader()
    assert reader.read(2) == b"aa"
    reader.skip(17_997)
    assert reader.read(4) == b"bccc"
    reader.skip(8990)
    assert reader.read(100) == b"c" * 7


def test_refused_instance_is_kept_aside_as_a_file(spool):
    incoming = spool.receive(b"p")
    incoming.write(b"x" * 5000)
    assert (spool.root / incoming.set_aside()).read_bytes() == b"p" + b"x" * 5000
    assert segments(spool) == []


def test_no_room_for_a_segment_means_files(spool, monkeypatch):
    asked = []

    def full(_fd, _start, size):
        asked.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    for _ in range(2):
        assert put(spool).path.startswith("instances/")
    assert asked == [SIZE, SIZE // 8], "a full disk is asked again and again"
    assert segments(spool) == []
    assert list((spool.root / "incoming").iterdir()) == []


def test_less_room_means_smaller_segments(spool, monkeypatch):
    real = os.posix_fallocate

    def nearly_full(fd, start, size):
        if size > SIZE // 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, start, size)

    monkeypatch.setattr(os, "posix_fallocate", nearly_full)
    assert put(spool, b"x" * 4000).path.startswith("segments/")
    assert put(spool, bytes(SIZE // 8)).path.startswith("instances/")
    assert put(spool, b"x" * 4000).path.startswith("segments/")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_failed_write_is_told_and_the_next_goes_elsewhere(spool, monkeypatch, number):
    before = put(spool)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", fail)
    with pytest.raises(SpoolFullError if number == errno.ENOSPC else SpoolError):
        put(spool)
    monkeypatch.undo()
    after = put(spool)
    assert before.path.rpartition("/")[0] != after.path.rpartition("/")[0]
    for one in (before, after):
        spool.verify(one)


def test_short_writes_are_completed(spool, monkeypatch):
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: real(fd, [b"".join(parts)[:100]], at))
    spool.verify(put(spool))


def test_after_a_failed_sync_nothing_of_the_segment_is_called_durable(spool, monkeypatch):
    first = spool.receive(b"")
    first.write(DATA)
    second = spool.receive(b"")
    second.write(DATA)
    one, two = first.place(""), second.place("")

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(SpoolError):
        spool.sync(one.holder)
    monkeypatch.undo()  # the kernel tells it once
    with pytest.raises(SpoolError):
        spool.sync(two.holder)
    one.holder.settle()
    two.holder.settle()
    spool.verify(put(spool))


def test_removal_gives_room_back_at_once_and_may_be_repeated(spool):
    one, two = put(spool), put(spool)
    [file] = segments(spool)
    before = file.stat().st_blocks
    spool.remove(one.path)
    spool.remove(one.path)
    assert file.stat().st_blocks <= before - 2 * BLOCK // 512
    assert DATA[:100] not in file.read_bytes()[: HEADER + 2 * BLOCK]
    with pytest.raises(SpoolCorruptError, match="gone"):
        spool.open(one)
    with pytest.raises(SpoolCorruptError, match="gone"):
        spool.content_at(one.path)
    assert (spool.size(one.path), spool.size(two.path)) == (-1, 8 + len(DATA))
    spool.verify(two)
    spool.remove(two.path)
    assert segments(spool) == [file], "a segment in use was removed"
    spool.release()
    spool.remove(two.path)
    assert segments(spool) == []
    spool.remove(two.path)


def test_segment_without_holes_goes_with_its_last_instance(spool, monkeypatch):
    class NoHoles:
        @staticmethod
        def fallocate(*_):
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(sealed, "_LIBC", NoHoles)
    one, two = put(spool), put(spool)
    spool.release()
    spool.remove(one.path)
    assert spool.size(one.path) == -1
    spool.verify(two)
    spool.remove(two.path)
    assert segments(spool) == []


def test_hole_that_fails_is_told(spool, monkeypatch):
    class Broken:
        @staticmethod
        def fallocate(*_):
            ctypes.set_errno(errno.EIO)
            return -1

    one = put(spool)
    monkeypatch.setattr(sealed, "_LIBC", Broken)
    with pytest.raises(SpoolError, match="cannot be removed"):
        spool.remove(one.path)


def test_flipped_bit_and_truncation_are_found(spool):
    one, two = put(spool), put(spool)
    spool.release()
    [file] = segments(spool)
    content = bytearray(file.read_bytes())
    content[HEADER + 500] ^= 1
    file.write_bytes(content[:-BLOCK])
    with pytest.raises(SpoolCorruptError, match="not those received"):
        spool.verify(one)
    with pytest.raises(SpoolCorruptError, match="expected"):
        spool.open(two)
    file.unlink()
    with pytest.raises(SpoolCorruptError, match="gone"):
        spool.open(one)


def test_room_taken_ahead_counts_as_free(spool, monkeypatch):
    before = spool.free_bytes()
    put(spool)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert before > spool.free_bytes() > 0


def test_many_threads_lose_nothing_and_meet_nowhere(spool):
    kept, errors = [], []

    def work(number):
        try:
            for count in range(25):
                instance = put(spool, bytes([number, count]) * 3000)
                if count % 3:
                    kept.append(instance)
                else:
                    spool.remove(instance.path)
        except Exception as error:  # noqa: BLE001  # shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({one.path for one in kept}) == len(kept) == 64
    for one in kept:
        spool.verify(one)
    spool.release()
    found = reconcile(spool, rows(*kept), now=LATER, grace_seconds=0)
    assert (found.missing, found.orphans, found.unfinished) == ((), (), 0)
    for one in kept:
        spool.verify(one)
        spool.remove(one.path)
    assert segments(spool) == []


# reconciliation


def test_segment_in_use_is_left_alone(spool):
    put(spool)
    found = reconcile(Spool(spool.root), rows(), now=LATER, grace_seconds=0)
    assert (found.orphans, found.unfinished) == ((), 0)
    spool.verify(put(spool))


def test_room_that_a_dead_process_had_taken_is_given_back(spool):
    one = put(spool)
    gone(spool)
    assert segments(spool)[0].stat().st_size == SIZE
    assert reconcile(spool, rows(one), now=LATER, grace_seconds=0).missing == ()
    assert segments(spool)[0].stat().st_size == 3 * BLOCK
    spool.verify(one)


def test_a_segment_with_a_header_that_is_broken_is_neither_cut_nor_removed(spool):
    one = put(spool)
    gone(spool)
    with segments(spool)[0].open("r+b") as file:
        file.write(b"?")
    kept = segments(spool)[0].read_bytes()
    assert reconcile(spool, rows(one), now=LATER, grace_seconds=0).missing == (1,)
    assert segments(spool)[0].read_bytes() == kept
    reconcile(spool, rows(), now=LATER, grace_seconds=0)
    assert segments(spool) == []


def test_instance_without_a_row_is_set_aside_whole_and_half_of_one_removed(spool):
    one, whole, half = put(spool), put(spool, b"whole" * 999), put(spool, b"half" * 999)
    with (spool.root / half.path.rpartition("/")[0]).open("r+b") as file:
        file.seek(int(half.path.rpartition("/")[2]) + 2000)
        file.write(bytes(500))
    gone(spool)
    assert reconcile(spool, rows(one), now=0, grace_seconds=0).orphans == ()
    found = reconcile(spool, rows(one), now=LATER, grace_seconds=0)
    [orphan] = found.orphans
    assert found.unfinished == 1
    with open(orphan, "rb") as file:  # noqa: PTH123  # as it is told
        assert file.read() == b"preamble" + b"whole" * 999
    spool.verify(one)
    assert [spool.size(gone.path) for gone in (whole, half)] == [-1, -1]
    assert reconcile(spool, rows(one), now=LATER, grace_seconds=0).orphans == ()


def test_segment_that_nobody_needs_goes(spool):
    put(spool)
    gone(spool)
    spool.receive(b"").write(b"")
    Segment(spool.root, SIZE).retire()
    reconcile(spool, rows(), now=LATER, grace_seconds=0)
    assert segments(spool) == []


def test_rows_whose_segment_is_gone_or_cut_short_are_marked(spool):
    one, two, three = put(spool), put(spool), put(spool)
    spool.release()
    spool.remove(two.path)
    os.truncate(segments(spool)[0], 7 * BLOCK)
    known = rows(one, two, three)
    assert reconcile(spool, known, now=0, grace_seconds=0).missing == (2, 3)
    assert known.missing == {1: False, 2: True, 3: True}


# a backup


def test_backup_copies_changed_segments_without_their_holes(spool, tmp_path):
    one, two = put(spool), put(spool)
    source, target = spool.root / "segments", tmp_path / "copy" / "segments"
    assert copy_changed_segments(source, target) == 1
    copies = Spool(tmp_path / "copy")
    for instance in (one, two):
        copies.verify(instance)
    [file], [copy] = segments(spool), list(target.iterdir())
    assert (copy.stat().st_size, copy.stat().st_mode & 0o77) == (SIZE, 0)
    assert copy.stat().st_blocks <= file.stat().st_blocks
    spool.remove(one.path)
    assert copy_changed_segments(source, target) == 1
    assert copies.size(one.path) == -1
    copies.verify(two)
    os.utime(file, (1e9, 1e9))
    assert [copy_changed_segments(source, target) for _ in range(2)] == [1, 0]


def test_files_are_the_other_way(tmp_path):
    spool = Spool(tmp_path / "files")
    assert isinstance(spool.receive(b""), IncomingFile)
    assert spool.free_bytes() > 0
    spool.release()
