"""How the noise around each place of a slice differs from the noise of the same tissue in the rest of that slice.

A scanner's noise has a texture that its kernel gives it: neighbouring pixels resemble one another and the finest
pattern that a pixel grid can hold is nearly absent. Pixels that were generated, resampled, or covered with noise
afterwards have another texture. Each band-pass filter below measures the strength of one part of that texture;
strengths are logarithms, averaged over one tissue in a window, and given relative to that tissue's usual value on the
same slice. So neither the scanner, nor the dose, nor the calibration of Hounsfield units enters, and neither does
the shape of what is seen: a nodule is not suspicious for being a nodule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.lungs import lung_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

BANDS = ("corner", "diagonal", "horizontal", "vertical", "fine", "dog0.8", "dog1.2", "dog2.0", "dog3.0")
"""Filters, from the finest texture to the coarsest; the number is the inner Gaussian's sigma in pixels."""

LUNG_WINDOWS_MM = (8.0, 16.0, 28.0)
DENSE_WINDOWS_MM = (6.0, 10.0, 20.0)
SITE_STEP_MM = 3.0

_DENSE_BANDS = 7
_RING_MM = 48.0
_MAP_WINDOW_MM = 7.0
_CELL_MM = 1.4
_MARGIN_MM = 30.0
_BORDER_MM = 8.0
_LUNG_BELOW_HU = -650.0
_DENSE_RANGE_HU = (-150.0, 250.0)
_LEAST_LUNG = 0.2
_LEAST_DENSE = 0.12
_QUANTUM = 0.5
_LEAST_LUNG_CM2 = 4.0


