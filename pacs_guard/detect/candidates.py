"""Places worth looking at: a grid over the lungs and their borders, and what looks like a nodule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.lungs import lung_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

GRID_MM = 16.0
"""Half the edge of CT-GAN's cube: no place of the lungs is further than 12 mm from a point of such a grid."""

GRID_MOST = 128
BLOBS_MOST = 16
SLICE_STEP_MM = 5.0
"""A removal of 20 mm along the series shows on at least three slices of those that the grid is laid over."""

_BORDER_MM = 5.0
_CLOSING_MM = 15.0
_RADII_MM = (2.5, 4.0, 6.5, 10.0)
_RATIO = 1.6
_LEAST_CONTRAST_HU = 60.0
_WORKING_MM = 1.4
_SAME_MM = 5.0


@dataclass(frozen=True, slots=True)
class Blob:
    """Something round and denser than what is around it.

    Attributes
    ----------
    x, y : float
        Column and row.
    radius_mm : float
        Of the scale that it stands out most at.
    contrast : float
        How much it stands out, HU.
    """

    x: float
    y: float
    radius_mm: float
    contrast: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place to look at: number of the slice in its volume, column, row."""

    index: int
    x: int
    y: int


def lung_grid(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float], step_mm: float = GRID_MM, most: int = GRID_MOST
) -> NDArray[np.intp]:
    """Return the points of a square grid that lie in the lungs or within 5 mm of them.

    Parameters
    ----------
    mask : ndarray of bool, shape (rows, columns)
        The lungs.
    spacing_mm : tuple of float
        Distance between neighbouring pixels along (rows, columns), mm.
    step_mm : float
        Between neighbouring points; made wider until there are at most `most` points.
    most : int

    Returns
    -------
    ndarray of int, shape (points, 2)
        Column and row.
    """
    if not mask.any():
        return np.empty((0, 2), np.intp)
    near = _searched(mask, spacing_mm)
    sides = [np.flatnonzero(near.any(axis=axis)) for axis in (1, 0)]
    while True:
        y, x = (
            np.arange(found[0], found[-1] + 1, max(1, round(step_mm / spacing)))
            for found, spacing in zip(sides, spacing_mm, strict=True)
        )
        rows, columns = (one.ravel() for one in np.meshgrid(y, x, indexing="ij"))
        inside = near[rows, columns]
        if inside.sum() <= most:
            return np.stack([columns[inside], rows[inside]], axis=1)
        step_mm *= 1.1


def find_blobs(
    hu: NDArray[np.int16], mask: NDArray[np.bool_], spacing_mm: tuple[float, float], most: int = BLOBS_MOST
) -> list[Blob]:
    """Return what looks like a nodule in or on the lungs of a slice, the most prominent first.

    Differences of Gaussians at radii of 2.5 to 10 mm (Lowe 2004, section 3), each of its local maxima in place and
    scale; worked out on a grid of about 1.4 mm.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
    mask : ndarray of bool, shape (rows, columns)
        The lungs.
    spacing_mm : tuple of float
        Along (rows, columns), mm.
    most : int
        How many are returned at most.
    """
    if not mask.any():
        return []
    steps = [max(1, round(_WORKING_MM / spacing)) for spacing in spacing_mm]
    spacing = [step * own for step, own in zip(steps, spacing_mm, strict=True)]
    coarse = _reduced(np.clip(hu, -1000, 200).astype(np.float32), steps)
    inside = _searched(_reduced(mask.astype(np.float32), steps) > 0, spacing)
    scales = np.stack([_stands_out(coarse, radius, spacing) for radius in _RADII_MM])
    size = [3, *(1 + 2 * round(_SAME_MM / 2 / one) for one in spacing)]
    peak = (scales == ndimage.maximum_filter(scales, size=size)) & (scales >= _LEAST_CONTRAST_HU) & inside
    at = np.argwhere(peak)
    order = np.argsort(-scales[peak], kind="stable")[:most]
    return [
        Blob(
            x=float((column + 0.5) * steps[1] - 0.5),
            y=float((row + 0.5) * steps[0] - 0.5),
            radius_mm=_RADII_MM[scale],
            contrast=float(scales[scale, row, column]),
        )
        for scale, row, column in at[order]
    ]


def merge_blobs(slices: Sequence[Sequence[Blob]], spacing_mm: tuple[float, float, float]) -> list[tuple[int, Blob]]:
    """Return blobs of a series, each once: on neighbouring slices those that lie over one another are one.

    Parameters
    ----------
    slices : sequence of sequence of Blob
        Of every slice in order.
    spacing_mm : tuple of float
        Along (slices, rows, columns), mm.

    Returns
    -------
    list of (int, Blob)
        Number of the slice on which it stands out most, and how it does there.
    """
    found: list[tuple[int, Blob]] = []
    open_: list[tuple[Blob, int, Blob]] = []  # last seen as, most prominent on slice, as
    for index, blobs in enumerate(slices):
        going: list[tuple[Blob, int, Blob]] = []
        for blob in blobs:
            over = next((one for one in open_ if _apart_mm(one[0], blob, spacing_mm) <= _SAME_MM), None)
            if over is None:
                going.append((blob, index, blob))
            else:
                open_.remove(over)
                best = (index, blob) if blob.contrast > over[2].contrast else over[1:]
                going.append((blob, *best))
        found += [(at, best) for _, at, best in open_]
        open_ = going
    return sorted([*found, *((at, best) for _, at, best in open_)], key=lambda one: (one[0], -one[1].contrast))


def slice_candidates(hu: NDArray[np.int16], spacing_mm: tuple[float, float]) -> list[Candidate]:
    """Return the candidates of a single slice, at most `GRID_MOST` + `BLOBS_MOST`; none where there is no lung."""
    return series_candidates(hu[None], (1.0, *spacing_mm))


def series_candidates(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> list[Candidate]:
    """Return the candidates of a series, slice by slice.

    The grid is laid over slices about 5 mm apart; a blob is a candidate where it stands out most, on any slice.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
    spacing_mm : tuple of float
        Along (slices, rows, columns), mm.
    """
    stride = max(1, int(SLICE_STEP_MM / spacing_mm[0]))
    points: list[Candidate] = []
    blobs: list[list[Blob]] = []
    for index, one in enumerate(hu):
        mask = lung_mask(one, spacing_mm[1:])
        blobs.append(find_blobs(one, mask, spacing_mm[1:]))
        if index % stride == 0:
            points += [Candidate(index, int(x), int(y)) for x, y in lung_grid(mask, spacing_mm[1:])]
    points += [Candidate(index, round(blob.x), round(blob.y)) for index, blob in merge_blobs(blobs, spacing_mm)]
    return sorted(points, key=lambda one: one.index)


def _searched(mask: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Return the lungs with their border, and with tumours in or on them that the mask is too tight to close over."""
    if not mask.any():
        return mask
    # grown by 15 mm and shrunk by 10, so that what bites into the lungs is inside and a border of 5 mm is left
    pad = int(np.ceil(_CLOSING_MM / min(spacing))) + 1
    grown = ndimage.distance_transform_edt(~np.pad(mask, pad), sampling=spacing) <= _CLOSING_MM
    near = ndimage.distance_transform_edt(grown, sampling=spacing) > _CLOSING_MM - _BORDER_MM
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(near)[pad:-pad, pad:-pad]
    return filled


def _stands_out(coarse: NDArray[np.float32], radius_mm: float, spacing: Iterable[float]) -> NDArray[np.float32]:
    # a disc of radius r answers most to a Gaussian of r / sqrt(2)
    inner = [radius_mm / np.sqrt(2) / own for own in spacing]
    narrow = ndimage.gaussian_filter(coarse, inner, mode="nearest")
    wide = ndimage.gaussian_filter(coarse, [_RATIO * own for own in inner], mode="nearest")
    return np.asarray(narrow - wide, np.float32)


def _reduced(picture: NDArray[np.float32], steps: Sequence[int]) -> NDArray[np.float32]:
    rows, columns = (side // step * step for side, step in zip(picture.shape, steps, strict=True))
    blocks = picture[:rows, :columns].reshape(rows // steps[0], steps[0], columns // steps[1], steps[1])
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _apart_mm(one: Blob, other: Blob, spacing_mm: tuple[float, float, float]) -> float:
    return float(np.hypot((one.x - other.x) * spacing_mm[2], (one.y - other.y) * spacing_mm[1]))
