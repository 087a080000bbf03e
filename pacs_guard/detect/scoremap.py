"""Scores on the raster of sites: smoothing within a slice, agreement between slices, and peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.detect.features import Raster, Sites

NOTHING = -20.0
"""Score of a place where nothing can be said."""

_LEAST_SUPPORT = 0.25
_DEPTH_MM = 4.0
_APART_MM = 28.0
_ROWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest score of a map, in a slice and at a site of the raster."""

    score: float
    index: int
    row: int
    column: int


def slice_map(sites: Sites, scores: NDArray[np.float32], raster: Raster, sigma_mm: float) -> NDArray[np.float32]:
    """Spread the sites' scores over the raster and average over neighbours.

    Returns
    -------
    ndarray of float32, shape (rows, columns) of the raster
        `NOTHING` where there is no site.
    """
    values, support = np.zeros((2, *raster.shape), np.float32)
    values[sites.rows, sites.columns] = scores
    support[sites.rows, sites.columns] = 1.0
    sigma = [sigma_mm / spacing for spacing in raster.spacing_mm]
    total = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3.0)
    weight = ndimage.gaussian_filter(support, sigma, mode="constant", truncate=3.0)
    return np.where(support > 0, total / np.maximum(weight, 1e-3), NOTHING).astype(np.float32)


def agreement(maps: NDArray[np.float32], spacing_mm: float) -> NDArray[np.float32]:
    """Average maps of shape (slices, rows, columns) over neighbouring slices, some millimetres up and down.

    Every way of altering a volume changes several slices, and chance does not repeat itself there. A place that is
    no site in most of its neighbours keeps `NOTHING`.
    """
    if len(maps) == 1:
        return maps
    agreed = np.empty_like(maps)
    for row in range(0, maps.shape[1], _ROWS_AT_ONCE):
        rows = slice(row, row + _ROWS_AT_ONCE)
        agreed[:, rows] = _agreement(maps[:, rows], _DEPTH_MM / spacing_mm)
    return agreed


def _agreement(maps: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    known = maps > NOTHING
    total = ndimage.gaussian_filter1d(np.where(known, maps, 0.0), sigma, axis=0, mode="constant", truncate=2.5)
    weight = ndimage.gaussian_filter1d(known.astype(np.float32), sigma, axis=0, mode="constant", truncate=2.5)
    usable = known & (weight > _LEAST_SUPPORT)
    return np.where(usable, total / np.maximum(weight, 1e-3), NOTHING).astype(np.float32)


def highest(maps: NDArray[np.float32]) -> Peak:
    """Return the highest place of maps of shape (slices, rows, columns)."""
    index, row, column = (int(i) for i in np.unravel_index(int(maps.argmax()), maps.shape))
    return Peak(float(maps[index, row, column]), index, row, column)


def peaks(
    maps: NDArray[np.float32], spacing_mm: tuple[float, float, float], threshold: float, most: int = 5
) -> list[Peak]:
    """Return up to `most` places that reach `threshold`, highest first, each some centimetres from the others."""
    left = maps.copy()
    found: list[Peak] = []
    reach = [int(np.ceil(_APART_MM / spacing)) for spacing in spacing_mm]
    while len(found) < most:
        peak = highest(left)
        if peak.score < threshold or peak.score <= NOTHING:
            break
        found.append(peak)
        around = tuple(
            slice(max(0, centre - far), centre + far + 1)
            for centre, far in zip((peak.index, peak.row, peak.column), reach, strict=True)
        )
        left[around] = NOTHING
    return found
