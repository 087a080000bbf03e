"""Faults at each step of receiving: what was acknowledged is kept, bit for bit, and nothing else is claimed."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from pacs_guard.config import Settings
from pacs_guard.errors import SpoolError
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.schema import instances
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.receive.receiver import Receiver
from pacs_guard.receive.recovery import recover
from pacs_guard.receive.wire.provider import WireProvider
from pacs_guard.spool import sealed
from pacs_guard.spool.incoming import IncomingFile
from pacs_guard.spool.reconcile import reconcile
from pacs_guard.spool.segment import Segment
from pacs_guard.spool.store import Spool, StoredFiles
from tests.integration.peers import free_port, is_listening, wait_until
from tests.integration.receiving import CALLERS, CountingMetrics, node
from tests.integration.samples import encoded, make_data_set
from tests.integration.wire_streams import C_STORE_RQ, RELEASE_RQ, RawPeer, command, data_pdus, pdvs
from tests.recovery.disk import ForgetfulDisk

INSTANCES = 6


def slices(study="1.2.3.50", count=INSTANCES):
    """SOP Instance UID and data set of some slices."""
    sets = [make_data_set(study, f"{study}.1", number, rows=32) for number in range(1, count + 1)]
    return [(str(data_set.SOPInstanceUID), encoded(data_set)) for data_set in sets]


def send(port, instances, told=None):
    """Send over one association, and return what was acknowledged and what was answered otherwise.

    The UIDs of what was acknowledged are added to `told` one by one.
    """
    acknowledged, refused = [], []
    peer = RawPeer.connect(port)
    for number, (uid, content) in enumerate(instances, start=1):
        values = pdvs(1, command(C_STORE_RQ, number, sop_uid=uid, data=True), (), is_command=True)
        peer.send(data_pdus(values + pdvs(1, content, (5000,), is_command=False), [2]))
        [answer] = peer.answers(1)
        if not isinstance(answer, tuple):
            break
        (refused if answer[3] else acknowledged).append((uid, content))
        if told is not None and not answer[3]:
            told.append(uid)
    else:
        peer.send(RELEASE_RQ)
    peer.connection.close()
    return acknowledged, refused


def content(root, row):
    """The data set of a row as it lies in a spool; empty if it does not."""
    try:
        with StoredFiles(root).content_at(row["path"]) as file:
            return file.read()[row["offset"] :]
    except SpoolError:
        return b""


def kept(rows, root):
    """SOP Instance UID and data set of every row, as they lie in the spool."""
    return sorted((row["sop_uid"], content(root, row)) for row in rows)


FILES, SEGMENTS = 0, 1 << 18
over_both = pytest.mark.parametrize("segment_bytes", [FILES, SEGMENTS], ids=["files", "segments"])

# a process that dies

STEPS = {
    "write": (IncomingFile, "write"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "folder sync": (Spool, "sync"),
    "segment's room": (os, "posix_fallocate"),
    "record": (Segment, "append"),
    "record's bytes": (os, "pwritev"),
    "segment sync": (os, "fdatasync"),
    "commit": (Intake, "record_all"),
    "response": (WireProvider, "_answer"),
}
BOTH = ("commit", "response")
OF_FILES = ("write", "fsync", "rename", "folder sync", *BOTH)
OF_SEGMENTS = ("segment's room", "record", "record's bytes", "segment sync", *BOTH)
WAYS = [(FILES, step) for step in OF_FILES] + [(SEGMENTS, step) for step in OF_SEGMENTS]
DURABLE_AFTER = {("commit", "after"), ("response", "before"), ("response", "after")}
WRITTEN_AGAIN = {
    *(("record", "after"), ("record's bytes", "after"), ("segment sync", "before"), ("segment sync", "after")),
    ("commit", "before"),
}


def die(target, name, when, hits):
    """Let the process die without a word before or after the `hits`-th call of a function."""
    real, left = getattr(target, name), [hits]

    def dying(*arguments, **options):
        left[0] -= 1
        if not left[0] and when == "before":
            os._exit(9)
        result = real(*arguments, **options)
        if not left[0]:
            os._exit(9)
        return result

    setattr(target, name, dying)


def serve(folder, port, step, when, segment_bytes):
    settings = Settings(
        node={"data_dir": folder / "data"},
        receive={"host": "127.0.0.1", "port": port, "min_free_bytes": 0, "segment_bytes": segment_bytes},
        sources=[{"name": "ct1", "ae_titles": CALLERS}],
        destinations=[{"name": "pacs", "ae_title": "PACS"}],
    )
    database = Database(settings.database_url)
    database.prepare()
    spool = Spool(settings.spool_dir, segment_bytes=segment_bytes)
    receiver = Receiver(settings, spool, Intake(database, time.time, "test"), CountingMetrics())
    receiver.start()
    die(*STEPS[step], when, 1 if step == "segment's room" else 4)
    threading.Event().wait()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("segment_bytes", "step"), WAYS)
def test_process_that_dies_takes_nothing_acknowledged_with_it(tmp_path, segment_bytes, step, when):
    port, instances = free_port(), slices()
    how = tmp_path, port, step, when, segment_bytes
    process = multiprocessing.get_context("fork").Process(target=serve, args=how, daemon=True)
    process.start()
    try:
        wait_until(lambda: is_listening(port), what="the receiver")
        acknowledged, refused = send(port, instances)
        process.join(20)
        assert process.exitcode == 9
        assert not refused
        assert len(acknowledged) < INSTANCES
    finally:
        process.kill()
    with node(tmp_path, segment_bytes=segment_bytes) as again:
        found = reconcile(again.spool, Upkeep(again.database, time.time), now=time.time() + 1, grace_seconds=0)
        assert found.missing == ()
        # one more may be durable whose answer did not arrive; the sender comes again with it
        count = len(again.instances())
        durable = DURABLE_AFTER | WRITTEN_AGAIN if segment_bytes else DURABLE_AFTER
        assert len(acknowledged) <= count <= len(acknowledged) + ((step, when) in durable)
        if segment_bytes and (step, when) in WRITTEN_AGAIN:
            assert count == len(acknowledged) + 1, "what its record says was not taken in"
        assert kept(again.instances(), again.spool.root) == sorted(instances[:count])
        assert send(again.port, instances) == (instances, [])
        assert kept(again.instances(), again.spool.root) == sorted(instances)
        assert again.files("incoming") == []
        assert len(again.files()) == INSTANCES


def test_a_receiver_that_starts_waits_for_whoever_looks_through_the_segments(tmp_path):
    with node(tmp_path, segment_bytes=SEGMENTS) as running:
        spool = Spool(running.spool.root)
    started = threading.Event()

    def start():
        with node(tmp_path, segment_bytes=SEGMENTS):
            started.set()

    thread = threading.Thread(target=start)
    with spool.looking():
        thread.start()
        assert not started.wait(0.5)
    thread.join(20)
    assert started.is_set()


# a disk or a database that fails


@contextmanager
def failing(monkeypatch, step, error, hits=3):
    """Let the `hits`-th call of a step fail."""
    target, name = STEPS[step]
    real, left = getattr(target, name), [hits]

    def faulty(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            raise error
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, faulty)
        yield


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize(
    ("segment_bytes", "step"),
    [(FILES, "fsync"), (FILES, "rename"), (SEGMENTS, "record's bytes"), (SEGMENTS, "segment sync")],
)
def test_disk_that_fails_refuses_one_and_takes_the_next(tmp_path, monkeypatch, segment_bytes, step, number):
    instances = slices()
    with node(tmp_path, segment_bytes=segment_bytes) as running:
        with failing(monkeypatch, step, OSError(number, os.strerror(number))):
            acknowledged, refused = send(running.port, instances)
        assert len(refused) == 1
        assert acknowledged == [one for one in instances if one not in refused]
        assert kept(running.instances(), running.spool.root) == sorted(acknowledged)
        assert len(running.files()) == len(acknowledged)
        assert running.files("incoming") == []
        assert send(running.port, instances) == (instances, [])
        assert kept(running.instances(), running.spool.root) == sorted(instances)


@over_both
def test_row_that_fails_does_not_fail_those_committed_with_it(tmp_path, monkeypatch, segment_bytes):
    """Four associations commit together, and the database refuses one study's rows."""
    studies = {number: slices(f"1.2.3.6{number}", 5) for number in range(4)}
    unwanted = "1.2.3.62"
    with node(tmp_path, segment_bytes=segment_bytes) as running:
        recorder = running.intake._recorder
        real, groups = recorder.record, []

        def record(connection, arrivals, now):
            groups.append(len(arrivals))
            time.sleep(0.01)
            if any(arrival.instance.key.study_uid == unwanted for arrival in arrivals):
                raise RuntimeError("a fault")
            return real(connection, arrivals, now)

        monkeypatch.setattr(recorder, "record", record)
        results = {}
        threads = [
            threading.Thread(target=lambda number=number: results.update({number: send(running.port, studies[number])}))
            for number in studies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {number: ([], sent) if number == 2 else (sent, []) for number, sent in studies.items()}
        assert max(groups) > 1, "nothing was committed together"
        expected = [one for number, sent in studies.items() if number != 2 for one in sent]
        assert kept(running.instances(), running.spool.root) == sorted(expected)


# removal


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["clear", "unlink_if_empty"])
def test_process_that_dies_while_it_removes_an_instance_harms_no_other(tmp_path, step, when):
    instances = slices()
    with node(tmp_path, segment_bytes=SEGMENTS) as running:
        assert send(running.port, instances) == (instances, [])
    rows, spool = running.instances(), Spool(running.spool.root)

    def remove():
        die(sealed, step, when, 1)
        spool.remove(rows[0]["path"])

    process = multiprocessing.get_context("fork").Process(target=remove, daemon=True)
    process.start()
    process.join(20)
    assert process.exitcode == 9
    assert spool.size(rows[0]["path"]) == (
        -1 if (step, when) != ("clear", "before") else len(instances[0][1]) + rows[0]["offset"]
    )
    spool.remove(rows[0]["path"])
    assert kept(rows[1:], spool.root) == sorted(instances[1:])
    for row in rows[1:]:
        spool.remove(row["path"])
    assert list((spool.root / "segments").iterdir()) == []


