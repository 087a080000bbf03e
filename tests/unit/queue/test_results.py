"""Findings as DICOM objects, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.lifecycle import ResultState
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.results import Results
from pacs_guard.queue.rows import DeliveredItem


@pytest.fixture
def results(node):
    return Results(node.database, node.clock)


@pytest.fixture
def suspected(node, instance):
    node.complete(instance(1), instance(2))
    node.decide(node.suspected)


def made_object(instance, number):
    key = InstanceKey("1.2.1", "2.25.1", f"2.25.{number}", "a" * 64)
    return replace(instance(number), key=key, path=f"e/{number}.dcm")


def objects(instance):
    return [made_object(instance, number) for number in (10, 11)]


def state(results):
    return ResultState(results.of_study(1)[-1]["state"])


def make(results, instance, destination="review"):
    claimed = results.claim_to_make("maker", 60)
    results.made(claimed, objects(instance), destination)


def test_a_clean_study_has_no_results_and_a_suspected_one_has(node, results, instance):
    node.forward(instance(1, study="1.2.50"))
    assert results.claim_to_make("maker", 60) is None
    node.complete(instance(1), instance(2))
    node.decide(node.suspected)
    claimed = results.claim_to_make("maker", 60)
    assert claimed.evidence == "evidence/1"
    assert [one.key.sop_uid for one in claimed.instances] == [instance(n).key.sop_uid for n in (1, 2)]
    assert results.claim_to_make("another", 60) is None  # leased


@pytest.mark.usefixtures("suspected")
def test_a_maker_that_died_is_followed_by_another(node, results):
    results.claim_to_make("host:results:1", 60)
    node.clock.move(61)
    assert results.claim_to_make("host:results:2", 60) is not None
    results.release_leases("host:results:")
    assert results.claim_to_make("host:results:3", 60) is not None


@pytest.mark.usefixtures("suspected")
def test_without_a_destination_they_are_kept(results, instance):
    make(results, instance, destination=None)
    assert state(results) is ResultState.KEPT
    assert not results.is_due("review")


@pytest.mark.usefixtures("suspected")
def test_what_cannot_be_made_comes_back_and_is_given_up_in_the_end(node, results):
    results.not_made(results.claim_to_make("maker", 60), "no room", 30.0)
    assert results.claim_to_make("maker", 60) is None
    node.clock.move(30)
    again = results.claim_to_make("maker", 60)
    assert again.attempts == 1
    results.not_made(again, "no room", None)
    assert state(results) is ResultState.FAILED
    assert (results.retry(1), results.retry(1)) == (1, 0)
    assert results.claim_to_make("maker", 60) is not None


@pytest.mark.usefixtures("suspected")
def test_a_held_studys_results_are_sent_although_it_is_not(node, results, instance):
    make(results, instance)
    assert node.forwarding.claim("review", "sender", 60) is None
    assert results.claim("pacs", "sender", 60) is None
    delivery = results.claim("review", "sender", 60)
    assert [one.path for one in delivery.pending] == ["e/10.dcm", "e/11.dcm"]
    results.items_delivered(delivery, [DeliveredItem(delivery.pending[0].id, 0, None, 1.0)], seconds=60)
    results.item_failed(delivery, delivery.pending[1].id, status=0xA700, error="full", permanent=False, seconds=60)
    assert results.finish(delivery, error="full", retry_in=5.0) is ResultState.SENDING
    assert not results.is_due("review")
    node.clock.move(5)
    again = results.claim("review", "sender", 60)
    assert again.attempts == 1
    assert [one.path for one in again.pending] == ["e/11.dcm"]
    results.items_delivered(again, [DeliveredItem(again.pending[0].id, 0, None, 2.0)], seconds=60)
    assert results.finish(again, error=None, retry_in=None) is ResultState.DELIVERED
    assert node.state() == "held"


@pytest.mark.usefixtures("suspected")
@pytest.mark.parametrize("permanent", [True, False])
def test_what_is_not_taken_is_listed_as_failed(results, instance, permanent):
    make(results, instance)
    delivery = results.claim("review", "sender", 60)
    for one in delivery.pending:
        results.item_failed(delivery, one.id, status=0xA900, error="no", permanent=permanent, seconds=60)
    assert results.finish(delivery, error="no", retry_in=None) is ResultState.FAILED
    assert results.of_study(1)[-1]["last_error"] == "no"
    assert results.retry(1) == 1
    assert len(results.claim("review", "sender", 60).pending) == 2


@pytest.mark.usefixtures("suspected")
def test_a_lost_lease_is_noticed(node, results, instance):
    make(results, instance)
    old = results.claim("review", "one", 60)
    node.clock.move(61)
    new = results.claim("review", "two", 60)
    results.finish(old, error="late", retry_in=100.0)
    with pytest.raises(LeaseLostError):
        results.renew(old, 60)
    results.renew(new, 60)
    results.postpone(new)
    assert results.is_due("review")
