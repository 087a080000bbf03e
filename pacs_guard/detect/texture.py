"""Band-pass filters, and how strong each is around every cell of a tissue, against that tissue's usual value."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.cells import cell_means, local_means, usual_of
from pacs_guard.detect.separable import box, filtered_both, gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.detect.cells import Grid

BANDS = ("corner", "diagonal", "horizontal", "vertical", "fine", "dog0.8", "dog1.2", "dog2.0", "dog3.0")
"""Filters, from the finest texture to the coarsest; the number is the inner Gaussian's sigma in pixels."""

_RING_MM = 48.0
_LUNG_BELOW_HU = -650.0
_DENSE_RANGE_HU = (-150.0, 250.0)
_QUANTUM = np.float32(0.5)
_SIGMAS = (0.8, 1.2, 2.0, 3.0, 4.8)


def filtered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each band of a slice, shape (bands, rows, columns), in the order of `BANDS`."""
    rows, columns = image.shape
    bands = np.empty((len(BANDS), rows, columns), np.float32)
    horizontal, diagonal = _second_difference(image, 1), image - np.roll(image, 1, 0)
    bands[0] = _second_difference(horizontal, 0)
    bands[1] = diagonal - np.roll(diagonal, 1, 1)
    bands[2] = horizontal
    bands[3] = _second_difference(image, 0)
    bands[4] = image - filtered_both(image, box(rows, 3), box(columns, 3))
    # the rest are small differences of large values
    precise = image.astype(np.float64)
    bounds = [
        filtered_both(precise, gaussian(rows, sigma, np.float64), gaussian(columns, sigma, np.float64))
        for sigma in _SIGMAS
    ]
    for number, (fine, coarse) in enumerate(pairwise(bounds), start=5):
        np.subtract(fine, coarse, out=bands[number], casting="same_kind")
    return bands


def log_strength(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of the bands' magnitude."""
    logarithms = np.empty_like(bands)
    for number, band in enumerate(bands):
        logarithms[number] = np.log(np.abs(band) + _QUANTUM)
    return logarithms


def tissues(image: NDArray[np.float32], lungs: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where there is lung tissue without vessels, and where there is soft tissue; 1 or 0 for each pixel."""
    # not by a product: rounded in another way, pixels at a limit would change sides
    smooth = ndimage.gaussian_filter(image, 1.2, truncate=3.0)
    highest, lowest = (_of_neighbours(smooth, most) for most in (np.maximum, np.minimum))
    parenchyma = lungs & (highest < _LUNG_BELOW_HU)
    dense = (lowest > _DENSE_RANGE_HU[0]) & (highest < _DENSE_RANGE_HU[1])
    return parenchyma.astype(np.float32), dense.astype(np.float32)


def _second_difference(image: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return how much each pixel differs from both neighbours along an axis, the image reflected at its border."""
    steps = np.diff(image, axis=axis)
    start, end = ([(0, 0)] * image.ndim for _ in range(2))
    start[axis], end[axis] = (1, 0), (0, 1)
    return np.asarray(np.pad(steps, end) - np.pad(steps, start), np.float32)


def _of_neighbours(image: NDArray[np.float32], most: np.ufunc) -> NDArray[np.float32]:
    """Return the highest or lowest of each pixel and its eight neighbours."""
    down = image.copy()
    most(down[1:], image[:-1], out=down[1:])
    most(down[:-1], image[1:], out=down[:-1])
    around = down.copy()
    most(around[:, 1:], down[:, :-1], out=around[:, 1:])
    most(around[:, :-1], down[:, 1:], out=around[:, :-1])
    return around


def strength_names(tissue: str, bands: tuple[str, ...], windows: tuple[float, ...]) -> tuple[str, ...]:
    """Return the names of what `relative_strengths` measures, in order."""
    strengths = [f"{tissue} {band} {window:g} mm" for window in windows for band in bands]
    ring = [f"{tissue} {band} against ring" for band in bands]
    deviations = [f"{tissue} {band} z" for band in bands]
    whiteness = [f"{tissue} whiteness {window:g} mm" for window in windows]
    return (*strengths, *ring, *deviations, *whiteness, f"{tissue} whiteness z")


def relative_strengths(
    logarithms: NDArray[np.float32],
    tissue: NDArray[np.float32],
    reference: NDArray[np.bool_],
    grid: Grid,
    windows: tuple[float, ...],
    least: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure a tissue's bands around every cell, against the tissue's usual value on the slice.

    Parameters
    ----------
    logarithms : ndarray of float32, shape (bands, rows, columns)
        From `log_strength`.
    tissue : ndarray of float32, shape (rows, columns)
        Which pixels count.
    reference : ndarray of bool, shape (cells, cells)
        Where the usual value is taken.
    grid : Grid
    windows : tuple of float
        Sizes in mm.
    least : float
        Share of the tissue in the middle window from which on a cell is part of the reference.

    Returns
    -------
    measured : ndarray of float32, shape (features, cells, cells)
        In every window, against the ring, as z, and whiteness; named by `strength_names`.
    weight : ndarray of float32, shape (cells, cells)
        Share of the tissue in the narrow window.
    """
    weight = cell_means(tissue[None], grid)[0]
    means = cell_means(logarithms, grid, tissue)
    ring, _ = local_means(means, weight, grid, _RING_MM, 0.02)
    strengths, shares = zip(*(local_means(means, weight, grid, size, 0.02) for size in windows), strict=True)
    usual = reference & (shares[1] > least)
    if usual.sum() < 20:
        usual = shares[1] > 0.5 * least
    middles, spreads = usual_of(strengths[1], usual)
    relative = [strength - middles[:, None, None] for strength in strengths]
    deviation = relative[1] / spreads[:, None, None]
    corner, middle = 0, BANDS.index("dog1.2")
    white = np.stack([one[corner] - one[middle] for one in relative])
    _, white_spread = usual_of(white[1:2], usual)
    parts = [*relative, strengths[1] - ring, deviation, white, white[1:2] / white_spread[:, None, None]]
    return np.concatenate(parts), shares[0]
