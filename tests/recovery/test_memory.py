from __future__ import annotations

import os

import pytest

from tests.recovery import memory
from tests.recovery.memory import Memory


@pytest.mark.parametrize(("mib_per_hour", "grows"), [(0, False), (20, False), (400, True)])
def test_growth_is_told_from_new_lives_and_from_filling_caches(mib_per_hour, grows):
    watched = Memory(lambda _: None, 1)
    for pid, level in ((10, 100.0), (11, 180.0), (12, 90.0)):
        watched._samples["receive", pid] = [
            (float(second), level + mib_per_hour * second / 3600 + (second % 3) / 10 + 30 * (second < 30))
            for second in range(0, 300, 5)
        ]
    slope, error = watched.slope("receive")
    assert slope == pytest.approx(mib_per_hour, abs=4 * error)
    assert bool(watched.grown()) == grows
    assert watched.report()["receive"]["lives"] == 3


@pytest.mark.parametrize(("mib_per_hour", "grows"), [(0, False), (400, True)])
def test_of_a_long_life_the_second_half_tells_a_leak_from_a_warm_up(mib_per_hour, grows):
    watched = Memory(lambda _: None, 1)
    watched._samples["ops", 10] = [
        # a step each minute for five minutes
        (float(second), 80.0 + 6 * min(5, second // 60) + mib_per_hour * second / 3600 + (second % 3) / 10)
        for second in range(0, 900, 5)
    ]
    slope, error = watched.slope("ops", late=True)
    assert slope == pytest.approx(mib_per_hour, abs=4 * error)
    assert watched.slope("ops")[0] > mib_per_hour + 50
    assert bool(watched.grown()) == grows
    told = watched.report()["ops"]
    assert (told["longest_life_seconds"], told["second_half_mib_per_hour"]) == (895, round(slope, 1))


def test_this_process_has_memory():
    assert memory._resident_mib(os.getpid()) > 1
