from __future__ import annotations

import pytest
import sqlalchemy as sa

from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.selftest import SELF_TEST, is_self_test, routed
from pacs_guard.queue.schema import actions, audit_events, deliveries, instances, notifications, results
from pacs_guard.queue.selftest import SelfTests

DESTINATIONS = ("pacs", SELF_TEST, "archive")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([SELF_TEST], [SELF_TEST]),
        (["ct"], ["pacs", "archive"]),
        # whatever came from a scanner is wanted in the PACS, whoever else used its study's UID
        (["ct", SELF_TEST], ["pacs", "archive"]),
        ([], ["pacs", "archive"]),
    ],
)
def test_test_studies_go_to_the_tests_destination_and_no_other_does(sources, expected):
    assert routed(sources, DESTINATIONS) == expected
    assert is_self_test(sources) == (expected == [SELF_TEST])


@pytest.fixture
def busy(node):
    node.destinations = DESTINATIONS
    node.__post_init__()
    return node


def rows(node, table):
    with node.database.read() as connection:
        return connection.execute(sa.select(table)).mappings().all()


def judged(node, make, judgement, *sources):
    """Bring one study to its verdict; its instances come from `sources`."""
    node.complete(*(make(number, source=source) for number, source in enumerate(sources)))
    node.decide(judgement)


def test_what_is_held_of_a_test_alarms_nobody_and_is_removed_on_record(busy, instance):
    judged(busy, instance, busy.suspected, SELF_TEST)
    assert rows(busy, notifications) == rows(busy, results) == rows(busy, deliveries) == []
    [removed] = SelfTests(busy.database, busy.clock).remove_settled("done")
    assert (removed.study_id, len(removed.paths), removed.evidence) == (1, 1, ("evidence/1",))
    assert busy.state() is StudyState.REJECTED
    assert [row["purged_at"] for row in rows(busy, instances)] == [busy.clock()]
    assert [(row["action"], row["who"], row["reason"]) for row in rows(busy, actions)] == [
        (SELF_TEST, SELF_TEST, "done")
    ]
    assert "rejected" in {row["event"] for row in rows(busy, audit_events)}
    assert list(busy.upkeep.undelivered()) == []
    assert SelfTests(busy.database, busy.clock).remove_settled("done") == []


def test_a_clean_test_study_goes_to_the_tests_destination_alone(busy, instance):
    judged(busy, instance, busy.clean, SELF_TEST)
    assert [row["destination"] for row in rows(busy, deliveries)] == [SELF_TEST]
    # it is still on its way
    assert SelfTests(busy.database, busy.clock).remove_settled("done") == []


def test_a_study_with_a_scanners_instance_in_it_is_never_touched(busy, instance):
    judged(busy, instance, busy.suspected, SELF_TEST, "ct")
    assert len(rows(busy, notifications)) == 1
    assert SelfTests(busy.database, busy.clock).remove_settled("done") == []
    assert busy.state() is StudyState.HELD
