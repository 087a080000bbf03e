"""Masks that grow by a disc, lose their holes, or keep some of their pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grown(mask: NDArray[np.bool_], spacing: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    """Return what is no further than `radius` from the mask, as a distance transform would tell in ten times the time.

    Parameters
    ----------
    mask : ndarray of bool, shape (rows, columns)
    spacing : tuple of float
        Distance between neighbouring places along (rows, columns).
    radius : float
        In the units of `spacing`.
    """
    away = _columns_away(mask, int(radius / spacing[1]) + 1)
    reached: NDArray[np.bool_] = np.zeros(mask.shape, bool)
    for down in range(min(int(radius / spacing[0]) + 1, len(mask))):
        near = away <= _half_width(down * spacing[0], spacing[1], radius)
        reached[down:] |= near[: len(mask) - down]
        reached[: len(mask) - down] |= near[down:]
    return reached


def without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill whatever does not reach the border."""
    return mask | chosen(*holes(mask))


def holes(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return labels of what is not in the mask, and for each number from 0 on whether it is a hole in the mask."""
    labels, count = ndimage.label(~mask)
    inner = np.ones(count + 1, bool)
    inner[0] = False
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        inner[edge] = False
    return labels, inner


def chosen(labels: NDArray[np.intp], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the label is one of those wanted, a bool for each number from 0 on."""
    picked: NDArray[np.bool_] = wanted[labels]
    return picked


def _columns_away(mask: NDArray[np.bool_], most: int) -> NDArray[np.int16]:
    """Return how many columns away the nearest place of the mask is in the same row, `most` or more if it is far."""
    columns = np.arange(mask.shape[1], dtype=np.int32)
    far = np.int32(mask.shape[1] + most)
    before = np.maximum.accumulate(np.where(mask, columns, -far), axis=1)
    after = np.minimum.accumulate(np.where(mask, columns, 2 * far)[:, ::-1], axis=1)[:, ::-1]
    away = np.minimum(columns - before, after - columns)
    return np.minimum(away, most + 1).astype(np.int16)


def _half_width(down: float, spacing: float, radius: float) -> int:
    """Return how many columns a disc reaches to each side, this far down from its middle; -1 if not even there."""
    across = np.arange(int(radius / spacing) + 2) * spacing
    return int((np.sqrt(down**2 + across**2) <= radius).sum()) - 1
