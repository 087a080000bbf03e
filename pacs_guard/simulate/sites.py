"""Where in the lungs a nodule could be put or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume

_COARSE_MM = 2.5
_MARGIN_MM = 20.0
_CUBE_MM = 32.0  # what an alteration replaces


def suggest_site(volume: Volume, kind: Literal["FB", "FM"], seed: int = 0) -> tuple[int, int, int]:
    """Suggest a voxel inside the lungs, well away from the chest wall.

    Parameters
    ----------
    volume : Volume
        Chest CT.
    kind : {"FB", "FM"}
        "FB": the densest small structure, to be removed; "FM": a place free of thick vessels, for an injection.
    seed : int
        Chooses among the suitable places of an injection.

    Returns
    -------
    tuple of int
        Slice, row, column.

    Raises
    ------
    ValueError
        If the volume shows no lung that is wide enough.
    """
    step = [max(1, round(_COARSE_MM / spacing)) for spacing in volume.spacing_mm]
    coarse = ndimage.uniform_filter(volume.hu, [1, step[1], step[2]], output=np.float32)
    coarse = coarse[:: step[0], :: step[1], :: step[2]]
    spacing = [s * n for s, n in zip(volume.spacing_mm, step, strict=True)]
    depth = ndimage.distance_transform_edt(_lungs(coarse, spacing), sampling=spacing)
    if depth.max() < _MARGIN_MM / 2:
        raise ValueError("the volume shows no lung that is wide enough for a nodule")
    suitable = (depth >= min(_MARGIN_MM, 0.75 * float(depth.max()))) & _whole_cube(coarse.shape[0], spacing[0])
    if not suitable.any():
        raise ValueError("the volume is too short for a place that is altered as a whole")
    density = ndimage.gaussian_filter(coarse, [3.0 / s for s in spacing])
    if kind == "FB":
        index = int(np.argmax(np.where(suitable, density, -np.inf)))
    else:
        open_lung = np.flatnonzero(suitable & (density <= np.median(density[suitable])))
        index = int(np.random.default_rng(seed).choice(open_lung))
    z, y, x = (
        min(int(i) * n, size - 1)
        for i, n, size in zip(np.unravel_index(index, coarse.shape), step, volume.hu.shape, strict=True)
    )
    return z, y, x


def _whole_cube(slices: int, spacing_mm: float) -> NDArray[np.bool_]:
    """Return which slices lie far enough from both ends for a whole altered cube, or the middle one of a few."""
    heights = np.arange(slices) * spacing_mm
    inside = np.minimum(heights, heights[-1] - heights) >= _CUBE_MM / 2
    if not inside.any():
        inside[slices // 2] = True
    column: NDArray[np.bool_] = inside[:, np.newaxis, np.newaxis]
    return column


def _lungs(coarse: NDArray[np.float32], spacing: list[float]) -> NDArray[np.bool_]:
    """Return air-like voxels that no slice connects to its border, with vessels and nodules closed over."""
    air = coarse < -500
    lungs = np.zeros_like(air)
    size = max(1, round(8.0 / spacing[1]))
    for i, plane in enumerate(air):
        labels, _ = ndimage.label(plane)
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        inner = plane & ~np.isin(labels, border)
        lungs[i] = ndimage.binary_closing(inner, np.ones((size, size), bool)) if inner.any() else inner
    return lungs
