"""Audit events, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.commitment import CommitmentReport, CommitmentRequest, Reference
from pacs_guard.domain.policy import Policy
from pacs_guard.queue.auditing import Auditing

E = AuditEvent
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def auditing(node):
    return Auditing(node.database, node.clock)


def told(auditing) -> list[AuditEvent]:
    return [event.event for event in auditing.due(limit=1000)]


def refuse(node, association_id="a", status=0xA900):
    node.intake.record_refusal(
        source="ct",
        calling_ae="CT1",
        sop_uid="1",
        status=status,
        reason="no",
        path=None,
        length=1,
        association_id=association_id,
    )


def test_a_suspected_study_leaves_its_trail(node, auditing, instance):
    node.complete(instance(1), instance(2))
    node.decide(node.suspected)
    node.review.reject(1, who="Dr. Jones", reason="seen")
    node.review.release(1, who="Dr. Smith", reason="second look", destinations=["pacs"])
    node.deliver()
    assert told(auditing) == [
        E.ASSOCIATION_OPENED,
        E.INSTANCES_RECEIVED,
        E.ASSESSED,
        E.QUARANTINED,
        E.REJECTED,
        E.RELEASED,
        E.DELIVERED,
    ]
    received = auditing.due()[1]
    assert received.study_uid == instance(1).key.study_uid
    assert (received.facts["instances"], received.facts["calling_ae"]) == (2, "CT1")
    assert auditing.due()[4].facts == {"who": "Dr. Jones", "reason": "seen"}


def test_each_study_of_an_association_is_told_with_its_count_and_what_was_refused_once(node, auditing, instance):
    node.intake.open_association("a", calling_ae="CT1", address="10.0.0.1", source="ct")
    for one in (instance(1), instance(2), instance(2), instance(1, study="1.2.99")):
        node.intake.record(one, calling_ae="CT1", association_id="a")
    refuse(node)
    refuse(node)
    refuse(node, status=0xC000)
    refuse(node, association_id="another")
    node.intake.close_association("a")
    node.intake.close_association("a")
    events = auditing.due()
    assert [(one.event, one.facts.get("instances")) for one in events] == [
        (E.ASSOCIATION_OPENED, None),
        (E.INSTANCES_RECEIVED, 3),  # a duplicate was answered 0x0000 too
        (E.INSTANCES_RECEIVED, 1),
        (E.INSTANCES_REFUSED, 3),
    ]
    assert events[3].facts["reason"] == "2 x A900 no; 1 x C000 no"
    assert events[3].facts["refused"] == ["1: A900 no", "1: A900 no", "1: C000 no"]


def test_what_a_killed_receiver_had_taken_is_told_when_it_starts_again(node, auditing, instance):
    node.intake.open_association("a", calling_ae="CT1", address="10.0.0.1", source="ct")
    node.intake.record(instance(1), calling_ae="CT1", association_id="a")
    node.intake.forget_associations()
    assert told(auditing) == [E.ASSOCIATION_OPENED, E.INSTANCES_RECEIVED]


def test_a_flood_of_refused_associations_fills_no_table(node, auditing):
    for number in range(100):
        node.intake.refuse_association(
            calling_ae=f"X{number}", called_ae="PACSGUARD", address="10.0.0.9", reason="calling_ae_title"
        )
    node.clock.move(10)
    node.intake.refuse_association(calling_ae="X\0" * 40, called_ae="", address="10.0.0.9", reason="calling_ae_title")
    assert [event.facts["count"] for event in auditing.due()] == [1, 100]


def test_what_was_sent_in_vain_is_still_to_be_told_and_what_was_sent_is_not(auditing):
    auditing.note(E.STARTED, role="ops")
    events = auditing.due()
    auditing.failed(events, "refused")
    [again] = auditing.due()
    assert again.attempts == 1
    assert again.facts == {"role": "ops"}
    auditing.sent([again])
    assert auditing.due() == []
    assert [event.event for event in auditing.since(0.0)] == [E.STARTED]


def test_only_what_was_told_is_removed_unless_said_otherwise(node, auditing):
    auditing.note(E.STARTED)
    auditing.sent(auditing.due())
    auditing.note(E.STOPPED)
    node.clock.move(100)
    assert auditing.purge(50, unsent=False) == 1
    assert told(auditing) == [E.STOPPED]
    assert auditing.purge(50, unsent=True) == 1


def test_a_bypassed_study_is_told(node, auditing, instance):
    node.complete(instance(1))
    node.clock.move(1e6)
    node.assessing.bypass_overdue({}, Policy())
    assert told(auditing)[-1] is E.BYPASSED


def test_the_first_hundred_refused_instances_are_named(node, auditing):
    node.intake.open_association("a", calling_ae="CT1", address="10.0.0.1", source="ct")
    for _ in range(120):
        refuse(node)
    node.intake.close_association("a")
    refused = auditing.due(1000)[-1].facts
    assert (refused["instances"], len(refused["refused"])) == (120, 100)


def test_the_certificate_of_who_called_is_told(node, auditing):
    node.intake.open_association("a", calling_ae="CT1", address="10.0.0.1", source="ct", certificate="CN=ct1")
    node.intake.refuse_association(
        calling_ae="CT2", called_ae="X", address="10.0.0.2", reason="certificate_not_bound", certificate="CN=ct2"
    )
    assert [event.facts["certificate"] for event in auditing.due()] == ["CN=ct1", "CN=ct2"]


def last(auditing):
    return auditing.due(limit=1000)[-1]


def test_what_a_destination_vouches_for_is_told_once_and_who_did_without(node, auditing, instance):
    node.forward(instance(1), instance(2))
    node.deliver()
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.begin(claim, claim.items, "1.1", overdue_in=0)
    claim = node.proving.claim("pacs", "prover", 60)
    assert E.PROOF not in told(auditing)  # nothing is decided yet
    node.proving.decide(claim, proved=claim.items[:1], unproved=claim.items[1:], why="not listed")
    assert (last(auditing).event, last(auditing).study_uid) == (E.PROOF, instance(1).key.study_uid)
    counts = {"proved": 1, "unproved": 1, "unasked": 0}
    assert last(auditing).facts == {"destination": "pacs", "instances": 2, "question": "commitment", **counts}
    assert node.proving.waive(1, who="Dr. Jones", reason="seen there") == 1
    assert last(auditing).event is E.PROOF_WAIVED
    assert last(auditing).facts == {"who": "Dr. Jones", "reason": "seen there", "instances": 1}
    assert told(auditing).count(E.PROOF) == 1


def test_a_destination_that_nobody_asks_vouches_for_nothing(node, auditing, instance):
    node.forward(instance(1))
    node.deliver()
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, unasked=claim.items)
    assert E.PROOF not in told(auditing)


def test_a_report_that_comes_twice_is_told_once_and_one_that_changes_something_again(node, auditing, instance):
    node.forward(instance(1), instance(2))
    node.deliver()
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.begin(claim, claim.items, "1.1", overdue_in=0)
    claim = node.proving.claim("pacs", "prover", 60)
    node.proving.decide(claim, unproved=claim.items, why="no report")
    late = CommitmentReport("1.1", (Reference(CT, "1.2.1.1"),), ())
    for _ in range(2):
        assert node.proving.reported(late, {"pacs"})
    proofs = [event.facts for event in auditing.due(limit=1000) if event.event is E.PROOF]
    assert [(one["proved"], one["unproved"]) for one in proofs] == [(0, 2), (1, 1)]


def test_what_a_modality_was_told_is_told_for_each_study(node, auditing, instance):
    node.send(instance(1), instance(2), instance(1, study="1.2.99"))
    asked = tuple(Reference(CT, uid) for uid in ("1.2.1.1", "1.2.1.2", "9.9"))
    node.requests.receive(CommitmentRequest("1.1", asked), calling_ae="CT1", source="ct", address="10.0.0.1")
    answers = {asked[0]: 0, asked[1]: 0x0110, asked[2]: 0x0112}
    node.requests.answered(node.requests.claim("a", 60), answers)
    events = [event for event in auditing.due(limit=1000) if event.event is E.COMMITMENT]
    counted = {one.study_uid: (one.facts["proved"], one.facts["unproved"]) for one in events}
    assert counted[instance(1).key.study_uid] == (1, 1)
    assert counted[None] == (0, 1)
    assert events[0].facts["transaction"] == "1.1"
    assert events[0].facts["calling_ae"] == "CT1"
