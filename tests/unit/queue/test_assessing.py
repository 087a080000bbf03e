"""Completion, claims, verdicts and the longest hold, on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.policy import Decision, Fallback, Judgement, Mode, Policy
from pacs_guard.domain.verdict import Verdict
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.assessing import ASSOCIATION_STALE_SECONDS, strictest
from pacs_guard.queue.assessments import Assessment

POLICY = Policy(longest_hold_seconds=3600)


def test_study_is_complete_once_quiet(node, instance):
    node.send(instance(1))
    node.clock.move(29.9)
    assert node.assessing.complete_quiet(node.rule) == []
    node.clock.move(0.1)
    assert node.assessing.complete_quiet(node.rule) == [1]
    assert node.state() is StudyState.READY
    assert node.assessing.complete_quiet(node.rule) == []


def test_open_association_keeps_only_the_studies_that_it_sends_open(node, instance):
    node.intake.open_association("slow", calling_ae="CT1", address="10.0.0.1", source="ct")
    node.intake.record(instance(1), calling_ae="CT1", association_id="slow")
    node.send(instance(1, study="3.4"))
    node.clock.move(31)

    assert node.assessing.complete_quiet(node.rule) == [2]
    node.intake.close_association("slow")
    assert node.assessing.complete_quiet(node.rule) == [1]


def test_association_without_a_heartbeat_keeps_no_study_open(node, instance):
    node.intake.open_association("dead", calling_ae="CT1", address="10.0.0.1", source="ct")
    node.intake.record(instance(1), calling_ae="CT1", association_id="dead")
    node.clock.move(ASSOCIATION_STALE_SECONDS - 1)
    assert node.assessing.complete_quiet(node.rule) == []
    node.intake.heartbeat()
    node.clock.move(ASSOCIATION_STALE_SECONDS - 1)
    assert node.assessing.complete_quiet(node.rule) == []
    node.clock.move(1)
    assert node.assessing.complete_quiet(node.rule) == [1]


def test_longest_wait_ends_the_waiting_for_an_association_that_never_ends(node, instance):
    node.intake.open_association("endless", calling_ae="CT1", address="10.0.0.1", source="ct")
    for number in range(60):
        node.intake.record(instance(number), calling_ae="CT1", association_id="endless")
        assert node.assessing.complete_quiet(node.rule) == []
        node.clock.move(30)
        node.intake.heartbeat()
    assert node.assessing.complete_quiet(node.rule) == [1]


def test_claim_takes_the_study_that_has_waited_longest_once(node, instance):
    node.complete(instance(1, study="1.1"))
    node.complete(instance(1, study="1.2"))

    first, second = node.assessing.claim("a", 60), node.assessing.claim("b", 60)

    assert (first.study_uid, second.study_uid) == ("1.1", "1.2")
    assert (first.attempts, first.sources, first.lease.until) == (1, ("ct",), node.clock.now + 60)
    assert [member.key.sop_uid for member in first.instances] == ["1.1.1.1"]
    assert node.assessing.claim("c", 60) is None


def test_study_under_two_workers_is_claimed_by_exactly_one(node, instance):
    for number in range(8):
        node.send(instance(1, study=f"1.{number}"))
    node.clock.move(31)
    node.assessing.complete_quiet(node.rule)
    claimed = []

    def work(owner):
        while (study := node.assessing.claim(owner, 60)) is not None:
            claimed.append(study.id)

    threads = [threading.Thread(target=work, args=(f"worker{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 9))


def test_renewed_lease_does_not_expire(node, instance):
    node.complete(instance(1))
    claimed = node.assessing.claim("worker", 60)
    node.clock.move(50)
    node.assessing.renew(claimed, 60)
    node.clock.move(50)
    assert node.assessing.expire_leases() == []
    node.clock.move(11)
    assert node.assessing.expire_leases() == [1]
    assert node.state() is StudyState.READY


def test_expired_lease_gives_the_study_to_another_with_the_count_kept(node, instance):
    node.complete(instance(1))
    old = node.assessing.claim("worker", 60)
    node.clock.move(61)
    node.assessing.expire_leases()

    new = node.assessing.claim("other", 60)

    assert new.attempts == 2
    before = node.everything()
    with pytest.raises(LeaseLostError):
        node.assessing.renew(old, 60)
    with pytest.raises(LeaseLostError):
        node.assessing.decide(old, _assessment(node, node.clean))
    assert node.everything() == before


def test_lost_lease_stays_lost_when_the_same_worker_claims_again(node, instance):
    node.complete(instance(1))
    old = node.assessing.claim("worker", 60)
    node.clock.move(61)
    node.assessing.expire_leases()
    node.assessing.claim("worker", 60)
    with pytest.raises(LeaseLostError):
        node.assessing.renew(old, 60)
    with pytest.raises(LeaseLostError):
        node.assessing.decide(old, _assessment(node, node.clean))


def test_verdict_on_a_study_that_changed_under_way_is_refused_and_nothing_is_written(node, instance):
    node.complete(instance(1))
    claimed = node.assessing.claim("worker", 60)
    node.send(instance(2))
    before = node.everything()

    with pytest.raises(LeaseLostError, match="changed"):
        node.assessing.decide(claimed, _assessment(node, node.clean))

    assert node.everything() == before
    assert node.state() is StudyState.RECEIVING


def _assessment(node, judgement):
    return Assessment(judgement=judgement, series=(), bundles={}, evidence=None, started_at=0.0)


def test_clean_study_is_queued_for_every_destination(two_pacs, instance):
    two_pacs.forward(instance(1), instance(2))
    details = two_pacs.review.details(1)
    assert details.summary.state is StudyState.FORWARDING
    assert [(row["destination"], row["instances"]) for row in details.deliveries] == [
        ("pacs", {"pending": 2}),
        ("archive", {"pending": 2}),
    ]


def test_suspected_study_is_held_explained_and_announced_and_nothing_is_queued(node, instance):
    node.complete(instance(1))
    assert node.decide(node.suspected) is StudyState.HELD

    details = node.review.details(1)
    assert details.deliveries == ()
    assert (details.summary.verdict, details.summary.kinds, details.summary.score) == ("SUSPECTED", ("FM",), 3.5)
    assert details.assessment["evidence"] == "evidence/1"
    assert details.findings[0]["sentence"] == node.suspected.reason
    assert details.findings[0]["position_mm"] == [1.0, 2.0, 3.0]
    [notice] = node.outbox.due()
    assert (notice.event, notice.payload["study"], notice.payload["kinds"]) == ("study_quarantined", 1, ["FM"])
    assert "1.2" not in str(notice.payload["reason"])
    assert "study_uid" not in notice.payload


def test_hold_stands_when_a_late_instance_makes_the_study_look_clean(node, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    node.complete(instance(2))

    assert node.decide(node.clean) is StudyState.HELD

    details = node.review.details(1)
    assert details.deliveries == ()
    assert (details.summary.verdict, details.summary.reason) == ("SUSPECTED", node.suspected.reason)
    assert details.findings[0]["sentence"] == node.suspected.reason
    assert len(node.outbox.due()) == 1


def test_hold_stands_over_several_late_instances_and_the_longest_hold(node, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    for number in (2, 3):
        node.complete(instance(number))
        node.clock.move(100_000)
        assert node.assessing.bypass_overdue({}, POLICY) == []
        assert node.decide(node.clean) is StudyState.HELD


def test_lifted_hold_does_not_come_back_by_itself(node, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    node.review.release(1, who="rad", reason="artefact", destinations=("pacs",))
    node.complete(instance(2))
    assert node.decide(node.clean) is StudyState.FORWARDING


def test_undetermined_study_that_policy_forwards_is_marked_as_bypassed(node, instance):
    node.complete(instance(1))
    judgement = Judgement(Decision.FORWARD, Verdict.UNDETERMINED, "not CT", bypassed=True)
    assert node.decide(judgement) is StudyState.FORWARDING
    summary = node.review.details(1).summary
    assert (summary.verdict, summary.bypassed) == ("UNDETERMINED", True)


@pytest.mark.parametrize("claimed", [False, True])
def test_study_without_a_verdict_is_forwarded_after_the_longest_hold(node, instance, claimed):
    node.complete(instance(1))
    lease = node.assessing.claim("worker", 1e6) if claimed else None
    node.clock.now = node.review.details(1).summary.created_at + 3599
    assert node.assessing.bypass_overdue({}, POLICY) == []
    node.clock.move(1)

    assert node.assessing.bypass_overdue({}, POLICY) == [1]

    details = node.review.details(1)
    assert (details.summary.state, details.summary.verdict) == (StudyState.FORWARDING, "UNDETERMINED")
    assert details.summary.bypassed
    [action] = details.actions
    assert (action["action"], action["who"]) == ("bypass", "longest hold")
    assert node.reports.gauges().bypasses == 1
    if lease:
        with pytest.raises(LeaseLostError):
            node.assessing.decide(lease, _assessment(node, node.suspected))
    assert len(node.deliver().pending) == 1


def test_a_trickle_of_instances_does_not_postpone_the_bypass_for_ever(node, instance):
    node.complete(instance(1))
    node.clock.now = node.review.details(1).summary.created_at + 3590
    node.complete(instance(2))
    node.clock.now = node.review.details(1).summary.created_at + 3601
    assert node.assessing.bypass_overdue({}, POLICY) == [1]


def test_longest_hold_is_that_of_the_study_s_sources(node, instance):
    node.complete(instance(1), instance(2, source="mr"))
    policies = {"ct": Policy(longest_hold_seconds=1010), "mr": Policy(longest_hold_seconds=1020)}
    node.clock.now = node.review.details(1).summary.created_at + 1015
    assert node.assessing.bypass_overdue(policies, POLICY) == []
    node.clock.move(5)
    assert node.assessing.bypass_overdue(policies, POLICY) == [1]


def test_strictest_policy_of_sources_and_of_one_that_is_gone():
    policies = {
        "a": Policy(Mode.SHADOW, Fallback.FORWARD, Fallback.FORWARD, 10),
        "b": Policy(Mode.SHADOW, Fallback.HOLD, Fallback.FORWARD, 20),
    }
    assert strictest(policies, POLICY, ["a"]) == policies["a"]
    assert strictest(policies, POLICY, ["a", "b"]) == Policy(Mode.SHADOW, Fallback.HOLD, Fallback.FORWARD, 20)
    assert strictest(policies, POLICY, ["a", "gone"]).mode is Mode.ENFORCE
    assert strictest(policies, POLICY, []) == POLICY


def test_what_an_earlier_life_of_a_worker_had_leased_is_free_at_once(node, instance):
    node.complete(instance(1))
    assert node.assessing.claim("host:detect:1", 1e6)
    assert node.assessing.release_leases("other:detect:") == []
    assert node.assessing.release_leases("host:detect:") == [1]
    assert node.assessing.claim("host:detect:2", 60).attempts == 2


def test_a_claim_brings_along_what_has_its_uids_elsewhere(node, instance):
    mine, other = instance(1), instance(1, study="1.9")
    other = replace(other, key=replace(other.key, sop_uid=mine.key.sop_uid))
    node.complete(mine, other)
    claimed = node.assessing.claim("worker", 60)
    assert [one.key.study_uid for one in claimed.conflicting] == ["1.9"]
