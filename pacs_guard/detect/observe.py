"""What a series adds to the histograms that show drift: its scores and its noise, by scanner."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.conformal import CleanScores
from pacs_guard.domain.drift import Histogram, Measure, Observation, shares_of
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.domain.verdict import SeriesResult
    from pacs_guard.domain.volume import AssembledSeries, Volume

_LEAST_SLICES = 8
_LOOKED_AT = 8
_SOFT_HU = (-50.0, 120.0)
_LEAST_PIXELS = 500
_SMOOTH_PIXELS = 2.0
_MARGIN_PIXELS = 2
_EDGE = 4.0
_UNKNOWN = "unknown"


def observe(series: AssembledSeries, result: SeriesResult) -> tuple[Observation, ...]:
    """Return what a series adds; nothing if it is short or nothing was scored.

    Parameters
    ----------
    series : AssembledSeries
    result : SeriesResult
        With the scores of its slices.
    """
    volume = series.volume
    scores = [max(one.score_fb, one.score_fm) for one in result.slices]
    if volume is None or len(volume.hu) < _LEAST_SLICES or not scores:
        return ()
    scanner = Counter(one.scanner for one in series.instances if one.scanner).most_common(1)
    name = scanner[0][0] if scanner else _UNKNOWN
    noise = list(noise_in(volume))
    values = {
        Measure.SCORE: scores,
        Measure.NOISE: [strength for strength, _ in noise],
        Measure.GRAIN: [grain for _, grain in noise],
    }
    return tuple(Observation(name, measure, shares_of(measure, of)) for measure, of in values.items() if of)


def noise_in(volume: Volume) -> Iterator[tuple[float, float]]:
    """Yield strength, HU, and neighbour correlation of the noise in soft tissue, of some slices."""
    count = min(_LOOKED_AT, len(volume.hu))
    for index in np.linspace(0, len(volume.hu) - 1, count).round().astype(int):
        measured = noise_of(volume.hu[index].astype(np.float32))
        if measured is not None:
            yield measured


def noise_of(hu: NDArray[np.float32]) -> tuple[float, float] | None:
    """Measure the noise in a slice's soft tissue.

    Parameters
    ----------
    hu : ndarray of float32, shape (rows, columns)

    Returns
    -------
    tuple of float or None
        Its strength (robust standard deviation, HU) and the correlation of pixels that are neighbours in a row; None if
        there is too little soft tissue.
    """
    smooth = ndimage.gaussian_filter(hu, _SMOOTH_PIXELS)
    soft = (smooth > _SOFT_HU[0]) & (smooth < _SOFT_HU[1])
    soft = ndimage.binary_erosion(soft, iterations=_MARGIN_PIXELS)
    residual = hu - smooth
    if soft.sum() < _LEAST_PIXELS:
        return None
    strength = 1.4826 * float(np.median(np.abs(residual[soft])))
    if strength == 0:
        return None
    soft &= np.abs(residual) < _EDGE * strength
    both = soft[:, 1:] & soft[:, :-1]
    left, right = residual[:, :-1][both], residual[:, 1:][both]
    power = float(np.sqrt((left**2).mean() * (right**2).mean())) if left.size else 0.0
    return (strength, float((left * right).mean()) / power) if power else None


def calibrated_scores(bundle: Bundle) -> Histogram | None:
    """Return how the slices' scores of a bundle's clean patients were distributed, each patient weighing one.

    None for a bundle whose calibration has no table of them.
    """
    try:
        table = CleanScores.from_section(bundle.section("calibration", "slice"))
    except BundleError:
        return None
    weights = np.diff(np.concatenate(([0.0], table.levels)))
    counts = np.zeros(len(shares_of(Measure.SCORE, [0.0])))
    for patient in table.tables["any"]:
        for score, weight in zip(patient, weights, strict=True):
            counts += weight * np.array(shares_of(Measure.SCORE, [float(score)]))
    return Histogram(float(table.patients), tuple(float(one) for one in counts))
