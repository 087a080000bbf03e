"""Where the lungs are on an axial CT slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORKING_SPACING_MM = 1.4
_AIR_BELOW_HU = -400
_TRACHEA_MEAN_HU = -930.0
_TRACHEA_LARGEST_CM2 = 8.0
_SMALLEST_LUNG_CM2 = 1.5
_BORDER_MM = 8.0
_OPENING_MM = 4.0


def lung_mask(hu: NDArray[np.int16], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the lungs of one axial slice, with vessels and nodules that lie in or on them.

    Air inside the body is taken, small very black parts of it (trachea, main bronchi) are left out, and the border is
    closed so that what grows from the pleura is inside. The work is done on a grid of about 1.4 mm: single slices of
    any matrix cost some milliseconds.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    spacing_mm : tuple of float
        Distance between neighbouring pixels along (rows, columns), mm.

    Returns
    -------
    ndarray of bool, shape (rows, columns)
        All False if the slice shows no lung.
    """
    steps = tuple(max(1, round(_WORKING_SPACING_MM / spacing)) for spacing in spacing_mm)
    coarse = _block_mean(hu, steps)
    spacing = (spacing_mm[0] * steps[0], spacing_mm[1] * steps[1])
    air = (coarse < _AIR_BELOW_HU) & _body(coarse, spacing)
    mask = _closed(_lung_parts(air, coarse, spacing), spacing, _BORDER_MM)
    return _enlarged(mask, steps, hu.shape)


def lung_masks(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return `lung_mask` of every slice of a volume, shape (slices, rows, columns)."""
    return np.stack([lung_mask(one, spacing_mm[1:]) for one in hu])


def _block_mean(hu: NDArray[np.int16], steps: tuple[int, ...]) -> NDArray[np.float32]:
    rows, columns = (length - length % step for length, step in zip(hu.shape, steps, strict=True))
    blocks = np.clip(hu[:rows, :columns], -1024, 1000).reshape(
        rows // steps[0], steps[0], columns // steps[1], steps[1]
    )
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _body(coarse: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the patient with everything inside: the largest piece of tissue once table and clothes are cut off."""
    tissue = _opened(coarse > _AIR_BELOW_HU, spacing, _OPENING_MM)
    labels, count = ndimage.label(tissue)
    if not count:
        return np.zeros(coarse.shape, bool)
    areas = np.bincount(labels.ravel())[1:]
    # arms and a body in two parts count as well; a table is hollow, thin or small
    large = np.flatnonzero(areas >= 0.2 * areas.max()) + 1
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(np.isin(labels, large))
    return filled


def _lung_parts(air: NDArray[np.bool_], coarse: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(air)
    if not count:
        return air
    index = np.arange(1, count + 1)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:] * spacing[0] * spacing[1] / 100.0
    mean = ndimage.mean(coarse, labels, index)
    airway = (mean < _TRACHEA_MEAN_HU) & (area < _TRACHEA_LARGEST_CM2)
    kept = index[(area >= _SMALLEST_LUNG_CM2) & ~airway]
    return np.isin(labels, kept)


def _closed(mask: NDArray[np.bool_], spacing: tuple[float, float], radius_mm: float) -> NDArray[np.bool_]:
    """Close with a disc; distance transforms cost the same at any radius."""
    if not mask.any():
        return mask
    pad = int(np.ceil(radius_mm / min(spacing))) + 1
    padded = np.pad(mask, pad)
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing) <= radius_mm
    closed = ndimage.distance_transform_edt(grown, sampling=spacing) > radius_mm
    inside: NDArray[np.bool_] = closed[pad:-pad, pad:-pad] | mask
    return inside


def _opened(mask: NDArray[np.bool_], spacing: tuple[float, float], radius_mm: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    core = ndimage.distance_transform_edt(mask, sampling=spacing) > radius_mm
    if not core.any():
        return np.zeros_like(mask)
    grown: NDArray[np.bool_] = ndimage.distance_transform_edt(~core, sampling=spacing) <= radius_mm
    return grown & mask


def _enlarged(mask: NDArray[np.bool_], steps: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    large = mask.repeat(steps[0], axis=0).repeat(steps[1], axis=1)
    missing = [(0, length - have) for length, have in zip(shape, large.shape, strict=True)]
    return np.pad(large, missing, mode="edge")
