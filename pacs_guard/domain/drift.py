"""How far what a scanner sends now lies from what a model was calibrated on: histograms, and one index of two of them.

The population stability index of two distributions p and q over B bins is the sum of (p - q) ln(p / q). With n and m
independent samples of one distribution it is about (1/n + 1/m) times a chi-squared variable of B - 1 degrees of
freedom (Yurdakul 2018, *Statistical properties of population stability index*), which says from which value on it means
something. Slices of a series are not independent, so that each series weighs one however many slices it has.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Measure(StrEnum):
    """What is compared."""

    SCORE = "score"
    """A slice's highest score, in the detector's own unit."""
    NOISE = "noise"
    """Strength of the noise in soft tissue, HU."""
    GRAIN = "grain"
    """Correlation of that noise between neighbouring pixels."""


EDGES: dict[Measure, tuple[float, ...]] = {
    Measure.SCORE: (-8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0),
    Measure.NOISE: (2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0, 64.0),
    Measure.GRAIN: (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""Where one bin ends and the next begins; the first and the last are open."""

NOTICEABLE = 0.25
"""An index below this is of no concern, however sure it is."""

_GROUPS = 5
_UNLIKELY = (10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88, 29.59)
"""Chi-squared values that chance exceeds once in a thousand, for 1 to 10 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one series adds to a histogram.

    Attributes
    ----------
    scanner : str
        Manufacturer, model and kernel.
    measure : Measure
    shares : tuple of float
        Of the series' slices in each bin; they sum to 1.
    """

    scanner: str
    measure: Measure
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """A distribution as counts.

    Attributes
    ----------
    series : float
        How many independent samples it stands for: series, or patients.
    counts : tuple of float
        In each bin; they sum to `series`.
    """

    series: float
    counts: tuple[float, ...]

    def __add__(self, other: Histogram) -> Histogram:
        """Return both together."""
        counts = tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True))
        return Histogram(self.series + other.series, counts)


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a scanner is from the reference.

    Attributes
    ----------
    name, version : str
        The model.
    scanner : str
    measure : Measure
    index : float
        Population stability index.
    limit : float
        From here on it is neither small nor chance.
    series : float
        Of the scanner, in the window.
    """

    name: str
    version: str
    scanner: str
    measure: Measure
    index: float
    limit: float
    series: float


def shares_of(measure: Measure, values: Iterable[float]) -> tuple[float, ...]:
    """Return the share of values in each bin; none at all if there is no value.

    Examples
    --------
    >>> shares_of(Measure.NOISE, [1.0, 2.0, 500.0, 500.0])
    (0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
    """
    counts = [0] * (len(EDGES[measure]) + 1)
    for value in values:
        counts[bisect_right(EDGES[measure], value)] += 1
    total = sum(counts)
    return tuple(count / total for count in counts) if total else ()


def stability_index(now: Histogram, reference: Histogram) -> tuple[float, float]:
    """Return the population stability index, and the value from which on it is neither small nor chance.

    Bins are joined until they hold a fifth of the reference, and every one gets half a sample more, so that an empty
    one does not make the index infinite.

    Examples
    --------
    >>> same, moved = Histogram(100.0, (50.0, 50.0)), Histogram(100.0, (90.0, 10.0))
    >>> [round(one, 3) for one in stability_index(same, same)]
    [0.0, 0.25]
    >>> [round(one, 2) for one in stability_index(moved, same)]
    [0.85, 0.25]
    """
    groups = _groups(reference.counts)
    index = 0.0
    for bins in groups:
        p, q = ((sum(one.counts[i] for i in bins) + 0.5) / (one.series + 0.5 * len(groups)) for one in (now, reference))
        index += (p - q) * math.log(p / q)
    chance = _UNLIKELY[len(groups) - 2] * (1 / max(now.series, 1.0) + 1 / max(reference.series, 1.0))
    return index, max(NOTICEABLE, chance)


def _groups(counts: Sequence[float]) -> list[list[int]]:
    """Join neighbouring bins to groups of a fifth or more, and leave what lies between and beside them apart."""
    least = sum(counts) / _GROUPS
    groups: list[list[int]] = [[]]
    held = 0.0
    for i, count in enumerate(counts):
        if count >= least and groups[-1]:
            groups.append([])
            held = 0.0
        groups[-1].append(i)
        held += count
        if held >= least and i < len(counts) - 1:
            groups.append([])
            held = 0.0
    return groups
