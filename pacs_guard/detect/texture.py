"""Band-pass filters, and how strong each is around every cell of a tissue, against that tissue's usual value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.cells import cell_means, local_means, usual_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.detect.cells import Grid

BANDS = ("corner", "diagonal", "horizontal", "vertical", "fine", "dog0.8", "dog1.2", "dog2.0", "dog3.0")
"""Filters, from the finest texture to the coarsest; the number is the inner Gaussian's sigma in pixels."""

_RING_MM = 48.0
_LUNG_BELOW_HU = -650.0
_DENSE_RANGE_HU = (-150.0, 250.0)
_QUANTUM = np.float32(0.5)


def filtered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each band of a slice, shape (bands, rows, columns), in the order of `BANDS`."""
    horizontal = ndimage.correlate1d(image, [1.0, -2.0, 1.0], axis=1)
    vertical = ndimage.correlate1d(image, [1.0, -2.0, 1.0], axis=0)
    diagonal = image - np.roll(image, 1, 0)
    blurred = [ndimage.gaussian_filter(image, sigma, truncate=3.0) for sigma in (0.8, 1.2, 2.0, 3.0, 4.8)]
    return np.stack(
        [
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
    )


def log_strength(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logarithm of the bands' magnitude."""
    logarithms: NDArray[np.float32] = np.log(np.abs(bands) + _QUANTUM)
    return logarithms


def tissues(image: NDArray[np.float32], lungs: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where there is lung tissue without vessels, and where there is soft tissue; 1 or 0 for each pixel."""
    smooth = ndimage.gaussian_filter(image, 1.2, truncate=3.0)
    parenchyma = lungs & (ndimage.maximum_filter(smooth, 3) < _LUNG_BELOW_HU)
    low = ndimage.minimum_filter(smooth, 3) > _DENSE_RANGE_HU[0]
    dense = low & (ndimage.maximum_filter(smooth, 3) < _DENSE_RANGE_HU[1])
    return parenchyma.astype(np.float32), dense.astype(np.float32)


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
    means = cell_means(logarithms * tissue, grid)
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
