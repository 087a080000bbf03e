from __future__ import annotations

from pacs_guard.domain.audit import Throttle


def test_one_of_a_kind_passes_in_a_while_and_stands_for_those_that_did_not():
    throttle = Throttle(10.0)
    assert [throttle.passes("a", now) for now in (0, 1, 9.9, 10, 11, 25)] == [1, 0, 0, 3, 0, 2]


def test_kinds_do_not_hold_one_another_up():
    throttle = Throttle(10.0)
    assert [throttle.passes(kind, 0) for kind in "abab"] == [1, 1, 0, 0]


def test_a_flood_of_kinds_takes_no_more_room_than_allowed():
    throttle = Throttle(10.0, most_kinds=4)
    assert sum(throttle.passes(number, 0) for number in range(1000)) == 5
    assert len(throttle._kinds) == 5
    assert throttle.passes("new", 11.0) == 1  # the quiet ones are forgotten
