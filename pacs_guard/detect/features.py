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
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.cells import (
    Grid,
    cell_means,
    cell_pixels,
    cells_a_site,
    crop,
    local_means,
    share_within,
    usual_of,
    within,
)
from pacs_guard.detect.lungs import lung_mask
from pacs_guard.detect.moments import moment_names, relative_moments, textures
from pacs_guard.detect.texture import BANDS, filtered, log_strength, relative_strengths, strength_names, tissues

if TYPE_CHECKING:
    from numpy.typing import NDArray

LUNG_WINDOWS_MM = (8.0, 16.0, 28.0)
DENSE_WINDOWS_MM = (6.0, 10.0, 20.0)
LUNG_MOMENTS_MM = (10.0, 20.0)
DENSE_MOMENTS_MM = (7.0, 12.0)

_DENSE_BANDS = 7
_RING_MM = 48.0
_MAP_WINDOW_MM = 7.0
_BORDER_MM = 8.0
_LEAST_LUNG = 0.2
_LEAST_DENSE = 0.12
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
        cell, every = cell_pixels(spacing_mm), cells_a_site(spacing_mm)
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


def measure_slice(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float], lungs: NDArray[np.bool_] | None = None
) -> SliceMeasurements | None:
    """Measure the texture at sites all over the lungs of one slice.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units; padding is anything at or below -1024.
    spacing_mm : tuple of float
        Distance between neighbouring pixels along (rows, columns), mm.
    lungs : ndarray of bool, shape (rows, columns), optional
        Where to look, for parts of slices; the lungs of the slice if not given.

    Returns
    -------
    SliceMeasurements or None
        None if the slice shows less than 4 cm2 of lung.
    """
    if lungs is None:
        lungs = lung_mask(hu, spacing_mm)
    if lungs.sum() * spacing_mm[0] * spacing_mm[1] < 100.0 * _LEAST_LUNG_CM2:
        return None
    image, lungs, grid = crop(hu, lungs, spacing_mm)
    bands = filtered(image)
    parenchyma, dense = tissues(image, lungs)
    inside = cell_means(lungs[None].astype(np.float32), grid)[0] > 0.5
    near = within(inside, grid, _BORDER_MM)
    seen, logarithms = textures(bands), log_strength(bands)
    lung = _lung(image, logarithms, parenchyma, inside, grid)
    soft = _dense(logarithms[:_DENSE_BANDS], dense, grid)
    lung_moments = relative_moments(seen, parenchyma, inside, grid, LUNG_MOMENTS_MM, _LEAST_LUNG)
    dense_moments = relative_moments(seen, dense, soft.weight > 0.5, grid, DENSE_MOMENTS_MM, _LEAST_DENSE)
    return SliceMeasurements(
        lung=_sample(
            [lung.strengths, lung.shape, lung_moments],
            inside & (lung.local > _LEAST_LUNG),
            grid,
        ),
        dense=_sample(
            [soft.strengths, soft.shape, dense_moments],
            near & (soft.local > _LEAST_DENSE),
            grid,
        ),
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
    image, lungs, grid = crop(hu, lungs, spacing_mm)
    bands = log_strength(filtered(image))
    white = bands[:1] - bands[BANDS.index("dog1.2")]
    near = within(cell_means(lungs[None].astype(np.float32), grid)[0] > 0.5, grid, _BORDER_MM)
    total, support = np.zeros((2, *near.shape), np.float32)
    for tissue in tissues(image, lungs):
        weight = cell_means(tissue[None], grid)[0]
        strength, local = local_means(cell_means(white, grid, tissue), weight, grid, _MAP_WINDOW_MM, 0.02)
        middle, _ = usual_of(strength, local > 0.5)
        total += local * (strength - middle[:, None, None])[0]
        support += local
    ratio = np.where(near & (support > 0.1), total / np.maximum(support, 0.1), np.nan)
    large = ratio.repeat(grid.step[0], axis=0).repeat(grid.step[1], axis=1)
    top, left = (grid.origin[axis] * grid.step[axis] * grid.every[axis] for axis in (0, 1))
    shown[top : top + large.shape[0], left : left + large.shape[1]] = large
    return shown


def lung_feature_names() -> tuple[str, ...]:
    """Return the names of the lung sites' features, in order."""
    return (
        *strength_names("lung", BANDS, LUNG_WINDOWS_MM),
        *("density", "density ring", "lung fraction", "lung fraction ring"),
        *moment_names("lung", LUNG_MOMENTS_MM),
    )


def dense_feature_names() -> tuple[str, ...]:
    """Return the names of the dense sites' features, in order."""
    return (
        *strength_names("dense", BANDS[:_DENSE_BANDS], DENSE_WINDOWS_MM),
        *("dense fraction", "dense fraction wide"),
        *moment_names("dense", DENSE_MOMENTS_MM),
    )


@dataclass(frozen=True, slots=True)
class _Tissue:
    """What was measured of one tissue, for every cell.

    `weight` and `local` are its share in the cell, and in the window that decides on a site.
    """

    strengths: NDArray[np.float32]
    shape: NDArray[np.float32]
    weight: NDArray[np.float32]
    local: NDArray[np.float32]


def _lung(
    image: NDArray[np.float32],
    logarithms: NDArray[np.float32],
    tissue: NDArray[np.float32],
    inside: NDArray[np.bool_],
    grid: Grid,
) -> _Tissue:
    strengths, _ = relative_strengths(logarithms, tissue, inside, grid, LUNG_WINDOWS_MM, _LEAST_LUNG)
    weight = cell_means(tissue[None], grid)[0]
    mass = cell_means(image[None], grid, tissue)
    density, local = local_means(mass, weight, grid, LUNG_WINDOWS_MM[1], 0.02)
    ring, ring_local = local_means(mass, weight, grid, _RING_MM, 0.02)
    middle, spread = usual_of(density, inside & (local > _LEAST_LUNG))
    shape = [(density - middle) / (spread + 5.0), (density - ring) / (spread + 5.0), local[None], ring_local[None]]
    return _Tissue(strengths, np.concatenate(shape), weight, local)


def _dense(logarithms: NDArray[np.float32], tissue: NDArray[np.float32], grid: Grid) -> _Tissue:
    weight = cell_means(tissue[None], grid)[0]
    strengths, narrow = relative_strengths(logarithms, tissue, weight > 0.5, grid, DENSE_WINDOWS_MM, _LEAST_DENSE)
    wide = share_within(weight, grid, DENSE_WINDOWS_MM[2])
    return _Tissue(strengths, np.stack([narrow, wide]), weight, narrow)


def _sample(parts: list[NDArray[np.float32]], where: NDArray[np.bool_], grid: Grid) -> Sites:
    """Take the features at every site of the raster that lies in `where`."""
    every = grid.every
    rows, columns = np.nonzero(where[:: every[0], :: every[1]])
    features = np.concatenate([part[:, :: every[0], :: every[1]][:, rows, columns] for part in parts]).T
    return Sites(columns + grid.origin[1], rows + grid.origin[0], np.ascontiguousarray(features, np.float32))
