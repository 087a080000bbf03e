"""Deliveries, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.errors import LeaseLostError, NotFoundError
from pacs_guard.queue.rows import DeliveredItem


def claim(node, destination="pacs", owner="deliverer"):
    return node.forwarding.claim(destination, owner, 60)


def delivered(node, delivery, number):
    node.forwarding.items_delivered(delivery, [DeliveredItem(number, 0, None, 0.0)], seconds=60)


def failed(node, delivery, number, *, permanent):
    node.forwarding.item_failed(
        delivery, number, status=0xA700, error="out of resources", permanent=permanent, seconds=60
    )


def test_claim_hands_out_what_is_pending_to_one_deliverer(node, instance):
    node.forward(instance(1), instance(2))
    delivery = claim(node)
    assert [member.key.sop_uid for member in delivery.pending] == ["1.2.1.1", "1.2.1.2"]
    assert (delivery.study_uid, delivery.attempts) == ("1.2", 0)
    assert claim(node, owner="other") is None
    assert claim(node, destination="unknown") is None


def test_delivered_study_is_closed_and_not_claimed_again(node, instance):
    node.forward(instance(1), instance(2))
    node.deliver()
    assert node.state() is StudyState.DELIVERED
    assert claim(node) is None


def test_crash_half_way_sends_only_the_rest(node, instance):
    node.forward(instance(1), instance(2))
    first = claim(node)
    delivered(node, first, first.pending[0].id)
    node.clock.move(61)
    rest = claim(node, owner="other")
    assert [member.id for member in rest.pending] == [first.pending[1].id]


def test_restarted_deliverer_gives_back_only_what_it_had_leased(node, instance):
    node.forward(instance(1))
    claim(node, owner="host%1:deliver:17")
    node.forwarding.release_leases("host_1:")
    node.forwarding.release_leases("host")  # a prefix of it
    assert claim(node, owner="again") is not None


def test_other_destination_is_not_delayed_by_a_dead_one(two_pacs, instance):
    two_pacs.forward(instance(1))
    dead = claim(two_pacs, "archive")
    failed(two_pacs, dead, 1, permanent=False)
    two_pacs.forwarding.finish(dead, error="refused", retry_in=100)

    two_pacs.deliver("pacs")

    assert two_pacs.state() is StudyState.FORWARDING
    assert claim(two_pacs, "archive") is None
    two_pacs.clock.move(100)
    assert claim(two_pacs, "archive").attempts == 1


def test_study_that_is_delivered_only_in_part_fails_and_is_listed(two_pacs, instance):
    two_pacs.forward(instance(1), instance(2))
    two_pacs.deliver("pacs")
    dead = claim(two_pacs, "archive")
    delivered(two_pacs, dead, 1)
    failed(two_pacs, dead, 2, permanent=True)
    assert two_pacs.forwarding.finish(dead, error="refused", retry_in=10) is StudyState.FAILED
    [row] = two_pacs.reports.given_up()
    assert (row["destination"], row["sop_uid"], row["status"]) == ("archive", "1.2.1.2", 0xA700)
    assert row["error"] == "out of resources"


def test_giving_up_keeps_the_reason_of_each_instance(node, instance):
    node.forward(instance(1), instance(2))
    delivery = claim(node)
    failed(node, delivery, 1, permanent=False)
    node.forwarding.finish(delivery, error="no connection", retry_in=None)
    assert [row["error"] for row in node.reports.given_up()] == ["out of resources", "no connection"]
    assert node.state() is StudyState.FAILED


def test_instances_that_failed_least_are_sent_first(node, instance):
    node.forward(instance(1), instance(2))
    delivery = claim(node)
    failed(node, delivery, 1, permanent=False)
    node.forwarding.finish(delivery, error="x", retry_in=0)
    assert [member.id for member in claim(node).pending] == [2, 1]


def test_retry_brings_back_what_was_given_up(two_pacs, instance):
    two_pacs.forward(instance(1))
    for destination in ("pacs", "archive"):
        two_pacs.forwarding.finish(claim(two_pacs, destination), error="gone", retry_in=None)
    assert two_pacs.forwarding.retry(1, "archive") == 1
    assert two_pacs.state() is StudyState.FORWARDING
    assert claim(two_pacs, "pacs") is None
    two_pacs.deliver("archive")
    assert two_pacs.state() is StudyState.FAILED
    assert two_pacs.forwarding.retry(1) == 1
    two_pacs.deliver("pacs")
    assert two_pacs.state() is StudyState.DELIVERED
    assert two_pacs.forwarding.retry(1) == 0
    with pytest.raises(NotFoundError, match="no study 77"):
        two_pacs.forwarding.retry(77)


def test_late_instance_stops_a_delivery_but_what_arrived_counts(node, instance):
    node.forward(instance(1), instance(2))
    delivery = claim(node)
    node.send(instance(3))
    with pytest.raises(LeaseLostError, match="may no longer be forwarded"):
        delivered(node, delivery, 1)
    with pytest.raises(LeaseLostError):
        node.forwarding.renew(delivery, 60)
    node.forwarding.postpone(delivery)
    assert claim(node) is None
    node.clock.move(31)
    node.assessing.complete_quiet(node.rule)
    node.decide()
    assert [member.id for member in claim(node).pending] == [2, 3]


def test_study_that_becomes_suspected_while_it_is_forwarded_sends_nothing_more(node, instance):
    node.forward(instance(1), instance(2))
    node.complete(instance(3))
    assert node.decide(node.suspected) is StudyState.HELD
    assert claim(node) is None
    node.forwarding.retry(1)
    assert claim(node) is None


@pytest.mark.parametrize("error", [None, "out of reach"])
def test_late_instance_cleared_during_an_old_attempt_is_not_given_up_with_it(node, instance, error):
    node.forward(instance(1))
    old = claim(node)
    node.complete(instance(2))
    node.decide()

    node.forwarding.finish(old, error=error, retry_in=None)

    assert node.state() is StudyState.FORWARDING
    assert [member.id for member in claim(node, owner="other").pending] == [1, 2]


def test_attempt_without_an_error_never_gives_anything_up(node, instance):
    node.forward(instance(1))
    node.forwarding.finish(claim(node), error=None, retry_in=None)
    assert node.state() is StudyState.FORWARDING
    assert claim(node) is not None


def test_destination_added_later_gets_the_whole_study_with_its_next_instance(node, instance):
    node.forward(instance(1))
    node.deliver()
    node.complete(instance(2))
    more = type(node.assessing)(node.database, node.clock, ("pacs", "archive"))
    node.assessing = more
    node.decide()
    assert [member.id for member in claim(node, "pacs").pending] == [2]
    assert [member.id for member in claim(node, "archive").pending] == [1, 2]


def test_transcoding_is_recorded(node, instance):
    node.forward(instance(1))
    delivery = claim(node)
    node.forwarding.items_delivered(delivery, [DeliveredItem(1, 0, "1.2.840.10008.1.2.1", 0.0)], seconds=60)
    items = node.everything()["delivery_items"]
    assert any("1.2.840.10008.1.2.1" in map(str, row) for row in items)


def test_what_waits_for_a_destination_that_is_no_longer_configured_is_listed_as_given_up(node, instance):
    node.forward(instance(1), instance(2))
    assert node.forwarding.give_up_unconfigured(["pacs"]) == []
    assert node.forwarding.give_up_unconfigured(["other"]) == [(1, "pacs")]
    assert node.review.details(1).summary.state is StudyState.FAILED
    [first, _] = node.reports.given_up()
    assert first["error"] == "the destination pacs is no longer configured"
    assert all(line.adds_up for line in node.reports.ledger())
