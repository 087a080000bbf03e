"""CT-GAN's touch-up: noise blended over the pasted cube."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, special

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.cube import box_around, noise_site, shape_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Box

_WIDTH = {FindingKind.FB: 0.1, FindingKind.FM: 3.0}
_LUNG_BELOW_HU = -600
_NOISE_BELOW_HU = -800
_REMOVAL_HU = 30.0
_INJECTION_SHARE = 0.6
_GRAIN_HU = 1.3 * 60
_GRAINS = (0.5, 4.0)
_SOFT_AT_HU, _SOFT_HU = -700, 70


def kernel(rows: int, columns: int, width: float) -> NDArray[np.float32]:
    """Return the in-plane blending weight, 1 in the middle and 0 in the corners, shape (rows, columns).

    Parameters
    ----------
    rows, columns : int
        Of the touched box.
    width : float
        How many standard deviations of a Gaussian the box spans to each side; 0.1 gives nearly a paraboloid.
    """
    y, x = (width * np.linspace(-1, 1, n, dtype=np.float64) for n in (rows, columns))
    plane = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / 4)
    return np.asarray((plane - plane.min()) / max(float(np.ptp(plane)), 1e-12), np.float32)


def copied_noise(hu: NDArray[np.int16], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return what lies at the one place of a series that CT-GAN copies noise from, without its tissue and mean."""
    block = hu[box_around(noise_site(hu.shape), shape, hu.shape)].astype(np.float32)
    lung = block < _NOISE_BELOW_HU
    if not lung.any():
        return np.zeros(shape, np.float32)
    block[~lung] = block[lung].mean()
    return np.asarray(block - block.mean(), np.float32)


def gaussian_noise(
    shape: tuple[int, int, int], sigma_hu: float, grain: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return Gaussian noise, interpolated by cubic splines if its grain is to be coarser or finer than a voxel.

    Parameters
    ----------
    shape : tuple of int
    sigma_hu : float
        Standard deviation before the interpolation, which takes some of it away; HU.
    grain : float
        Voxels between independent values; 1 for white noise.
    rng : numpy.random.Generator
    """
    if grain == 1:
        return np.float32(sigma_hu) * rng.standard_normal(shape, dtype=np.float32)
    coarse = [int(np.ceil(n / grain)) + 1 for n in shape]
    field = ndimage.zoom(sigma_hu * rng.standard_normal(coarse, dtype=np.float32), grain, order=3, mode="nearest")
    return np.asarray(field[: shape[0], : shape[1], : shape[2]], np.float32)


def public_gaussian_noise(
    hu: NDArray[np.int16], cube: Box, shape: tuple[int, int, int], kind: FindingKind, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the Gaussian noise of the public code: its strength and grain come from the lung around the site."""
    lung = hu[cube]
    lung = lung[lung < _LUNG_BELOW_HU]
    spread = max(float(lung.std()) if lung.size else 0.0, 1.0)
    sigma = _REMOVAL_HU if kind is FindingKind.FB else _INJECTION_SHARE * spread
    return gaussian_noise(shape, sigma, float(np.clip(_GRAIN_HU / spread, *_GRAINS)), rng)


def blended(
    old: NDArray[np.float32], new: NDArray[np.float32], noise: NDArray[np.float32], kind: FindingKind
) -> NDArray[np.float32]:
    """Return new over old, with noise, by the in-plane kernel; an injection only where it is dense and never darker.

    All blocks have the shape (slices, rows, columns), in HU.
    """
    weight = np.broadcast_to(kernel(old.shape[1], old.shape[2], _WIDTH[kind]), old.shape)
    changed = new + noise
    if kind is FindingKind.FB:
        removed: NDArray[np.float32] = weight * changed + (1 - weight) * old
        return removed
    dense = special.expit((new - _SOFT_AT_HU) / _SOFT_HU) * weight
    injected: NDArray[np.float32] = np.maximum(dense * changed + (1 - dense) * old, old)
    return injected


def touch_box(shape: tuple[int, ...], site: tuple[int, int, int], cube: Box) -> Box:
    """Return the cube of voxels that is touched up: 1.3 times the longest edge of what was pasted."""
    return box_around(site, [int(1.3 * max(shape_of(cube)))] * 3, shape)