# the power goes


def hashes(root, rows):
    return {row["sop_uid"]: hashlib.sha256(content(root, row)).hexdigest() == row["sha256"] for row in rows}


@contextmanager
def sending(running, count=3, each=20):
    """Send over some associations at once; yields the UIDs acknowledged so far."""
    acknowledged: list[str] = []

    def work(number):
        send(running.port, slices(f"1.2.3.7{number}", each), acknowledged)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    yield acknowledged
    for thread in threads:
        thread.join()
    assert len(acknowledged) == count * each


class ForgetfulDatabase:
    """Keeps an SQLite database as its last durable commit left it, which is the least that a loss of power leaves."""

    def __init__(self, monkeypatch, file):
        self._file, self._lock = file, threading.Lock()
        self._files = {}
        transaction = Database._transaction

        @contextmanager
        def watched(database, durable):
            with self._lock:
                with transaction(database, durable) as connection:
                    yield connection
                if durable:
                    self._note()

        monkeypatch.setattr(Database, "_transaction", watched)
        self._note()

    def _note(self):
        names = (self._file.name, f"{self._file.name}-wal")
        self._files = {name: (self._file.parent / name).read_bytes() for name in names}

    def after_power_loss(self, target):
        with self._lock:
            for name, content in self._files.items():
                (target / name).write_bytes(content)
        return Database(f"sqlite:///{target / self._file.name}")


