"""Rows written again from the records of their instances."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from pacs_guard.errors import QueueError
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.schema import instances, studies, tallies
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.receive.origin import Origin
from pacs_guard.receive.recovery import recover
from pacs_guard.spool.reconcile import reconcile
from pacs_guard.spool.store import Spool
from tests.recovery.disk import ForgetfulDisk

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
NOW = 1000.0
LOG = structlog.get_logger()


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    database.prepare()
    yield database
    database.close()


@pytest.fixture
def intake(database):
    intake = Intake(database, lambda: NOW, "test")
    intake.open_association("open", calling_ae="CT", address="10.0.0.1", source="ct")
    return intake


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", segment_bytes=1 << 16)


def put(spool, number=1, association="open", data=b"", origin=None):
    """Write an instance, and let the process be gone before its row was; returns its path."""
    if origin is None:
        origin = Origin("1.2", "1.2.1", f"1.2.1.{number}", CT, EXPLICIT, "ct", "CT", association).encoded()
    incoming = spool.receive(b"preamble")
    incoming.write(data or b"data set %d" % number * 100)
    placed = incoming.place("", origin)
    spool.sync(placed.holder)
    placed.holder.settle()
    return placed.path


def rows(database):
    with database.read() as connection:
        return list(connection.execute(sa.select(instances).order_by(instances.c.sop_uid)).mappings())


def test_an_instance_of_an_open_association_is_written_down_as_it_would_have_been(spool, intake, database):
    path = put(spool)
    spool.release()
    assert recover(spool, intake, LOG) == 1
    [row] = rows(database)
    kept = ("series_uid", "sop_uid", "sop_class_uid", "transfer_syntax_uid", "path", "source", "calling_ae")
    assert {name: row[name] for name in kept} == {
        "series_uid": "1.2.1",
        "sop_uid": "1.2.1.1",
        "sop_class_uid": CT,
        "transfer_syntax_uid": EXPLICIT,
        "path": path,
        "source": "ct",
        "calling_ae": "CT",
    }
    assert (row["offset"], row["length"]) == (len(b"preamble"), len(b"data set 1") * 100)
    assert spool.content_at(path).read() == b"preamble" + b"data set 1" * 100
    with database.read() as connection:
        assert connection.execute(sa.select(studies.c.study_uid, studies.c.received_count)).all() == [("1.2", 1)]
        assert connection.execute(sa.select(tallies.c.source, tallies.c.instances)).all() == [("ct", 1)]
    assert recover(spool, intake, LOG) == 0
    found = reconcile(spool, Upkeep(database, lambda: NOW), now=1e12, grace_seconds=0)
    assert (found.missing, found.orphans) == ((), ())


@pytest.mark.parametrize(
    "lost",
    [{"association": "closed"}, {"origin": b""}, {"origin": b"x" * 2000}],
    ids=["closed association", "unknown origin", "origin too long"],
)
def test_what_may_be_of_an_older_life_of_the_database_is_set_aside(spool, intake, database, lost):
    put(spool, **lost)
    spool.release()
    assert recover(spool, intake, LOG) == 0
    assert rows(database) == []
    assert len(reconcile(spool, Upkeep(database, lambda: NOW), now=1e12, grace_seconds=0).orphans) == 1


def test_an_instance_whose_sender_came_again_is_there_once(spool, intake, database):
    for _ in range(2):
        put(spool)
    spool.release()
    assert recover(spool, intake, LOG) == 1
    [row] = rows(database)
    assert row["duplicates"] == 1
    assert reconcile(spool, Upkeep(database, lambda: NOW), now=1e12, grace_seconds=0).orphans == ()
    assert spool.size(row["path"]) > 0


def test_a_duplicate_that_was_answered_and_counted_is_removed_and_not_counted_again(spool, intake, database):
    put(spool)
    spool.release()
    recover(spool, intake, LOG)
    again = put(spool)
    spool.release()
    assert recover(spool, intake, LOG) == 0
    assert rows(database)[0]["duplicates"] == 0
    assert spool.size(again) == -1
    with database.read() as connection:
        assert connection.execute(sa.select(tallies.c.outcome, tallies.c.instances)).all() == [("stored", 1)]


def test_nothing_is_taken_from_a_segment_that_a_process_writes_to(spool, intake, database):
    put(spool)
    assert recover(Spool(spool.root), intake, LOG) == 0
    spool.release()
    assert recover(Spool(spool.root), intake, LOG) == 1


def test_an_instance_that_retention_is_about_to_remove_does_not_come_back(spool, intake, database):
    put(spool)
    spool.release()
    recover(spool, intake, LOG)
    with database.write() as connection:
        connection.execute(sa.update(instances).values(purged_at=NOW))
    assert recover(spool, intake, LOG) == 0
    assert rows(database)[0]["purged_at"] == NOW


def test_half_a_record_is_none(spool, intake, database):
    path = put(spool)
    spool.release()
    [segment] = (spool.root / "segments").iterdir()
    with segment.open("r+b") as file:
        file.seek(int(path.rpartition("/")[2]) + 500)
        file.write(b"\xff")
    assert recover(spool, intake, LOG) == 0
    assert rows(database) == []


def test_a_segment_that_cannot_be_read_keeps_no_other_from_being_looked_through(spool, intake, database, monkeypatch):
    put(spool, 1)
    spool.release()
    put(spool, 2)
    spool.release()
    real, first = os.pread, min((spool.root / "segments").iterdir()).name

    def failing(descriptor, count, offset):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == first:
            raise OSError(5, "Input/output error")
        return real(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", failing)
    assert recover(spool, intake, LOG) == 1
    assert len(rows(database)) == 1


@pytest.mark.parametrize("broken", [b"{", b'["1.2"]', b"[1,2,3,4,5,6,7,8]", b"null"])
def test_a_record_of_unknown_origin_keeps_no_other_from_being_taken_in(spool, intake, database, broken):
    put(spool, 1, origin=broken)
    put(spool, 2)
    spool.release()
    assert recover(spool, intake, LOG) == 1
    assert [row["sop_uid"] for row in rows(database)] == ["1.2.1.2"]


def test_a_row_that_the_database_refuses_keeps_no_other_from_being_written(spool, intake, database, monkeypatch):
    for number in range(5):
        put(spool, number)
    spool.release()
    real = intake._recorder.record

    def record(connection, arrivals, now):
        if any(arrival.instance.key.sop_uid == "1.2.1.3" for arrival in arrivals):
            raise QueueError("a fault")
        return real(connection, arrivals, now)

    monkeypatch.setattr(intake._recorder, "record", record)
    assert recover(spool, intake, LOG) == 4
    assert [row["sop_uid"] for row in rows(database)] == ["1.2.1.0", "1.2.1.1", "1.2.1.2", "1.2.1.4"]


def test_what_gets_a_row_is_durable_before(spool, intake, database, monkeypatch, tmp_path):
    """The process dies before its sync; what is written down after that must survive a power failure."""
    disk = ForgetfulDisk(spool.root)
    disk.watch(monkeypatch)
    Spool(spool.root)
    incoming = spool.receive(b"preamble")
    incoming.write(b"never synced")
    origin = Origin("1.2", "1.2.1", "1.2.1.1", CT, EXPLICIT, "ct", "CT", "open").encoded()
    incoming.place("", origin).holder.settle()
    spool.release()
    assert recover(spool, intake, LOG) == 1
    left = Spool(disk.after_power_loss(tmp_path / "left"))
    assert left.content_at(rows(database)[0]["path"]).read() == b"preamblenever synced"


def test_two_receivers_that_start_at_once_forget_nothing_of_one_another(spool, intake, database):
    put(spool)
    spool.release()
    other = Intake(database, lambda: NOW, "other")
    forgotten = threading.Event()

    def start():
        with Spool(spool.root).looking():
            recover(Spool(spool.root), intake, LOG)
            intake.forget_associations()
            forgotten.set()

    with spool.looking():
        thread = threading.Thread(target=start)
        thread.start()
        assert not forgotten.wait(0.2)
        assert recover(spool, other, LOG) == 1
    thread.join(10)
    assert forgotten.is_set()
    assert not intake.has_associations()


def test_what_no_receiver_was_heard_of_for_a_day_is_forgotten(intake, database):
    Intake(database, lambda: NOW + 80000, "other").forget_associations()
    assert intake.has_associations()
    Intake(database, lambda: NOW + 90000, "other").forget_associations()
    assert not intake.has_associations()
