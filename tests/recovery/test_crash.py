"""Fifty rounds of the crash test; `python -m tests.recovery --rounds 1000` runs more of them."""

from __future__ import annotations

import os

import pytest

from tests.recovery.__main__ import run
from tests.recovery.points import FAILING, POINTS, Strike, _find

ROUNDS = int(os.environ.get("PACS_GUARD_CRASH_ROUNDS", "50"))


@pytest.mark.parametrize("role", POINTS)
def test_every_point_of_the_table_exists(role):
    for point in (*POINTS[role], *(point for point, _ in FAILING[role])):
        _find(point)


def test_a_strike_says_what_it_does():
    assert str(Strike("os:fsync", 3, "EIO")) == "EIO call 3 of os:fsync"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_promise_is_kept_whatever_goes_wrong(tmp_path):
    outcomes = list(run(range(ROUNDS), seed=0, folder=tmp_path))
    assert [outcome for outcome in outcomes if outcome.error] == []
    assert len(outcomes) == ROUNDS
    fired = [outcome for outcome in outcomes if outcome.fired]
    assert len(fired) >= ROUNDS // 2
    assert {outcome.kind for outcome in fired} == {"point", "random", "failing", "locked", "cut"}
    assert sum(outcome.deaths for outcome in outcomes) >= ROUNDS // 5