def rows_after(database, spool):
    """The rows that a receiver finds, or writes again, when it starts."""
    try:
        count = recover(spool, Intake(database, time.time, "test"), structlog.get_logger())
        with database.read() as connection:
            return list(connection.execute(sa.select(instances)).mappings()), count
    finally:
        database.close()


@over_both
def test_loss_of_power_at_any_moment_loses_nothing_acknowledged(tmp_path, monkeypatch, segment_bytes):
    with node(tmp_path / "node", segment_bytes=segment_bytes) as running:
        disk = ForgetfulDisk(running.spool.root)
        disk.watch(monkeypatch)
        Spool(running.spool.root)  # syncs the folders that are there already
        queue = ForgetfulDatabase(monkeypatch, Path(running.database.engine.url.database))
        written_again = 0
        with sending(running, each=60) as acknowledged:
            for cut in range(8):
                time.sleep(0.15)
                told = set(acknowledged)
                left = tmp_path / f"cut-{cut}"
                left.mkdir()
                database = queue.after_power_loss(left)  # before the disk: no row is older than its bytes
                spool = Spool(disk.after_power_loss(left / "spool"))
                rows, count = rows_after(database, spool)
                found = hashes(spool.root, rows)
                assert told <= found.keys()
                assert all(found.values()), "a row has no bytes"
                written_again += count
        assert found
        assert bool(written_again) == bool(segment_bytes), "this test takes away too little or too much"


@pytest.mark.parametrize(("room", "lost"), [(0, 0), (1000, 1)])
def test_a_row_that_its_record_has_no_room_for_is_durable_by_itself(tmp_path, monkeypatch, room, lost):
    """As UIDs may be longer than the standard has it, and nothing is refused for that."""
    monkeypatch.setattr("pacs_guard.receive.storage.LONGEST_ORIGIN", room)
    with node(tmp_path / "node", segment_bytes=SEGMENTS) as running:
        disk = ForgetfulDisk(running.spool.root)
        disk.watch(monkeypatch)
        Spool(running.spool.root)
        queue = ForgetfulDatabase(monkeypatch, Path(running.database.engine.url.database))
        left = tmp_path / "left"
        left.mkdir()
        looked = []

        class Told(list):
            def append(self, uid):  # while the association is open
                database = queue.after_power_loss(left)
                looked.append(rows_after(database, Spool(disk.after_power_loss(left / "spool"))))

        assert send(running.port, slices(count=1), Told())[0]
    [(rows, count)] = looked
    assert (len(rows), count) == (1, lost)


@over_both
def test_this_disk_notices_a_sync_that_is_left_out(tmp_path, monkeypatch, segment_bytes):
    with node(tmp_path / "node", segment_bytes=segment_bytes) as running:
        disk = ForgetfulDisk(running.spool.root)
        disk.watch(monkeypatch)
        Spool(running.spool.root)
        monkeypatch.setattr(Spool, "sync", lambda *_: None)
        assert send(running.port, slices())[0]
        found = hashes(disk.after_power_loss(tmp_path / "left"), running.instances())
        assert len(found) == INSTANCES
        assert not all(found.values())
