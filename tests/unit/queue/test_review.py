"""What people do, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.errors import LifecycleError, NotFoundError, QueueError
from pacs_guard.queue.schema import actions


@pytest.fixture
def held(node, instance):
    node.complete(instance(1))
    node.decide(node.suspected)
    return node


def test_released_study_is_forwarded_and_the_release_recorded(held):
    held.review.release(1, who="dr. rad", reason="artefact", destinations=("pacs",))
    assert held.state() is StudyState.FORWARDING
    [action] = held.review.details(1).actions
    assert (action["action"], action["who"], action["reason"], action["at"]) == (
        "release",
        "dr. rad",
        "artefact",
        held.clock.now,
    )
    held.deliver()
    assert held.state() is StudyState.DELIVERED


def test_rejected_study_stays_and_can_be_released_on_record(held):
    held.review.reject(1, who="rad", reason="forged")
    assert held.state() is StudyState.REJECTED
    assert held.forwarding.claim("pacs", "d", 60) is None
    held.review.release(1, who="chief", reason="mistake", destinations=("pacs",))
    assert [row["action"] for row in held.review.details(1).actions] == ["reject", "release"]


def test_study_that_is_not_held_is_neither_released_nor_rejected(node, instance):
    node.complete(instance(1))
    before = node.everything()
    with pytest.raises(LifecycleError, match="ready"):
        node.review.release(1, who="rad", reason="x", destinations=("pacs",))
    with pytest.raises(LifecycleError):
        node.review.reject(1, who="rad", reason="x")
    with pytest.raises(NotFoundError):
        node.review.reject(2, who="rad", reason="x")
    assert node.everything() == before


@pytest.mark.parametrize("statement", [sa.update(actions).values(who="nobody"), sa.delete(actions)])
def test_recorded_action_can_be_neither_changed_nor_deleted(held, statement):
    held.review.reject(1, who="rad", reason="forged")
    with pytest.raises(QueueError, match="recorded for good"), held.database.write() as connection:
        connection.execute(statement)
    assert held.review.details(1).actions[0]["who"] == "rad"


def test_study_is_found_by_id_and_by_uid(held):
    assert held.review.find("1") == held.review.find("1.2") == 1
    for unknown in ("2", "9" * 18, "9" * 30, "1.2.3", "", "x'; DROP TABLE studies"):
        with pytest.raises(NotFoundError, match="no study"):
            held.review.find(unknown)


def test_lists_are_newest_first_and_filtered(node, instance):
    node.complete(instance(1, study="1.1"), instance(2, study="1.1", source="mr"))
    node.send(instance(1, study="1.2"))
    assert [study.study_uid for study in node.review.list_studies()] == ["1.2", "1.1"]
    assert [study.study_uid for study in node.review.list_studies([StudyState.READY])] == ["1.1"]
    assert len(node.review.list_studies(limit=1)) == 1
    assert node.review.list_studies()[1].sources == ("ct", "mr")
    assert node.review.list_studies([]) == []