@dataclass(frozen=True, slots=True)
class Sites:
    """Places of one slice and what was measured there.

    Attributes
    ----------
    columns, rows : ndarray of int, shape (sites,)
        Place on the slice's raster of sites.
    features : ndarray of float32, shape (sites, features)
        In the order of the head's names.
    """

    columns: NDArray[np.intp]
    rows: NDArray[np.intp]
    features: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Raster:
    """The sites of a slice: a raster that depends on its matrix and spacing alone, so that neighbours share it.

    Attributes
    ----------
    pitch : tuple of int
        Distance between neighbouring sites along (rows, columns), pixels.
    offset : tuple of float
        Row and column of the first site.
    shape : tuple of int
        How many sites along (rows, columns).
    spacing_mm : tuple of float
        Distance between neighbouring sites along (rows, columns), mm.
    """

    pitch: tuple[int, int]
    offset: tuple[float, float]
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> Raster:
        """Return the raster of slices with this matrix (rows, columns) and spacing."""
        cell, every = _cell_pixels(spacing_mm), _cells_a_site(spacing_mm)
        pitch = (cell[0] * every[0], cell[1] * every[1])
        return cls(
            pitch=pitch,
            offset=((cell[0] - 1) / 2, (cell[1] - 1) / 2),
            shape=(-(-shape[0] // pitch[0]), -(-shape[1] // pitch[1])),
            spacing_mm=(pitch[0] * spacing_mm[0], pitch[1] * spacing_mm[1]),
        )

    def x(self, column: float) -> float:
        """Return the pixel column of the site in `column` of the raster."""
        return float(self.offset[1] + column * self.pitch[1])

    def y(self, row: float) -> float:
        """Return the pixel row of the site in `row` of the raster."""
        return float(self.offset[0] + row * self.pitch[0])


@dataclass(frozen=True, slots=True)
class SliceMeasurements:
    """All sites of one slice.

    Attributes
    ----------
    lung : Sites
        Places in lung tissue, for the head that looks for removals (FB).
    dense : Sites
        Places in soft tissue in and on the lungs, for the head that looks for injections (FM).
    """

    lung: Sites
    dense: Sites


@dataclass(frozen=True, slots=True)
class _Grid:
    """A slice cropped to the lungs and cut into cells of some pixels each."""

    step: tuple[int, int]
    spacing: tuple[float, float]
    origin: tuple[int, int]
    every: tuple[int, int]

    def windows(self, size_mm: float) -> tuple[int, int, int]:
        """Return the size of a window over (channels, rows, columns) in cells."""
        rows, columns = (max(1, round(size_mm / (1.4 * spacing))) | 1 for spacing in self.spacing)
        return (1, rows, columns)


def measure_slice(hu: NDArray[np.int16], spacing_mm: tuple[float, float]) -> SliceMeasurements | None:
    """Measure the texture at sites all over the lungs of one slice.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units; padding is anything at or below -1024.
    spacing_mm : tuple of float
        Distance between neighbouring pixels along (rows, columns), mm.

    Returns
    -------
    SliceMeasurements or None
        None if the slice shows less than 4 cm2 of lung.
    """
    lungs = lung_mask(hu, spacing_mm)
    if lungs.sum() * spacing_mm[0] * spacing_mm[1] < 100.0 * _LEAST_LUNG_CM2:
        return None
    image, lungs, grid = _crop(hu, lungs, spacing_mm)
    bands = log_bands(image)
    parenchyma, dense = _tissues(image, lungs)
    near = _near(_cells(lungs[None].astype(np.float32), grid)[0] > 0.5, grid, _BORDER_MM)
    inside = _cells(lungs[None].astype(np.float32), grid)[0] > 0.5
    return SliceMeasurements(
        lung=_lung_sites(image, bands, parenchyma, inside, grid),
        dense=_dense_sites(bands[:_DENSE_BANDS], dense, near, grid),
    )


def noise_map(hu: NDArray[np.int16], spacing_mm: tuple[float, float]) -> NDArray[np.float32]:
    """Return how much stronger the finest noise is, against its grain, than the same tissue usually has it.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Natural logarithm of the ratio, 0 where the noise is as usual; not a number away from the lungs.
    """
    shown = np.full(hu.shape, np.nan, np.float32)
    lungs = lung_mask(hu, spacing_mm)
    if not lungs.any():
        return shown
    image, lungs, grid = _crop(hu, lungs, spacing_mm)
    bands = log_bands(image)
    white = bands[:1] - bands[BANDS.index("dog1.2")]
    near = _near(_cells(lungs[None].astype(np.float32), grid)[0] > 0.5, grid, _BORDER_MM)
    total, support = np.zeros((2, *near.shape), np.float32)
    for tissue in _tissues(image, lungs):
        weight = _cells(tissue[None], grid)[0]
        strength, local = _strengths(_cells(white * tissue, grid), weight, grid, _MAP_WINDOW_MM, 0.02)
        middle, _ = _usual(strength, local > 0.5)
        total += local * (strength - middle[:, None, None])[0]
        support += local
    ratio = np.where(near & (support > 0.1), total / np.maximum(support, 0.1), np.nan)
    large = ratio.repeat(grid.step[0], axis=0).repeat(grid.step[1], axis=1)
    top, left = (grid.origin[axis] * grid.step[axis] * grid.every[axis] for axis in (0, 1))
    shown[top : top + large.shape[0], left : left + large.shape[1]] = large
    return shown


def log_bands(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of each band's magnitude, shape (bands, rows, columns), in the order of `BANDS`."""
    horizontal = ndimage.correlate1d(image, [1.0, -2.0, 1.0], axis=1)
    vertical = ndimage.correlate1d(image, [1.0, -2.0, 1.0], axis=0)
    diagonal = image - np.roll(image, 1, 0)
    blurred = [ndimage.gaussian_filter(image, sigma, truncate=3.0) for sigma in (0.8, 1.2, 2.0, 3.0, 4.8)]
    bands = [
        ndimage.correlate1d(horizontal, [1.0, -2.0, 1.0], axis=0),
        diagonal - np.roll(diagonal, 1, 1),
        horizontal,
        vertical,
        image - ndimage.uniform_filter(image, 3),
        blurred[0] - blurred[1],
        blurred[1] - blurred[2],
        blurred[2] - blurred[3],
        blurred[3] - blurred[4],
    ]
    logarithms: NDArray[np.float32] = np.log(np.abs(np.stack(bands)) + np.float32(_QUANTUM))
    return logarithms


def lung_feature_names() -> tuple[str, ...]:
    """Return the names of the lung sites' features, in order."""
    return (*_names("lung", BANDS, LUNG_WINDOWS_MM), "density", "density ring", "lung fraction", "lung fraction ring")


def dense_feature_names() -> tuple[str, ...]:
    """Return the names of the dense sites' features, in order."""
    return (*_names("dense", BANDS[:_DENSE_BANDS], DENSE_WINDOWS_MM), "dense fraction", "dense fraction wide")


def _names(tissue: str, bands: tuple[str, ...], windows: tuple[float, ...]) -> tuple[str, ...]:
    strengths = [f"{tissue} {band} {window:g} mm" for window in windows for band in bands]
    ring = [f"{tissue} {band} against ring" for band in bands]
    deviations = [f"{tissue} {band} z" for band in bands]
    whiteness = [f"{tissue} whiteness {window:g} mm" for window in windows]
    return (*strengths, *ring, *deviations, *whiteness, f"{tissue} whiteness z")


def _crop(
    hu: NDArray[np.int16], lungs: NDArray[np.bool_], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], _Grid]:
    step, every = _cell_pixels(spacing_mm), _cells_a_site(spacing_mm)
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
    return image, lungs[box], _Grid(step, spacing, origin, every)


def _cell_pixels(spacing_mm: tuple[float, float]) -> tuple[int, int]:
    rows, columns = (max(1, round(_CELL_MM / spacing)) for spacing in spacing_mm)
    return rows, columns


def _cells_a_site(spacing_mm: tuple[float, float]) -> tuple[int, int]:
    cell = _cell_pixels(spacing_mm)
    rows, columns = (max(1, round(SITE_STEP_MM / (c * s))) for c, s in zip(cell, spacing_mm, strict=True))
    return rows, columns


def _tissues(image: NDArray[np.float32], lungs: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    smooth = ndimage.gaussian_filter(image, 1.2, truncate=3.0)
    parenchyma = lungs & (ndimage.maximum_filter(smooth, 3) < _LUNG_BELOW_HU)
    low = ndimage.minimum_filter(smooth, 3) > _DENSE_RANGE_HU[0]
    dense = low & (ndimage.maximum_filter(smooth, 3) < _DENSE_RANGE_HU[1])
    return parenchyma.astype(np.float32), dense.astype(np.float32)


def _cells(channels: NDArray[np.float32], grid: _Grid) -> NDArray[np.float32]:
    """Average (channels, rows, columns) over the cells of the grid."""
    rows, columns = grid.step
    # sums of strided views take a third of the time of a mean over split axes
    across = reduce(np.add, [channels[:, :, first::columns] for first in range(columns)])
    both = reduce(np.add, [across[:, first::rows] for first in range(rows)])
    return np.asarray(both / np.float32(rows * columns), np.float32)


def _near(mask: NDArray[np.bool_], grid: _Grid, distance_mm: float) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~mask, sampling=grid.spacing) <= distance_mm
    return near


def _smooth(cells: NDArray[np.float32], grid: _Grid, size_mm: float) -> NDArray[np.float32]:
    """Average over a window that falls off towards its sides (two boxes, one after the other)."""
    size = grid.windows(size_mm)
    twice = ndimage.uniform_filter(ndimage.uniform_filter(cells, size, mode="constant"), size, mode="constant")
    return np.asarray(twice, np.float32)


def _strengths(
    cells: NDArray[np.float32], weight: NDArray[np.float32], grid: _Grid, size_mm: float, least: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weighted local mean of each channel and the local weight."""
    local = _smooth(weight[None], grid, size_mm)[0]
    return _smooth(cells, grid, size_mm) / np.maximum(local, least), local


def _relative(
    bands: NDArray[np.float32],
    tissue: NDArray[np.float32],
    reference: NDArray[np.bool_],
    grid: _Grid,
    windows: tuple[float, ...],
    least: float,
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Return strengths in every window, against the ring, as z, and whiteness; and the narrow window's weight."""
    weight = _cells(tissue[None], grid)[0]
    cells = _cells(bands * tissue, grid)
    ring, _ = _strengths(cells, weight, grid, _RING_MM, 0.02)
    strengths, locals_ = zip(*(_strengths(cells, weight, grid, size, 0.02) for size in windows), strict=True)
    usual = reference & (locals_[1] > least)
    if usual.sum() < 20:
        usual = locals_[1] > 0.5 * least
    middles, spreads = _usual(strengths[1], usual)
    relative = [strength - middles[:, None, None] for strength in strengths]
    deviation = relative[1] / spreads[:, None, None]
    corner, middle = 0, BANDS.index("dog1.2")
    white = [one[corner] - one[middle] for one in relative]
    white_usual = white[1][usual]
    white_spread = 1.4826 * np.median(np.abs(white_usual - np.median(white_usual))) + 0.02 if white_usual.size else 1.0
    parts = [*relative, strengths[1] - ring, deviation, np.stack(white), (white[1] / white_spread)[None]]
    return parts, locals_[0]


def _usual(strength: NDArray[np.float32], where: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the median and the robust standard deviation of each channel."""
    values = strength[:, where]
    if not values.size:
        return np.zeros(len(strength), np.float32), np.ones(len(strength), np.float32)
    middle = np.median(values, axis=1)
    spread = 1.4826 * np.median(np.abs(values - middle[:, None]), axis=1)
    return middle.astype(np.float32), (spread + 0.02).astype(np.float32)


def _lung_sites(
    image: NDArray[np.float32],
    bands: NDArray[np.float32],
    tissue: NDArray[np.float32],
    inside: NDArray[np.bool_],
    grid: _Grid,
) -> Sites:
    parts, _ = _relative(bands, tissue, inside, grid, LUNG_WINDOWS_MM, _LEAST_LUNG)
    weight = _cells(tissue[None], grid)[0]
    mass = _cells((image * tissue)[None], grid)
    density, local = _strengths(mass, weight, grid, LUNG_WINDOWS_MM[1], 0.02)
    ring, ring_local = _strengths(mass, weight, grid, _RING_MM, 0.02)
    middle, spread = _usual(density, inside & (local > _LEAST_LUNG))
    parts += [(density - middle) / (spread + 5.0), (density - ring) / (spread + 5.0), local[None], ring_local[None]]
    return _sample(parts, inside & (local > _LEAST_LUNG), grid)


def _dense_sites(
    bands: NDArray[np.float32], tissue: NDArray[np.float32], near: NDArray[np.bool_], grid: _Grid
) -> Sites:
    weight = _cells(tissue[None], grid)[0]
    parts, narrow = _relative(bands, tissue, weight > 0.5, grid, DENSE_WINDOWS_MM, _LEAST_DENSE)
    wide = _smooth(weight[None], grid, DENSE_WINDOWS_MM[2])
    return _sample([*parts, narrow[None], wide], near & (narrow > _LEAST_DENSE), grid)


def _sample(parts: list[NDArray[np.float32]], where: NDArray[np.bool_], grid: _Grid) -> Sites:
    """Take the features at every site of the raster that lies in `where`."""
    every = grid.every
    rows, columns = np.nonzero(where[:: every[0], :: every[1]])
    features = np.concatenate([part[:, :: every[0], :: every[1]][:, rows, columns] for part in parts]).T
    return Sites(columns + grid.origin[1], rows + grid.origin[0], np.ascontiguousarray(features, np.float32))
