"""Where the lungs are on an axial CT slice."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.shapes import chosen, grown, holes, without_holes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WORKING_SPACING_MM = 1.4
_AIR_BELOW_HU = -400
_AIRWAY_MEDIAN_HU = -890.0
_AIRWAY_LARGEST_CM2 = 8.0
_SMALLEST_LUNG_CM2 = 1.5
_BORDER_MM = 8.0
_OPENING_MM = 4.0
_LARGEST_HOLE_CM2 = 9.0  # a nodule of 30 mm, and some vessels around it
_BITE_MM = 24.0
_BITE_CM2 = (0.4, 9.0)
_BITE_OPENING_MM = 2.5
_BITE_HU = (-400.0, 180.0)  # no rib, no vertebra


def lung_mask(hu: NDArray[np.int16], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the lungs of one axial slice, with vessels and nodules that lie in or on them.

    Air inside the body is taken, and small very black parts of it (trachea, main bronchi) are left out. Then the border
    is closed, holes up to the size of a nodule of 30 mm are filled, and what bites into one lung from its border and is
    no larger than such a nodule is taken in. The work is done on a grid of about 1.4 mm: single slices of any matrix
    cost some milliseconds.

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
    whole = _with_bites(_filled(mask, spacing), coarse, spacing)
    return _enlarged(mask | (whole & ~air), steps, hu.shape)  # an airway between the lungs is no hole of theirs


def lung_masks(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return `lung_mask` of every slice of a volume, shape (slices, rows, columns)."""
    return np.stack([lung_mask(one, spacing_mm[1:]) for one in hu])


def _block_mean(hu: NDArray[np.int16], steps: tuple[int, ...]) -> NDArray[np.float32]:
    (down, across), (rows, columns) = steps, (length // step for length, step in zip(hu.shape, steps, strict=True))
    part = np.clip(hu[: rows * down, : columns * across], -1024, 1000).astype(np.int32)
    summed = reduce(np.add, [part[first::down] for first in range(down)])
    both = reduce(np.add, [summed[:, first::across] for first in range(across)])
    return np.asarray(both / (down * across), np.float32)


def _body(coarse: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the patient with everything inside: the largest piece of tissue once table and clothes are cut off."""
    tissue = _opened(coarse > _AIR_BELOW_HU, spacing, _OPENING_MM)
    labels, count = ndimage.label(tissue)
    if not count:
        return np.zeros(coarse.shape, bool)
    areas = np.bincount(labels.ravel())
    # arms and a body in two parts count as well; a table is hollow, thin or small
    large = areas >= 0.2 * areas[1:].max()
    large[0] = False
    return without_holes(chosen(labels, large))


def _lung_parts(air: NDArray[np.bool_], coarse: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(air)
    if not count:
        return air
    area = _areas_cm2(labels, count, spacing)
    boxes = ndimage.find_objects(labels)

    def is_lung(part: np.intp) -> bool:
        if area[part] >= _AIRWAY_LARGEST_CM2:
            return True
        values = coarse[boxes[part]][labels[boxes[part]] == part + 1]
        return bool(np.median(values) >= _AIRWAY_MEDIAN_HU)

    lungs = np.zeros(count + 1, bool)
    lungs[[part + 1 for part in np.flatnonzero(area >= _SMALLEST_LUNG_CM2) if is_lung(part)]] = True
    return chosen(labels, lungs)


def _filled(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    """Fill holes as large as a nodule may be; what both lungs enclose together, such as the heart, is larger."""
    labels, inner = holes(mask)
    small = _areas_cm2(labels, len(inner) - 1, spacing) <= _LARGEST_HOLE_CM2
    inner[1:] &= small
    return mask | chosen(labels, inner)


def _with_bites(
    mask: NDArray[np.bool_], coarse: NDArray[np.float32], spacing: tuple[float, float]
) -> NDArray[np.bool_]:
    """Take in soft tissue that bites into a lung, each lung on its own: nothing that lies between the two."""
    labels, _ = ndimage.label(mask)
    whole = mask.copy()
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        own = labels[box] == number
        bitten = _closed(own, spacing, _BITE_MM) & ~mask[box]
        whole[box] |= _filled(own | _bites(bitten, coarse[box], spacing), spacing)
    return whole


def _bites(bitten: NDArray[np.bool_], coarse: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(_opened(bitten, spacing, _BITE_OPENING_MM))
    if not count:
        return np.zeros_like(bitten)
    areas = _areas_cm2(labels, count, spacing)
    means = ndimage.mean(coarse, labels, np.arange(1, count + 1))
    fits = (areas >= _BITE_CM2[0]) & (areas <= _BITE_CM2[1]) & (means >= _BITE_HU[0]) & (means <= _BITE_HU[1])
    return chosen(labels, np.concatenate(([False], fits)))


def _areas_cm2(labels: NDArray[np.intp], count: int, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Return the area of each labelled piece but the ground."""
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return np.asarray(pixels * (spacing[0] * spacing[1] / 100.0), np.float64)


def _closed(mask: NDArray[np.bool_], spacing: tuple[float, float], radius_mm: float) -> NDArray[np.bool_]:
    """Close with a disc."""
    if not mask.any():
        return mask
    pad = int(np.ceil(radius_mm / min(spacing))) + 1
    padded = np.pad(mask, pad)
    closed = ~grown(~grown(padded, spacing, radius_mm), spacing, radius_mm)
    inside: NDArray[np.bool_] = closed[pad:-pad, pad:-pad] | mask
    return inside


def _opened(mask: NDArray[np.bool_], spacing: tuple[float, float], radius_mm: float) -> NDArray[np.bool_]:
    core = mask & ~grown(~mask, spacing, radius_mm)
    return grown(core, spacing, radius_mm) & mask


def _enlarged(mask: NDArray[np.bool_], steps: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    blocks = np.broadcast_to(mask[:, None, :, None], (mask.shape[0], steps[0], mask.shape[1], steps[1]))
    large = blocks.reshape(mask.shape[0] * steps[0], mask.shape[1] * steps[1])
    missing = [(0, length - have) for length, have in zip(shape, large.shape, strict=True)]
    return np.pad(large, missing, mode="edge") if any(after for _, after in missing) else large
