"""CT-GAN's procedure as its public code goes about it, later and earlier (Mirsky et al., USENIX Security 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from pacs_guard.simulate.cube import CUBE_MM, box_around, cube_box, resampled, shape_of
from training.attack.boxes import hull, within
from training.attack.target import Patch, Target, patch
from training.attack.touchup import blended, copied_noise, public_gaussian_noise, touch_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Box

Noise = Literal["copied", "gaussian"]

_EDGES = (CUBE_MM,) * 3


def ctgan(target: Target, rng: np.random.Generator, *, noise: Noise = "copied") -> Patch:
    """Alter a series as the public code of August 2019 does: only the cuboid is resampled.

    Parameters
    ----------
    target : Target
    rng : numpy.random.Generator
    noise : {"copied", "gaussian"}
        What the touch-up blends over the place.

    Returns
    -------
    Patch
        The touched cube, or for a removal whatever of the pasted cuboid reaches beyond it as well.
    """
    hu, spacing = target.hu, target.spacing_mm
    cube = cube_box(hu.shape, spacing, target.site)
    small = resampled(hu[cube], _EDGES)
    filled = target.fills.rendered(small, target.kind, target.diameter_mm, rng)
    touch = touch_box(hu.shape, target.site, cube)
    box = hull(cube, touch)
    new = hu[box].astype(np.float32)
    new[within(cube, box)] = resampled(filled, shape_of(cube))
    return patch(box, _touched(target, new, box, touch, cube, noise, rng))


def ctgan_june(target: Target, rng: np.random.Generator, *, noise: Noise = "copied") -> Patch:
    """Alter a series as the public code of June 2019 does: all of it goes to 1 mm and back, every voxel changes.

    This takes as long as the series is large; give a part of it where only the place matters.
    """
    hu, spacing = target.hu, target.spacing_mm
    fine = tuple(max(1, round(n * s)) for n, s in zip(hu.shape, spacing, strict=True))
    small = resampled(hu, fine)
    site = tuple(min(int(i * s), n - 1) for i, s, n in zip(target.site, spacing, fine, strict=True))
    cube = box_around((site[0], site[1], site[2]), _EDGES, fine)
    block = small[cube]
    padded = np.pad(block, [(0, CUBE_MM - n) for n in block.shape], mode="edge")
    filled = target.fills.rendered(padded, target.kind, target.diameter_mm, rng)
    small[cube] = filled[tuple(slice(n) for n in block.shape)]
    new = resampled(small, hu.shape)
    whole = box_around(target.site, hu.shape, hu.shape)
    touch = box_around(target.site, (2 * CUBE_MM,) * 3, hu.shape)
    near = cube_box(hu.shape, spacing, target.site)
    return patch(whole, _touched(target, new, whole, touch, near, noise, rng))


def _touched(
    target: Target,
    new: NDArray[np.float32],
    box: Box,
    touch: Box,
    cube: Box,
    noise: Noise,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Touch up a changed box, in place."""
    old = target.hu[touch].astype(np.float32)
    if noise == "copied":
        added = copied_noise(target.hu, shape_of(touch))
    else:
        added = public_gaussian_noise(target.hu, cube, shape_of(touch), target.kind, rng)
    inner = within(touch, box)
    new[inner] = blended(old, new[inner], added, target.kind)
    return new
