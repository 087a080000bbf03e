"""Nodules to be spliced into other series: real ones, or drawn ones that keep a scanner's noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.simulate.nodule import nodule_coverage
from training.attack.boxes import ball, box_of_mm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Site

_EDGE_MM = 0.7
_GRAIN_MM = 1.5
_TISSUE_HU = (-20.0, 80.0)
_OUTLIERS = 2.0
_DENSE_HU = -500
_RIM_MM = 1.5
_REACH = 1.5  # spicules reach beyond the mean radius
_MARGIN_MM = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Donor:
    """A nodule with some of its surroundings.

    Attributes
    ----------
    name : str
        Where it is from.
    hu : ndarray of float32, shape (slices, rows, columns)
        HU, the nodule in the middle.
    spacing_mm : tuple of float
    diameter_mm : float
        Of the nodule.
    """

    name: str
    hu: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    diameter_mm: float


def cut_donor(
    name: str, hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], site: Site, diameter_mm: float
) -> Donor:
    """Cut a nodule out of a series."""
    box = box_of_mm(hu.shape, spacing_mm, site, _REACH * diameter_mm + 2 * _MARGIN_MM)
    return Donor(name, hu[box].astype(np.float32), spacing_mm, diameter_mm)


def drawn_donor(
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    site: Site,
    diameter_mm: float,
    rng: np.random.Generator,
) -> Donor:
    """Draw a nodule into lung so that the noise stays the scanner's, and cut it out."""
    box = box_of_mm(hu.shape, spacing_mm, site, _REACH * diameter_mm + 2 * _MARGIN_MM)
    drawn = with_nodule(hu[box].astype(np.float32), spacing_mm, diameter_mm, rng)
    return Donor("drawn", drawn, spacing_mm, diameter_mm)


def with_nodule(
    block: NDArray[np.float32], spacing_mm: tuple[float, float, float], diameter_mm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a block with a nodule in its middle that has the scanner's noise: only what is smooth is replaced.

    Vessels are no noise: what stands out by more than two standard deviations is cut off inside the nodule.
    """
    covered = nodule_coverage(block.shape, spacing_mm, diameter_mm, rng)
    covered = ndimage.gaussian_filter(covered, [_EDGE_MM / 2 / spacing for spacing in spacing_mm])
    # within the slice: across thick slices there is nothing smoother to be had
    smooth = ndimage.gaussian_filter(block, [0, *(_GRAIN_MM / spacing for spacing in spacing_mm[1:])])
    noise = block - smooth
    limit = _OUTLIERS * 1.4826 * float(np.median(np.abs(noise)))
    inside = rng.uniform(*_TISSUE_HU) + np.clip(noise, -limit, limit)
    result: NDArray[np.float32] = block + covered * np.maximum(inside - block, 0)
    return result.astype(np.float32)


def nodule_mask(
    block: NDArray[np.float32], spacing_mm: tuple[float, float, float], diameter_mm: float
) -> NDArray[np.float32]:
    """Return a soft mask of the nodule in the middle of a block: what is dense there in one piece, and a rim."""
    site = tuple(n // 2 for n in block.shape)
    box = tuple(slice(0, n) for n in block.shape)
    near = ball(box, spacing_mm, site, _REACH * diameter_mm / 2 + _RIM_MM, soft_mm=_RIM_MM)
    core = ball(box, spacing_mm, site, 0.3 * diameter_mm, soft_mm=0.1) > 0.5
    smooth = ndimage.gaussian_filter(block, [0.5 / spacing for spacing in spacing_mm])
    labels, _ = ndimage.label(core | ((near > 0.5) & (smooth > _DENSE_HU)))
    distance = ndimage.distance_transform_edt(labels != labels[site], sampling=spacing_mm)
    rim = np.clip(1.5 - distance / _RIM_MM, 0, 1)
    return np.asarray(rim * near, np.float32)


def donor_at(donor: Donor, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return a donor's block on another grid, an odd number of voxels; the same voxels where the grid is the same."""
    if np.allclose(donor.spacing_mm, spacing_mm, rtol=1e-3):
        return donor.hu
    edges = [
        2 * int(n * old / new / 2) + 1 for n, old, new in zip(donor.hu.shape, donor.spacing_mm, spacing_mm, strict=True)
    ]
    factors = [edge / n for edge, n in zip(edges, donor.hu.shape, strict=True)]
    return np.asarray(ndimage.zoom(donor.hu, factors, order=3, mode="nearest"), np.float32)
