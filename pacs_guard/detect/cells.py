"""A slice cropped to its lungs and cut into cells of some pixels each, over which measurements are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.separable import filtered_both, twice_a_box
from pacs_guard.detect.shapes import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

SITE_STEP_MM = 3.0

_CELL_MM = 1.4
_MARGIN_MM = 30.0
_SAMPLED = 3000


@dataclass(frozen=True, slots=True)
class Grid:
    """A slice cropped to the lungs and cut into cells of some pixels each."""

    step: tuple[int, int]
    spacing: tuple[float, float]
    origin: tuple[int, int]
    every: tuple[int, int]

    def windows(self, size_mm: float) -> tuple[int, int, int]:
        """Return the size of a window over (channels, rows, columns) in cells."""
        rows, columns = (max(1, round(size_mm / (1.4 * spacing))) | 1 for spacing in self.spacing)
        return (1, rows, columns)


def crop(
    hu: NDArray[np.int16], lungs: NDArray[np.bool_], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Grid]:
    """Return the slice around its lungs in whole cells, its lungs there, and its grid."""
    step, every = cell_pixels(spacing_mm), cells_a_site(spacing_mm)
    bounds = []
    for axis in (0, 1):
        filled = np.flatnonzero(lungs.any(axis=1 - axis))
        margin = int(_MARGIN_MM / spacing_mm[axis])
        pitch = step[axis] * every[axis]
        first = max(0, filled[0] - margin) // pitch * pitch
        last = min(hu.shape[axis], filled[-1] + 1 + margin)
        bounds.append(slice(first, first + (last - first) // step[axis] * step[axis]))
    box = (bounds[0], bounds[1])
    image = np.clip(hu[box], -1100, 1000).astype(np.float32)
    spacing = (step[0] * spacing_mm[0], step[1] * spacing_mm[1])
    origin = (box[0].start // (step[0] * every[0]), box[1].start // (step[1] * every[1]))
    return image, lungs[box], Grid(step, spacing, origin, every)


def cell_pixels(spacing_mm: tuple[float, float]) -> tuple[int, int]:
    """Return how many pixels a cell has along (rows, columns)."""
    rows, columns = (max(1, round(_CELL_MM / spacing)) for spacing in spacing_mm)
    return rows, columns


def cells_a_site(spacing_mm: tuple[float, float]) -> tuple[int, int]:
    """Return how many cells lie between neighbouring sites along (rows, columns)."""
    cell = cell_pixels(spacing_mm)
    rows, columns = (max(1, round(SITE_STEP_MM / (c * s))) for c, s in zip(cell, spacing_mm, strict=True))
    return rows, columns


def cell_means(
    channels: NDArray[np.float32], grid: Grid, mask: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Average (channels, rows, columns), or what a mask of (rows, columns) leaves of them, over the grid's cells."""
    shape = [length // step for length, step in zip(channels.shape[1:], grid.step, strict=True)]
    cells = np.empty((len(channels), *shape), np.float32)
    # one after the other, so that what is between stays in the processor's cache
    for number, channel in enumerate(channels):
        cells[number] = cell_mean(channel if mask is None else channel * mask, grid)
    return cells


def cell_mean(channel: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Average (rows, columns) over the cells of the grid."""
    rows, columns = grid.step
    # sums of strided views take a third of the time of a mean over split axes
    down = reduce(np.add, [channel[first::rows] for first in range(rows)])
    both = reduce(np.add, [down[:, first::columns] for first in range(columns)])
    return np.asarray(both / np.float32(rows * columns), np.float32)


def within(mask: NDArray[np.bool_], grid: Grid, distance_mm: float) -> NDArray[np.bool_]:
    """Return which cells are no further than this from the mask."""
    return grown(mask, grid.spacing, distance_mm)


def smoothed(cells: NDArray[np.float32], grid: Grid, size_mm: float) -> NDArray[np.float32]:
    """Average over a window that falls off towards its sides (two boxes, one after the other)."""
    _, rows, columns = grid.windows(size_mm)
    return filtered_both(cells, twice_a_box(cells.shape[1], rows), twice_a_box(cells.shape[2], columns))


def local_means(
    cells: NDArray[np.float32], weight: NDArray[np.float32], grid: Grid, size_mm: float, least: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weighted local mean of each channel and the local weight."""
    local = share_within(weight, grid, size_mm)
    means = smoothed(cells, grid, size_mm)
    means /= np.maximum(local, least)
    return means, local


def share_within(weight: NDArray[np.float32], grid: Grid, size_mm: float) -> NDArray[np.float32]:
    """Return `smoothed` of one channel that is compared with limits afterwards."""
    # not by a product: rounded in another way, shares at a limit would change sides
    size = grid.windows(size_mm)[1:]
    twice = ndimage.uniform_filter(ndimage.uniform_filter(weight, size, mode="constant"), size, mode="constant")
    return np.asarray(twice, np.float32)


def usual_of(
    strength: NDArray[np.float32], where: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the median and the robust standard deviation of each channel, from some thousand cells at most."""
    at = np.flatnonzero(where)
    values = strength.reshape(len(strength), -1)[:, at[:: max(1, at.size // _SAMPLED)]]
    if not values.size:
        return np.zeros(len(strength), np.float32), np.ones(len(strength), np.float32)
    middle = median(values)
    spread = 1.4826 * median(np.abs(values - middle[:, None]))
    return middle.astype(np.float32), (spread + 0.02).astype(np.float32)


def median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median along the last axis, in half the time that NumPy takes, which also looks for NaN."""
    half, count = values.shape[-1] // 2, values.shape[-1]
    parted = np.partition(values, half, axis=-1)
    upper = parted[..., half]
    if count % 2:
        return np.asarray(upper, np.float32)
    return np.asarray(0.5 * (parted[..., :half].max(axis=-1) + upper), np.float32)
