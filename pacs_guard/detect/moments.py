"""More of a texture than its mean strength: energy, tails, asymmetry and how neighbouring pixels go together.

An injection keeps the brighter of old and new at every pixel, which makes its noise lopsided; generated and touched-up
pixels mix two kinds of noise, which changes the tails; resampling binds neighbours together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.cells import cell_mean, cell_means, local_means, median, usual_of
from pacs_guard.detect.texture import BANDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.detect.cells import Grid

TEXTURES = ("corner", "laplacian", "dog0.8", "dog1.2")
LAGS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 1))
"""Distances (rows, columns) at which the laplacian is compared with itself, pixels."""

_LIMIT = 4.0
_LAPLACIAN = TEXTURES.index("laplacian")
_LEAST_POWER = np.float32(0.05)


def textures(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the textures that are looked at, shape (textures, rows, columns), from the bands of a slice."""
    of = {name: bands[number] for number, name in enumerate(BANDS)}
    return np.stack([of["corner"], of["horizontal"] + of["vertical"], of["dog0.8"], of["dog1.2"]])


def moment_names(tissue: str, windows: tuple[float, ...]) -> tuple[str, ...]:
    """Return the names of what `relative_moments` measures, in order."""
    names: list[str] = []
    for window in windows:
        names += [f"{tissue} {texture} energy {window:g} mm" for texture in TEXTURES]
        names += [f"{tissue} {texture} energy z {window:g} mm" for texture in TEXTURES]
        names += [f"{tissue} {texture} asymmetry {window:g} mm" for texture in TEXTURES]
        names += [f"{tissue} correlation {down} {across} {window:g} mm" for down, across in LAGS]
        names += [f"{tissue} {texture} tails {window:g} mm" for texture in TEXTURES]
    return tuple(names)


def relative_moments(
    seen: NDArray[np.float32],
    tissue: NDArray[np.float32],
    reference: NDArray[np.bool_],
    grid: Grid,
    windows: tuple[float, ...],
    least: float,
) -> NDArray[np.float32]:
    """Measure a tissue's textures around every cell, against the tissue's usual value on the slice.

    Parameters
    ----------
    seen : ndarray of float32, shape (textures, rows, columns)
        From `textures`.
    tissue, reference, grid, windows, least
        As for `relative_strengths`.

    Returns
    -------
    ndarray of float32, shape (features, cells, cells)
        Named by `moment_names`.
    """
    weight = cell_means(tissue[None], grid)[0]
    means = _cells_of(seen, tissue, grid)
    parts: list[NDArray[np.float32]] = []
    for window in windows:
        local, share = local_means(means, weight, grid, window, 0.02)
        parts += _measured(local, reference & (share > least))
    return np.concatenate(parts)


def _cells_of(seen: NDArray[np.float32], tissue: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Average squares, signed roots and roots of each texture, and products with its neighbours, over the cells."""
    count, inside = len(TEXTURES), np.flatnonzero(tissue)
    cells: list[NDArray[np.float32] | None] = [None] * (3 * count + len(LAGS))
    # one after the other, so that what is between stays in the processor's cache
    for number, texture in enumerate(seen):
        limited = _limited(texture, inside)
        masked = limited * tissue
        roots = np.sqrt(np.abs(masked))
        cells[number] = cell_mean(masked * masked, grid)
        cells[count + number] = cell_mean(np.copysign(roots, masked), grid)
        cells[2 * count + number] = cell_mean(roots, grid)
        if number == _LAPLACIAN:
            for which, lag in enumerate(LAGS, start=3 * count):
                cells[which] = cell_mean(masked * np.roll(limited, lag, axis=(0, 1)), grid)
    return np.stack([one for one in cells if one is not None])


def _limited(texture: NDArray[np.float32], inside: NDArray[np.intp]) -> NDArray[np.float32]:
    """Clip a texture at some robust standard deviations, so that an edge counts no more than strong noise."""
    if not inside.size:
        return texture
    middle = median(np.abs(texture.ravel()[inside]))
    limit = np.float32(_LIMIT * (1.4826 * middle + 1e-3))
    return np.clip(texture, -limit, limit)


def _measured(local: NDArray[np.float32], usual: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    count = len(TEXTURES)
    squares, signed, roots, products = (
        local[:count],
        local[count : 2 * count],
        local[2 * count : 3 * count],
        local[3 * count :],
    )
    energy = 0.5 * np.log(squares + _LEAST_POWER)
    middle, spread = usual_of(energy, usual)
    relative = energy - middle[:, None, None]
    asymmetry = signed / (roots + np.float32(1e-3))
    correlation = products / (squares[_LAPLACIAN] + _LEAST_POWER)
    tails = energy - np.log(roots * roots + _LEAST_POWER)
    others = [one - usual_of(one, usual)[0][:, None, None] for one in (asymmetry, correlation, tails)]
    return [relative, relative / spread[:, None, None], *others]
