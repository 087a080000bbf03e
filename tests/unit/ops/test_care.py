"""Declared behaviours of the periodic work: the table in docs/care.md."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from structlog.testing import capture_logs

from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.policy import Policy
from pacs_guard.ops.schedule import Chores
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.database import Database
from pacs_guard.queue.forwarding import Forwarding
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.late import LateAssessing
from pacs_guard.queue.proving import Proving
from pacs_guard.queue.review import Review
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.receive.origin import Origin
from pacs_guard.receive.recovery import recover
from pacs_guard.spool.store import Spool

ROOT = Path(__file__).parents[3]


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    database.prepare()
    yield database
    database.close()


@pytest.fixture
def chores(database, clock):
    return Chores(
        assessing=Assessing(database, clock, ["pacs"]),
        forwarding=Forwarding(database, clock),
        proving=Proving(database, clock),
        upkeep=Upkeep(database, clock),
        spool=SimpleNamespace(free_bytes=lambda: 3000),
        recover=lambda: 0,
        rule=CompletenessRule(30.0, 1800.0),
        policies={"ct": Policy(longest_hold_seconds=3600.0)},
        default_policy=Policy(),
        destinations=["pacs"],
        unproved_at=(),
        retention_seconds=1e9,
        max_refused_bytes=0,
        min_free_bytes=1000,
        clock=clock,
    )


def test_without_a_detector_a_study_waits_for_its_longest_hold_and_no_longer(database, chores, clock):
    intake = Intake(database, clock, "test")
    intake.open_association("a", calling_ae="CT", address="10.0.0.1", source="ct")
    key = InstanceKey("1.2", "1.2.1", "1.2.1.1", "0" * 64)
    instance = StoredInstance(0, key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "x.dcm", 0, 1, "ct")
    intake.record(instance, calling_ae="CT", association_id="a")
    intake.close_association("a")
    clock.move(31.0)
    chores.complete()
    review = Review(database, clock)
    for _ in range(3):
        chores.sweep()
        assert review.details(1).summary.state is StudyState.READY
        clock.move(1000.0)
    clock.move(600.0)
    chores.sweep()
    study = review.details(1).summary
    assert (study.state, study.verdict, study.bypassed) == (StudyState.FORWARDING, "UNDETERMINED", True)
    # once there is a detector again, it is still looked at
    assert LateAssessing(database, clock).claim("worker", 60.0).id == 1


@pytest.mark.parametrize(("free", "warned"), [(2000, False), (1999, True), (999, True)])
def test_room_that_runs_out_is_said_in_time(chores, free, warned):
    chores.spool.free_bytes = lambda: free
    with capture_logs() as logs:
        chores.check_disk()
    assert [line["free_bytes"] for line in logs if line["log_level"] == "warning"] == [free] * warned


def test_every_test_and_alert_that_the_table_names_is_there():
    text = (ROOT / "docs" / "care.md").read_text()
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    assert set(re.findall(r"`(PacsGuard\w+)`", text)) <= set(re.findall(r"alert: (\w+)", alerts))
    names = set(re.findall(r"\btest_\w+\.py", text))
    assert names <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(names) > 8


def test_what_a_crash_took_the_row_of_is_written_down_before_anything_is_set_aside(database, chores, clock, tmp_path):
    spool = Spool(tmp_path / "spool", segment_bytes=1 << 16)
    intake = Intake(database, clock, "test")
    intake.open_association("a", calling_ae="CT", address="10.0.0.1", source="ct")
    incoming = spool.receive(b"preamble")
    incoming.write(b"data set")
    origin = Origin("1.2", "1.2.1", "1.2.1.1", "1.2.3", "1.2.840.10008.1.2.1", "ct", "CT", "a")
    placed = incoming.place("", origin.encoded())
    spool.sync(placed.holder)
    placed.holder.settle()
    spool.release()
    chores = replace(chores, spool=spool, recover=partial(recover, spool, intake, structlog.get_logger()))
    chores.clock = lambda: 1e12
    chores.reconcile(grace_seconds=0.0)
    assert chores.upkeep.known_paths([placed.path]) == {placed.path}
    assert list((spool.root / "orphans").iterdir()) == []
