import random

import pytest

from pacs_guard.domain.drift import NOTICEABLE, Histogram, Measure, shares_of, stability_index


def histogram(measure, series):
    """Each series weighs one."""
    total = Histogram(0.0, (0.0,) * len(shares_of(measure, [0.0])))
    for values in series:
        total += Histogram(1.0, shares_of(measure, values))
    return total


def scanner(rng, count, mean, spread=1.5):
    """Return series whose slices are alike within a series."""
    return [[rng.gauss(centre, 0.5) for _ in range(50)] for centre in (rng.gauss(mean, spread) for _ in range(count))]


def alarms(shift, count, tries=60):
    rng = random.Random(1)
    raised = 0
    for _ in range(tries):
        reference = histogram(Measure.SCORE, scanner(rng, 14, -3.0))
        now = histogram(Measure.SCORE, scanner(rng, count, -3.0 + shift))
        index, limit = stability_index(now, reference)
        raised += index > limit
    return raised / tries


def test_the_same_scanner_raises_no_alarm_though_slices_of_a_series_are_alike():
    assert alarms(0.0, 30) == alarms(0.0, 200) == 0.0


def test_a_scanner_that_moved_raises_one():
    assert alarms(4.0, 30) > 0.9


def test_more_series_make_smaller_changes_certain():
    few, many = (Histogram(n, (n * 0.65, n * 0.35)) for n in (10.0, 4000.0))
    half = Histogram(4000.0, (2000.0, 2000.0))
    assert stability_index(few, half)[1] > stability_index(many, half)[1] == NOTICEABLE


def test_bins_are_open_at_both_ends_and_empty_ones_are_no_infinity():
    shares = shares_of(Measure.GRAIN, [-5.0, 5.0])
    assert (shares[0], shares[-1], sum(shares)) == (0.5, 0.5, 1.0)
    assert shares_of(Measure.GRAIN, []) == ()
    index, _ = stability_index(Histogram(10.0, (0.0, 10.0)), Histogram(10.0, (5.0, 5.0)))
    assert index == pytest.approx(1.2, abs=0.3)
