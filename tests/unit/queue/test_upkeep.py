"""Rows as files, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest


def test_every_instance_whose_bytes_should_be_there_is_expected_once(node, instance):
    sent = [instance(number) for number in range(5)]
    node.send(*sent)
    assert list(node.upkeep.expected_files()) == [
        (number, value.path, 1400) for number, value in enumerate(sent, start=1)
    ]


def test_only_paths_of_instances_that_are_still_needed_are_known(node, instance):
    delivered, waiting = instance(1, study="1.1"), instance(1, study="1.2")
    node.forward(delivered)
    node.deliver()
    node.prove()
    node.send(waiting)
    node.clock.move(100)
    assert node.upkeep.known_paths([delivered.path, waiting.path, "x"]) == {delivered.path, waiting.path}
    node.upkeep.purge_delivered(10)
    assert node.upkeep.known_paths([delivered.path, waiting.path]) == {waiting.path}
    assert [row[1] for row in node.upkeep.expected_files()] == [waiting.path]


def test_what_is_needed_in_a_segment_is_what_is_not_purged_there(node, instance):
    inside = [replace(instance(number), path=f"segments/a_.seg/{number}") for number in (1, 2)]
    other = replace(instance(3), path="segments/ab.seg/1")
    node.send(*inside, other)
    assert node.upkeep.needed_in("segments/a_.seg") == {one.path for one in inside}
    assert node.upkeep.needed_in("segments/a") == set()


def test_more_instances_than_a_statement_has_parameters_can_be_marked(node, instance):
    node.send(instance(1))
    node.upkeep.mark_missing(range(1, 70_000), missing=True)
    assert node.reports.gauges().missing_instances == 1


def test_purged_instance_is_never_missing(node, instance):
    node.forward(instance(1))
    node.deliver()
    node.prove()
    node.clock.move(100)
    node.upkeep.purge_delivered(10)
    node.upkeep.mark_missing([1], missing=True)
    assert node.reports.gauges().missing_instances == 0


def test_delivered_instances_are_purged_once_old_enough(node, instance):
    first = instance(1)
    node.forward(first)
    node.deliver()
    node.prove()
    node.clock.move(10)
    assert node.upkeep.purge_delivered(10) == []
    node.clock.move(1)
    assert node.upkeep.purge_delivered(10) == [first.path]
    assert node.upkeep.purge_delivered(10) == []


@pytest.mark.parametrize("end", ["held", "rejected", "failed", "forwarding", "reopened"])
def test_nothing_else_is_ever_purged(node, instance, end):
    node.complete(instance(1))
    node.decide(node.suspected if end in {"held", "rejected"} else node.clean)
    if end == "rejected":
        node.review.reject(1, who="rad", reason="forged")
    elif end == "failed":
        node.forwarding.finish(node.forwarding.claim("pacs", "d", 60), error="gone", retry_in=None)
    elif end == "reopened":
        node.deliver()
        node.send(instance(2))
    node.clock.move(1e9)
    assert node.upkeep.purge_delivered(10) == []
