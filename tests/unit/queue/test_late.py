"""Bypass switches, and what was forwarded unjudged assessed afterwards; on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.policy import Policy
from pacs_guard.errors import LeaseLostError, LifecycleError, QueueError
from pacs_guard.queue.auditing import Auditing
from pacs_guard.queue.bypass import Bypasses
from pacs_guard.queue.late import LateAssessing
from pacs_guard.queue.results import Results
from pacs_guard.queue.schema import bypass_switches, instances
from tests.unit.queue.conftest import assessment


@pytest.fixture
def bypasses(node):
    return Bypasses(node.database, node.clock)


@pytest.fixture
def late(node):
    return LateAssessing(node.database, node.clock)


def switch(bypasses, *, on=True, source="ct"):
    bypasses.switch(source, on=on, who="Dr. Jones", reason="the detector is down")


def bypassed(node):
    return node.assessing.bypass_overdue({}, Policy())


def late_decision(late, judgement):
    return late.decide(late.claim("worker", 60), assessment(judgement))


def test_a_switch_turns_once_each_way_and_every_turn_is_kept(node, bypasses):
    switch(bypasses)
    with pytest.raises(LifecycleError, match="the bypass of ct is on already"):
        switch(bypasses)
    switch(bypasses, source="mr")
    switch(bypasses, on=False)
    assert list(bypasses.active()) == ["mr"]
    assert [(one.source, one.switched_on) for one in bypasses.history()] == [("ct", True), ("mr", True), ("ct", False)]
    assert [one.event for one in node.outbox.due()] == ["bypass_on", "bypass_on", "bypass_off"]
    assert [one.event for one in Auditing(node.database, node.clock).due()] == [
        AuditEvent.BYPASS_ON,
        AuditEvent.BYPASS_ON,
        AuditEvent.BYPASS_OFF,
    ]
    assert node.reports.gauges().bypass_on == ("mr",)


@pytest.mark.parametrize("statement", [sa.update(bypass_switches).values(who="x"), sa.delete(bypass_switches)])
def test_a_turn_cannot_be_changed_or_removed(node, bypasses, statement):
    switch(bypasses)
    with pytest.raises(QueueError, match="recorded for good"), node.database.write() as connection:
        connection.execute(statement)


def test_while_it_is_on_a_whole_study_does_not_wait(node, bypasses, instance):
    node.complete(instance(1))
    assert bypassed(node) == []
    switch(bypasses)
    assert bypassed(node) == [1]
    assert node.state() == "forwarding"
    shown = node.review.details(1)
    assert shown.summary.bypassed
    assert (shown.actions[0]["action"], shown.actions[0]["who"]) == ("bypass", "Dr. Jones")
    assert "the detector is down" in shown.actions[0]["reason"]
    switch(bypasses, on=False)
    node.complete(instance(1, study="1.2.99"))
    assert bypassed(node) == []


def test_a_study_of_two_sources_waits_unless_both_are_bypassed(node, bypasses, instance):
    node.complete(instance(1), replace(instance(2), source="other"))
    switch(bypasses)
    assert bypassed(node) == []
    switch(bypasses, source="other")
    assert bypassed(node) == [1]


@pytest.fixture
def forwarded(node, bypasses, instance):
    """A study that was delivered without a verdict."""
    node.complete(instance(1), instance(2))
    switch(bypasses)
    bypassed(node)
    node.deliver()


@pytest.mark.usefixtures("forwarded")
def test_a_late_finding_raises_the_alarm_and_moves_nothing(node, late):
    assert node.assessing.claim("worker", 60) is None
    assert late_decision(late, node.suspected) == "delivered"
    shown = node.review.details(1)
    assert (shown.summary.state, shown.summary.verdict, shown.summary.bypassed) == ("delivered", "SUSPECTED", True)
    assert "assessed after it was forwarded" in shown.summary.reason
    assert [one["action"] for one in shown.actions] == ["bypass", "late finding"]
    [alarm] = [one for one in node.outbox.due() if one.event == "late_finding"]
    assert (alarm.payload["destinations"], alarm.payload["kinds"]) == (["pacs"], ["FM"])
    assert Auditing(node.database, node.clock).due()[-1].event is AuditEvent.LATE_FINDING
    assert Results(node.database, node.clock).claim_to_make("maker", 60) is not None
    assert node.reports.gauges().late_findings == 1
    assert late.claim("worker", 60) is None


@pytest.mark.usefixtures("forwarded")
def test_a_late_all_clear_is_written_down_quietly(node, late):
    late_decision(late, node.clean)
    assert node.review.details(1).summary.verdict == "CLEAN"
    assert [one.event for one in node.outbox.due()] == ["bypass_on"]
    assert node.reports.gauges().late_findings == 0


@pytest.mark.usefixtures("forwarded")
def test_a_late_instance_takes_the_study_back_and_it_is_assessed_as_any(node, late, instance):
    claimed = late.claim("worker", 60)
    node.complete(instance(3))
    with pytest.raises(LeaseLostError):
        late.decide(claimed, assessment(node.suspected))
    with pytest.raises(LeaseLostError):
        late.renew(claimed, 60)
    assert late.claim("worker", 60) is None
    assert node.decide(node.suspected) == "held"


@pytest.mark.usefixtures("forwarded")
def test_a_worker_that_died_is_followed_by_another(node, late):
    first = late.claim("host:detect:1", 60)
    assert late.claim("host:detect:2", 60) is None
    late.renew(first, 60)
    late.release_leases("host:detect:")
    second = late.claim("host:detect:2", 60)
    assert second.attempts == first.attempts + 1
    node.clock.move(61)
    assert late.claim("host:detect:3", 60) is not None
    with pytest.raises(LeaseLostError):
        late.decide(second, assessment(node.clean))


def test_what_the_longest_hold_let_go_is_assessed_afterwards_too(node, late, instance):
    node.complete(instance(1))
    node.clock.move(1e5)
    assert bypassed(node) == [1]
    assert late_decision(late, node.suspected) == "forwarding"
    node.deliver()
    assert node.state() == "delivered"


def ask_anew(late, **which):
    return late.request(who="Dr. Jones", reason="a new model", **which)


def test_what_was_forwarded_as_clean_and_is_suspected_anew_raises_the_alarm(node, late, instance):
    node.forward(instance(1))
    node.deliver()
    assert late.claim("worker", 60) is None
    assert (ask_anew(late), ask_anew(late), late.waiting()) == (1, 0, 1)
    assert late_decision(late, node.suspected) == "delivered"
    assert late.waiting() == 0
    shown = node.review.details(1)
    assert (shown.summary.verdict, shown.summary.bypassed) == ("SUSPECTED", False)
    assert "judged anew after it was forwarded" in shown.summary.reason
    assert [(one["cause"], one["verdict"]) for one in shown.assessments] == [("first", "CLEAN"), ("anew", "SUSPECTED")]
    assert [one["action"] for one in shown.actions] == ["reassess", "late finding"]
    assert [one.event for one in node.outbox.due()] == ["late_finding"]
    assert late.claim("worker", 60) is None
    # known by now
    ask_anew(late)
    late_decision(late, node.suspected)
    assert node.reports.gauges().late_findings == 1


def test_a_hold_is_never_lifted_by_judging_anew(node, late, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    ask_anew(late, study_ids=[1])
    assert late_decision(late, node.clean) == "held"
    shown = node.review.details(1)
    assert (shown.summary.verdict, shown.summary.state) == ("SUSPECTED", "held")
    assert shown.assessment["decision"] == "quarantine"
    assert [one["verdict"] for one in shown.assessments] == ["SUSPECTED", "CLEAN"]


def test_what_was_bypassed_comes_before_what_is_judged_anew(node, late, bypasses, instance):
    node.forward(instance(1))
    node.deliver()
    ask_anew(late)
    node.complete(instance(1, study="1.3"))
    switch(bypasses)
    bypassed(node)
    first, second = late.claim("worker", 60), late.claim("worker", 60)
    assert (first.study_uid, second.study_uid) == ("1.3", "1.2")


def test_studies_are_chosen_by_number_source_and_time(node, late, instance):
    for number, source in ((1, "ct"), (2, "mr"), (3, "ct")):
        node.forward(instance(1, study=f"1.{number}.9", source=source))
    node.complete(instance(1, study="1.4.9"))
    third = node.review.details(3).summary.created_at
    assert ask_anew(late, source="mr") == 1
    assert ask_anew(late, since=third) == 1
    assert ask_anew(late, study_ids=[2, 4]) == 0
    assert ask_anew(late) == 1
    assert late.waiting() == 3


def test_what_is_gone_from_the_spool_is_not_judged_anew(node, late, instance):
    node.forward(instance(1))
    node.deliver()
    ask_anew(late)
    with node.database.write() as connection:  # as retention does
        connection.execute(sa.update(instances).values(purged_at=node.clock()))
    assert late.claim("worker", 60) is None
    assert (late.waiting(), ask_anew(late)) == (0, 0)


def test_a_late_instance_puts_judging_anew_off_until_the_study_had_its_turn(node, late, instance):
    node.forward(instance(1))
    ask_anew(late)
    claimed = late.claim("worker", 60)
    node.complete(instance(2))
    with pytest.raises(LeaseLostError):
        late.decide(claimed, assessment(node.clean))
    assert late.claim("worker", 60) is None
    node.decide()
    assert late.claim("worker", 60).attempts == 2
