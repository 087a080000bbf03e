"""Modalities' requests for storage commitment, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pacs_guard.domain.commitment import CommitmentRequest, Copy, Reference
from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import Proof
from pacs_guard.errors import TransactionInUseError
from pacs_guard.queue.schema import commitment_request_items, commitment_requests

CT = "1.2.840.10008.5.1.4.1.1.2"
WHO = {"calling_ae": "CT1", "source": "ct", "address": "10.0.0.1"}


def request(*uids, transaction="1.1"):
    return CommitmentRequest(transaction, tuple(Reference(CT, uid) for uid in uids))


def rows(node):
    with node.database.read() as connection:
        return list(connection.execute(sa.select(commitment_requests)).mappings())


def test_request_is_claimed_once_with_all_that_it_asks(node):
    assert not node.requests.is_due()
    node.requests.receive(request("1.2", "1.3"), **WHO)
    assert node.requests.is_due()
    claimed = node.requests.claim("answerer", 60)
    assert claimed.instances == (Reference(CT, "1.2"), Reference(CT, "1.3"))
    assert (claimed.calling_ae, claimed.address, claimed.transaction_uid) == ("CT1", "10.0.0.1", "1.1")
    assert node.requests.claim("another", 60) is None
    node.requests.release_leases("ans")
    assert node.requests.claim("another", 60) is not None


def test_same_request_is_answered_again_and_another_under_its_uid_refused(node):
    node.requests.receive(request("1.2"), **WHO)
    node.requests.answered(node.requests.claim("a", 60), {Reference(CT, "1.2"): 0})
    assert rows(node)[0]["state"] == "answered"
    node.requests.receive(request("1.2"), **WHO)
    assert [row["state"] for row in rows(node)] == ["waiting"]
    with pytest.raises(TransactionInUseError, match="about other instances"):
        node.requests.receive(request("1.3"), **WHO)
    node.requests.receive(request("1.3"), **(WHO | {"calling_ae": "CT2"}))
    assert len(rows(node)) == 2


def test_request_waits_is_told_again_and_is_given_up(node):
    node.requests.receive(request("1.2"), **WHO)
    node.requests.wait(node.requests.claim("a", 60), 5)
    assert not node.requests.is_due()
    node.clock.move(6)
    node.requests.not_told(node.requests.claim("a", 60), "nobody", retry_in=5)
    node.clock.move(6)
    claimed = node.requests.claim("a", 60)
    assert claimed.attempts == 1
    node.requests.not_told(claimed, "nobody", retry_in=None)
    assert (rows(node)[0]["state"], rows(node)[0]["last_error"]) == ("failed", "nobody")
    assert node.reports.gauges().commitment_requests == {"failed": 1}


def test_outcome_of_a_lost_lease_is_not_written(node):
    node.requests.receive(request("1.2"), **WHO)
    claimed = node.requests.claim("a", 60)
    node.requests.release_leases("a")
    node.requests.answered(claimed, {})
    assert rows(node)[0]["state"] == "waiting"


def test_copies_are_what_is_known_of_each_uid(two_pacs, instance):
    node = two_pacs
    node.forward(instance(1), instance(2, content="one"), instance(2, content="other"))
    node.deliver("pacs")
    node.prove("pacs")
    node.requests.receive(request("1.2.1.1", "1.2.1.2", "9.9"), **WHO)
    known = node.requests.copies(node.requests.claim("a", 60))
    ways = ((ItemState.DELIVERED, Proof.PROVED), (ItemState.PENDING, None))
    [first] = known["1.2.1.1"]
    assert first.copy == Copy(CT, is_here=True, study_state=StudyState.FORWARDING, ways=ways)
    assert (first.instance.id, first.instance.key.sop_uid) == (1, "1.2.1.1")
    assert len(known["1.2.1.2"]) == 2
    assert "9.9" not in known
    node.upkeep.mark_missing([1], missing=True)
    node.requests.release_leases("a")
    assert not node.requests.copies(node.requests.claim("b", 60))["1.2.1.1"][0].copy.is_here


def test_old_requests_are_forgotten_once_they_ended(node):
    node.requests.receive(request("1.2"), **WHO)
    node.requests.answered(node.requests.claim("a", 60), {Reference(CT, "1.2"): 0})
    node.requests.receive(request("1.2", transaction="1.9"), **WHO)
    node.clock.move(100)
    assert node.requests.purge(200) == 0
    assert node.requests.purge(50) == 1
    assert [row["transaction_uid"] for row in rows(node)] == ["1.9"]
    with node.database.read() as connection:
        assert len(list(connection.execute(sa.select(commitment_request_items)))) == 1
