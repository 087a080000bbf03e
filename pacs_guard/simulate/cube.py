"""The cube that an alteration replaces: where it lies, to 1 mm and back, and a plain filling for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.simulate.nodule import nodule_coverage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Site = tuple[int, int, int]
"""Voxel (slice, row, column)."""

Box = tuple[slice, slice, slice]
"""Part of a volume (slices, rows, columns)."""

CUBE_MM = 32
BLANK = (slice(6, 26),) * 3
"""What a generator fills of a cube of 1 mm."""

LARGEST_MM = 18.0
"""Diameter of the largest nodule that fits what is filled."""

_NOISE_FROM = (0.50, 0.43, 0.27)
_LUNG_BELOW_HU = -650


def cube_box(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], site: Site) -> Box:
    """Return the box of 32 mm around a site, moved where it would leave the volume.

    Raises
    ------
    ValueError
        If the site lies outside the volume.
    """
    if any(not 0 <= i < n for i, n in zip(site, shape, strict=True)):
        raise ValueError(f"site {site} lies outside the volume of shape {shape}")
    return box_around(site, [max(1, round(CUBE_MM / spacing)) for spacing in spacing_mm], shape)


def box_around(site: Site, edges: Sequence[int], shape: tuple[int, ...]) -> Box:
    """Return a box of the given edges in voxels, moved and where need be cut so that it lies in the volume."""
    starts = [max(0, min(i - e // 2, n - e)) for i, e, n in zip(site, edges, shape, strict=True)]
    z, y, x = (slice(a, min(a + e, n)) for a, e, n in zip(starts, edges, shape, strict=True))
    return z, y, x


def shape_of(box: Box) -> tuple[int, int, int]:
    """Return the edges of a box in voxels."""
    z, y, x = (part.stop - part.start for part in box)
    return z, y, x


def noise_site(shape: tuple[int, ...]) -> Site:
    """Return the place that CT-GAN copies noise from, the same in every series."""
    z, y, x = (int(f * n) for f, n in zip(_NOISE_FROM, shape, strict=True))
    return z, y, x


def resampled(block: NDArray[np.number], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a block with another number of voxels: cubic splines, the nearest voxel beyond its edge."""
    factors = [new / old for new, old in zip(shape, block.shape, strict=True)]
    result: NDArray[np.float32] = ndimage.zoom(block.astype(np.float32), factors, order=3, mode="nearest")
    return result


def smooth_lung(cube: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Fill the middle of a cube of 1 mm from the lung around it, smoothly, as a generator does."""
    known = (cube < _LUNG_BELOW_HU).astype(np.float32)
    known[BLANK] = 0
    weight = ndimage.gaussian_filter(known, 5) + 1e-4
    filled = (ndimage.gaussian_filter(known * cube, 5) + 1e-4 * -870) / weight
    filled += 14 * smooth_noise(cube.shape, 1.5, rng)
    middle = np.zeros_like(cube)
    middle[BLANK] = 1
    soft = ndimage.gaussian_filter(middle, 1.0)
    # a generator renders its surroundings too, a little softer than they were
    around = ndimage.gaussian_filter(cube, 0.5)
    result: NDArray[np.float32] = around + soft * (filled - around)
    return result


def smooth_nodule(cube: NDArray[np.float32], diameter_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Fill the middle of a cube of 1 mm with a nodule in smooth lung.

    Raises
    ------
    ValueError
        If the nodule does not fit.
    """
    if not 0 < diameter_mm <= LARGEST_MM:
        raise ValueError(f"diameter is {diameter_mm} mm; expected more than 0 and at most {LARGEST_MM:g}")
    lung = smooth_lung(cube, rng)
    covered = ndimage.gaussian_filter(nodule_coverage(cube.shape, (1.0, 1.0, 1.0), diameter_mm, rng), 0.7)
    tissue = 10 + 25 * smooth_noise(cube.shape, 2.0, rng)
    result: NDArray[np.float32] = lung + covered * (tissue - lung)
    return result


def smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return white noise after a Gaussian of `sigma` voxels, of unit variance."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    result: NDArray[np.float32] = field / field.std()
    return result
