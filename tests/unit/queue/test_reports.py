"""The ledger and the gauges, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pacs_guard.queue.ledger import LedgerLine
from pacs_guard.queue.rows import DeliveredItem
from pacs_guard.queue.schema import association_studies, delivery_items, instances


def line(node):
    [found] = node.reports.ledger()
    return found


def test_ledger_adds_up_on_every_step_of_the_way(node, instance):
    node.send(instance(1), instance(2), instance(2))
    assert line(node) == LedgerLine("ct", received=2, waiting=2, duplicates=1)
    node.clock.move(31)
    node.assessing.complete_quiet(node.rule)
    assert line(node).waiting == 2
    node.decide()
    assert line(node).waiting == 2
    delivery = node.forwarding.claim("pacs", "d", 60)
    node.forwarding.items_delivered(delivery, [DeliveredItem(1, 0, None, 0.0)], seconds=60)
    assert line(node) == LedgerLine("ct", received=2, delivered=1, proving=1, waiting=1, duplicates=1)
    node.forwarding.finish(delivery, error="gone", retry_in=None)
    assert line(node) == LedgerLine("ct", received=2, delivered=1, proving=1, failed=1, duplicates=1)
    node.forwarding.retry(1)
    node.deliver()
    assert line(node) == LedgerLine("ct", received=2, delivered=2, proving=2, duplicates=1)
    node.prove()
    assert line(node) == LedgerLine("ct", received=2, delivered=2, proved=2, duplicates=1)
    assert line(node).adds_up


def test_held_and_rejected_instances_are_held_in_the_ledger(node, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    assert line(node) == LedgerLine("ct", received=1, held=1)
    node.review.reject(1, who="rad", reason="forged")
    assert line(node) == LedgerLine("ct", received=1, held=1)
    node.review.release(1, who="rad", reason="not", destinations=("pacs",))
    assert line(node).waiting == 1


def test_instance_is_delivered_only_when_every_destination_has_it(two_pacs, instance):
    two_pacs.forward(instance(1))
    two_pacs.deliver("pacs")
    assert line(two_pacs).waiting == 1
    two_pacs.deliver("archive")
    assert line(two_pacs).delivered == 1


def test_instance_is_proved_only_when_every_destination_that_can_vouch_does(two_pacs, instance):
    node = two_pacs
    node.forward(instance(1))
    node.deliver("pacs")
    node.deliver("archive")
    node.prove("pacs")
    assert line(node) == LedgerLine("ct", received=1, delivered=1, proving=1)
    claim = node.proving.claim("archive", "prover", 60)
    node.proving.decide(claim, unasked=claim.items)
    assert line(node) == LedgerLine("ct", received=1, delivered=1, proved=1)
    node.proving.ask_again(1)
    claim = node.proving.claim("archive", "prover", 60)
    node.proving.decide(claim, unproved=claim.items, why="nothing came")
    assert line(node) == LedgerLine("ct", received=1, delivered=1, unproved=1)


@pytest.mark.parametrize("source", ["ct", "other"])
def test_ledger_adds_up_when_a_purged_instance_comes_again(node, instance, source):
    node.forward(instance(1))
    node.deliver()
    node.prove()
    node.clock.move(100)
    node.upkeep.purge_delivered(10)
    assert line(node) == LedgerLine("ct", received=1, delivered=1, proved=1)
    node.send(instance(1, source=source))
    lines = {found.source: found for found in node.reports.ledger()}
    assert all(found.adds_up for found in lines.values())
    assert (lines["ct"].received, lines["ct"].waiting, lines[source].duplicates) == (1, 1, 1)


def test_refusals_are_counted_and_break_nothing(node):
    node.intake.record_refusal(
        source="ct", calling_ae="CT1", sop_uid="1", status=0xA900, reason="no", path=None, length=5
    )
    assert line(node) == LedgerLine("ct", refused=1)
    assert line(node).adds_up


def test_ledger_does_not_add_up_when_a_row_is_lost(node, instance):
    node.forward(instance(1), instance(2))
    assert line(node).adds_up
    with node.database.write() as connection:
        for table, column in ((association_studies, None), (delivery_items, "instance_id"), (instances, "id")):
            condition = sa.true() if column is None else table.c[column] == 2
            connection.execute(sa.delete(table).where(condition))
    assert line(node) == LedgerLine("ct", received=2, waiting=1)
    assert not line(node).adds_up


def test_ledger_does_not_add_up_when_bytes_are_lost_before_they_were_delivered(node, instance):
    node.forward(instance(1), instance(2))
    delivery = node.forwarding.claim("pacs", "d", 60)
    node.forwarding.items_delivered(delivery, [DeliveredItem(1, 0, None, 0.0)], seconds=60)
    node.upkeep.mark_missing([1, 2], missing=True)
    assert line(node) == LedgerLine("ct", received=2, delivered=1, proving=1, missing=1)
    assert not line(node).adds_up
    node.upkeep.mark_missing([1, 2], missing=False)
    assert line(node).adds_up


def test_gauges_of_an_empty_queue(node):
    gauges = node.reports.gauges()
    assert gauges.studies == {}
    assert set(gauges.depth.values()) == {0}
    assert set(gauges.oldest_seconds.values()) == {0.0}


def test_gauges_show_where_studies_wait_and_how_long(two_pacs, instance):
    node = two_pacs
    node.complete(instance(1, study="1.1"))
    node.decide(node.suspected)
    node.complete(instance(1, study="1.2"))
    node.decide()
    node.complete(instance(1, study="1.3"))
    node.send(instance(1, study="1.4"))
    node.clock.move(10)
    gauges = node.reports.gauges()
    assert gauges.depth == {"receiving": 1, "detect": 1, "deliver": 1, "held": 1}
    assert gauges.oldest_seconds == {"receiving": 10.0, "detect": 10.0, "deliver": 41.0, "held": 72.0}
    assert gauges.studies["held", "SUSPECTED"] == 1
    assert gauges.studies["ready", "none"] == 1
    assert gauges.delivery_backlog == {"pacs": 1, "archive": 1}
    assert (gauges.quarantine_instances, gauges.quarantine_bytes) == (1, 1000)
    assert gauges.notifications_waiting == 1


def test_what_came_in_a_time_is_counted_where_it_is_now(node, instance):
    start = node.clock()
    node.forward(instance(1), instance(2))
    node.deliver()
    node.prove()
    node.clock.move(1000)
    middle = node.clock()
    node.send(instance(1, study="1.9"))
    node.intake.record_refusal(
        source="ct", calling_ae="CT1", sop_uid="1", status=0xA900, reason="no", path=None, length=5
    )
    node.clock.move(10)
    assert node.reports.received_between(start, middle) == [LedgerLine("ct", received=2, delivered=2, proved=2)]
    assert node.reports.received_between(middle, node.clock()) == [LedgerLine("ct", received=1, waiting=1, refused=1)]
    assert node.reports.received_between(0, start) == []


def test_unproved_instances_are_listed_with_their_reason(node, instance):
    node.forward(instance(1))
    node.deliver()
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, unproved=claim.items, why="nothing came")
    [listed] = node.reports.unproved()
    assert (listed["study_id"], listed["destination"], listed["error"]) == (1, "pacs", "nothing came")
    assert node.reports.given_up() == []
    assert node.proving.waive(1, who="admin", reason="the archive has it") == 1
    assert node.reports.unproved() == []
    assert node.proving.waive(1, who="admin", reason="again") == 0
    node.clock.move(100)
    assert len(node.upkeep.purge_delivered(10)) == 1
    assert [action["action"] for action in node.review.details(1).actions] == ["waive proof"]
