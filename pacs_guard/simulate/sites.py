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
    suitable = depth >= min(_MARGIN_MM, 0.75 * float(depth.max()))
    if depth.max() < _MARGIN_MM / 2:
        raise ValueError("the volume shows no lung that is wide enough for a nodule")
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
