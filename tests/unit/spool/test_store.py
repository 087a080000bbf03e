"""Bytes on disk: committed, set aside, discarded, verified, removed."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import SpoolCorruptError, SpoolError, SpoolFullError
from pacs_guard.spool import store
from pacs_guard.spool.store import Spool

DATA = b"data set " * 1000


def put(spool, data=DATA, study="1.2"):
    incoming = spool.receive(b"preamble")
    incoming.write(data)
    path = spool.path_for(study)
    incoming.commit(path)
    key = InstanceKey(study, "1", "2", incoming.sha256)
    return StoredInstance(1, key, "", "", path, incoming.offset, incoming.length)


def files(spool):
    return sorted(str(path.relative_to(spool.root)) for path in spool.root.rglob("*") if path.is_file())


def test_committed_instance_is_there_as_received(spool):
    instance = put(spool)
    assert files(spool) == [instance.path]
    assert (spool.root / instance.path).read_bytes() == b"preamble" + DATA
    assert instance.key.sha256 == hashlib.sha256(DATA).hexdigest()
    with spool.open(instance) as file:
        assert file.read() == DATA
    spool.verify(instance)


def test_everything_is_readable_by_its_owner_alone(spool):
    previous = os.umask(0)
    try:
        spool = Spool(spool.root.parent / "open")
        instance = put(spool)
    finally:
        os.umask(previous)
    for path in [spool.root, *spool.root.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert instance.length == len(DATA)


def test_file_and_every_folder_above_it_are_synced_before_commit_returns(spool, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1]
    )
    for opened in (spool, Spool(spool.root)):  # also where another process has just made the folders
        synced.clear()
        path = spool.root / put(opened).path
        assert synced[0].endswith(".part")
        assert [str(path.parent.parent), str(spool.root / "instances"), str(path.parent)] == synced[1:]
    synced.clear()
    put(spool)
    assert synced[1:] == [str(path.parent)]


def test_nothing_of_the_study_is_in_a_path(spool):
    for study in ("1.2.3.4", "../../etc/passwd", "DOE^JOHN", "/abs"):
        path = spool.path_for(study)
        assert path.startswith("instances/")
        assert study not in path
        assert ".." not in path
        assert path != spool.path_for(study)


def test_discarded_instance_leaves_nothing(spool):
    incoming = spool.receive(b"p")
    incoming.write(b"x")
    incoming.discard()
    assert files(spool) == []
    instance = put(spool)
    incoming.discard()
    assert files(spool) == [instance.path]


def test_refused_instance_is_kept_aside(spool):
    incoming = spool.receive(b"p")
    incoming.write(b"x")
    path = incoming.set_aside()
    assert files(spool) == [path]
    assert (spool.root / path).read_bytes() == b"px"
    incoming.discard()
    assert files(spool) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_full_disk_makes_nothing_visible(spool, monkeypatch, step, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    incoming = spool.receive(b"p")
    incoming.write(DATA)
    monkeypatch.setattr(*((os, step)), fail)
    with pytest.raises(SpoolFullError, match="durable"):
        incoming.commit(spool.path_for("1"))
    incoming.discard()
    assert files(spool) == []


def test_disk_that_is_really_full_is_told_from_other_faults(spool):
    incoming = spool.receive(b"p")
    os.close(incoming._descriptor)
    incoming._descriptor = os.open("/dev/full", os.O_WRONLY)  # a device that has no room
    with pytest.raises(SpoolFullError, match="No space left"):
        incoming.write(bytes(1 << 16))
    incoming.discard()
    assert files(spool) == []


def test_other_fault_is_no_full_disk(spool, monkeypatch):
    incoming = spool.receive(b"p")

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SpoolError, match="Input/output error") as caught:
        incoming.commit(spool.path_for("1"))
    assert not isinstance(caught.value, SpoolFullError)


def test_flipped_bit_and_truncation_and_loss_are_found(spool):
    instance = put(spool)
    path = spool.root / instance.path
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(SpoolCorruptError, match="not those received"):
        spool.verify(instance)
    path.write_bytes(content[:-1])
    with pytest.raises(SpoolCorruptError, match="expected"):
        spool.open(instance)
    path.unlink()
    with pytest.raises(SpoolCorruptError, match="gone"):
        spool.verify(instance)


def test_file_that_cannot_be_opened_for_a_while_is_not_called_corrupt(spool, monkeypatch):
    instance = put(spool)

    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(store.os, "open", fail)
    with pytest.raises(SpoolError, match="Too many") as caught:
        spool.open(instance)
    assert not isinstance(caught.value, SpoolCorruptError)


def test_removal_takes_the_last_empty_folder_and_may_be_repeated(spool):
    one, two = put(spool), put(spool)
    folder = (spool.root / one.path).parent
    spool.remove(one.path)
    assert folder.exists()
    spool.remove(two.path)
    spool.remove(two.path)
    assert not folder.exists()


def test_folder_removed_while_an_instance_is_committed_is_made_again(spool, monkeypatch):
    real, raced = os.rename, []

    def remove_first(path, name, *, dst_dir_fd):
        if not raced:
            raced.append(name)
            Path(f"/proc/self/fd/{dst_dir_fd}").readlink().rmdir()
        return real(path, name, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", remove_first)
    spool.verify(put(spool))
    assert raced


def test_commits_and_removals_in_parallel_lose_nothing(spool):
    kept, errors = [], []

    def work():
        try:
            for number in range(15):
                instance = put(spool)
                if number % 2:
                    spool.remove(instance.path)
                else:
                    kept.append(instance)
        except Exception as error:  # noqa: BLE001  # shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert files(spool) == sorted(instance.path for instance in kept)


def test_refused_objects_are_limited_oldest_first(spool):
    paths = []
    for age in (300, 200, 100):
        incoming = spool.receive(b"")
        incoming.write(b"x" * 10)
        paths.append(incoming.set_aside())
        os.utime(spool.root / paths[-1], (1e9 - age, 1e9 - age))
    assert spool.limit_refused(20) == 1
    assert files(spool) == sorted(paths[1:])


def test_folder_that_cannot_be_used_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be prepared"):
        Spool(tmp_path / "file" / "spool")
