"""Solid pulmonary nodules with an irregular, spiculated surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Nodule:
    """A nodule in the lung.

    Attributes
    ----------
    site : tuple of int
        Voxel of its middle: slice, row, column.
    diameter_mm : float
        Mean diameter.
    hu : float
        Of its solid part.
    """

    site: tuple[int, int, int]
    diameter_mm: float = 12.0
    hu: float = 35.0


def nodule_coverage(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], diameter_mm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return how much of each voxel a nodule in the middle of a block covers.

    Parameters
    ----------
    shape : tuple of int
        Of the block (slices, rows, columns).
    spacing_mm : tuple of float
        Of its voxels.
    diameter_mm : float
        Mean diameter of the nodule.
    rng : numpy.random.Generator
        Shapes its surface.

    Returns
    -------
    ndarray of float32
        0 to 1.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(z**2 * rng.uniform(0.85, 1.3) + y**2 * rng.uniform(0.85, 1.3) + x**2)
    sigma = [1.6 / s for s in spacing_mm]
    bumps = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    radius = diameter_mm / 2 * (1 + 0.16 * bumps / max(float(bumps.std()), 1e-9))
    for _ in range(rng.integers(6, 12)):
        # a spicule: a narrow cone in which the surface reaches further out
        way = rng.normal(size=3)
        way /= np.linalg.norm(way)
        cosine = (z * way[0] + y * way[1] + x * way[2]) / np.maximum(distance, 1e-6)
        radius = radius + diameter_mm * rng.uniform(0.1, 0.4) * np.clip((cosine - 0.93) / 0.07, 0, 1) ** 2
    covered: NDArray[np.float32] = np.clip((radius - distance) / spacing_mm[1] + 0.5, 0, 1).astype(np.float32)
    return covered


def draw_nodule(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], nodule: Nodule, rng: np.random.Generator
) -> None:
    """Put a nodule into a noise-free volume, in place, shape (slices, rows, columns).

    Raises
    ------
    ValueError
        If its site is outside the volume.
    """
    if any(not 0 <= i < n for i, n in zip(nodule.site, hu.shape, strict=True)):
        raise ValueError(f"nodule at {nodule.site} lies outside the volume of shape {hu.shape}")
    half = [int(np.ceil(nodule.diameter_mm / s)) for s in spacing_mm]
    covered = nodule_coverage(tuple(2 * h + 1 for h in half), spacing_mm, nodule.diameter_mm, rng)
    low = [i - h for i, h in zip(nodule.site, half, strict=True)]
    inner = tuple(slice(max(0, -a), n - a) for a, n in zip(low, hu.shape, strict=True))
    outer = tuple(slice(max(0, a), a + s) for a, s in zip(low, covered.shape, strict=True))
    covered = covered[inner]
    hu[outer] += covered * (nodule.hu - hu[outer])
