"""Receiving, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.errors import QueueError
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import associations, instances, refusals, studies, tallies


def rows(node, table):
    with node.database.read() as connection:
        return connection.execute(sa.select(table)).mappings().all()


def tally(node):
    return {(row["source"], row["outcome"]): (row["instances"], row["bytes"]) for row in rows(node, tallies)}


def test_new_instance_opens_its_study(node, instance):
    assert node.send(instance(1), instance(2)) == [Outcome.STORED, Outcome.STORED]

    [study] = rows(node, studies)
    assert (study["state"], study["received_count"], study["revision"]) == (StudyState.RECEIVING, 2, 2)
    assert len(rows(node, instances)) == 2
    assert tally(node) == {("ct", Outcome.STORED): (2, 2000)}


def test_identical_instance_is_a_duplicate_and_changes_nothing_but_counts(node, instance):
    first = instance(1)
    node.send(first)
    node.clock.move(10)

    assert node.send(instance(1)) == [Outcome.DUPLICATE]

    [row] = rows(node, instances)
    assert (row["path"], row["duplicates"]) == (first.path, 1)
    [study] = rows(node, studies)
    assert (study["revision"], study["received_count"]) == (1, 1)
    assert tally(node)["ct", Outcome.DUPLICATE] == (1, 1000)


def test_duplicate_does_not_reopen_a_study(node, instance):
    node.complete(instance(1))
    node.send(instance(1))
    assert node.state() is StudyState.READY


def test_same_uid_with_other_content_is_kept_beside_the_first(node, instance):
    assert node.send(instance(1), instance(1, content="altered")) == [Outcome.STORED, Outcome.CONFLICT]
    assert len(rows(node, instances)) == 2


def test_conflict_is_seen_across_studies(node, instance):
    node.send(instance(1))
    other = instance(1, study="9.9")
    stolen = type(other)(**{**_fields(other), "key": type(other.key)("9.9", "9.9.1", "1.2.1.1", other.key.sha256)})
    assert node.send(stolen) == [Outcome.CONFLICT]


def _fields(value):
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def test_instance_that_was_purged_is_stored_and_delivered_again(node, instance):
    node.forward(instance(1))
    node.deliver()
    node.prove()
    node.clock.move(100)
    node.upkeep.purge_delivered(10)
    again = instance(1)

    assert node.send(again) == [Outcome.STORED]

    [row] = rows(node, instances)
    assert (row["path"], row["purged_at"]) == (again.path, None)
    assert node.state() is StudyState.RECEIVING
    node.clock.move(31)
    node.assessing.complete_quiet(node.rule)
    assert node.decide() is StudyState.FORWARDING
    assert [item.path for item in node.deliver().pending] == [again.path]
    assert node.state() is StudyState.DELIVERED


def test_instance_whose_bytes_went_missing_is_stored_again(node, instance):
    node.send(instance(1))
    node.upkeep.mark_missing([1], missing=True)
    again = instance(1)

    assert node.send(again) == [Outcome.STORED]

    [row] = rows(node, instances)
    assert (row["path"], row["missing"]) == (again.path, False)


@pytest.mark.parametrize("again", [False, True])
def test_large_instances_and_their_sums_fit(node, instance, again):
    large = instance(1)
    large = type(large)(**{**_fields(large), "length": 5 * 1024**3})
    node.send(large)
    if again:
        node.send(large)
    assert tally(node)["ct", Outcome.STORED] == (1, 5 * 1024**3)
    assert list(node.upkeep.expected_files()) == [(1, large.path, 5 * 1024**3 + 400)]


def test_refusal_is_written_down_and_counted(node):
    node.intake.record_refusal(
        source="ct", calling_ae="CT1", sop_uid="1.2.3", status=0xA900, reason="no", path="refused/1.dcm", length=77
    )
    [row] = rows(node, refusals)
    assert (row["status"], row["path"]) == (0xA900, "refused/1.dcm")
    assert tally(node) == {("ct", Outcome.REFUSED): (1, 77)}


def test_refusal_of_garbage_fits_whatever_its_identifiers_hold(node):
    node.intake.record_refusal(
        source="ct", calling_ae="C" * 40, sop_uid="1." * 90, status=0xC000, reason="a\0b", path=None, length=1
    )
    [row] = rows(node, refusals)
    assert len(row["sop_uid"]) == 64


def test_record_over_an_association_that_is_not_open_writes_nothing(node, instance):
    before = node.everything()
    with pytest.raises(QueueError):
        node.intake.record(instance(1), calling_ae="CT1", association_id="unknown")
    assert node.everything() == before


def test_restarted_receiver_forgets_only_its_own_associations(node, instance):
    node.intake.open_association("mine", calling_ae="CT1", address="10.0.0.1", source="ct")
    other = type(node.intake)(node.database, node.clock, "other receiver")
    other.open_association("theirs", calling_ae="CT1", address="10.0.0.1", source="ct")
    node.intake.record(instance(1), calling_ae="CT1", association_id="mine")

    node.intake.forget_associations()

    assert [row["id"] for row in rows(node, associations)] == ["theirs"]


@pytest.mark.parametrize(
    "reach",
    ["receiving", "ready", "assessing", "forwarding", "delivered", "failed", "held", "rejected"],
)
def test_late_instance_reopens_a_study_wherever_it_stands(node, instance, reach):
    bring_to(node, instance, StudyState(reach))
    node.send(instance(2))

    [study] = rows(node, studies)
    assert study["state"] == StudyState.RECEIVING
    assert (study["lease_owner"], study["lease_until"], study["finished_at"]) == (None, None, None)
    assert study["revision"] == 2


def bring_to(node, instance, state):
    node.send(instance(1))
    if state is StudyState.RECEIVING:
        return
    node.clock.move(31)
    node.assessing.complete_quiet(node.rule)
    if state is StudyState.READY:
        return
    if state is StudyState.ASSESSING:
        node.assessing.claim("worker", 60)
        return
    node.decide(node.suspected if state in {StudyState.HELD, StudyState.REJECTED} else node.clean)
    if state is StudyState.REJECTED:
        node.review.reject(1, who="rad", reason="confirmed")
    elif state is StudyState.DELIVERED:
        node.deliver()
    elif state is StudyState.FAILED:
        claimed = node.forwarding.claim("pacs", "deliverer", 60)
        node.forwarding.finish(claimed, error="refused", retry_in=None)
    assert node.state() is state
