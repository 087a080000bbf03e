"""Edits that generate nothing: hard negatives for "generated", positives for "altered"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.simulate.cube import CUBE_MM, cube_box, resampled, shape_of
from training.attack.boxes import ball
from training.attack.target import Patch, Target, patch
from training.attack.touchup import blended, public_gaussian_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sham_resampled(target: Target, rng: np.random.Generator) -> Patch:
    """Cut the cuboid, resample it to 1 mm and back, and paste it."""
    del rng
    box = cube_box(target.hu.shape, target.spacing_mm, target.site)
    return patch(box, resampled(resampled(target.hu[box], (CUBE_MM,) * 3), shape_of(box)))


def sham_touched(target: Target, rng: np.random.Generator) -> Patch:
    """Do the same, and blend a removal's Gaussian noise over the cuboid."""
    box = cube_box(target.hu.shape, target.spacing_mm, target.site)
    back = resampled(resampled(target.hu[box], (CUBE_MM,) * 3), shape_of(box))
    noise = public_gaussian_noise(target.hu, box, shape_of(box), target.kind, rng)
    return patch(box, blended(target.hu[box].astype(np.float32), back, noise, target.kind))


def sham_pasted(target: Target, rng: np.random.Generator) -> Patch:
    """Resample, and paste back through a soft ball only, as an attack that pastes its mask would."""
    del rng
    box = cube_box(target.hu.shape, target.spacing_mm, target.site)
    old = target.hu[box].astype(np.float32)
    back = resampled(resampled(old, (CUBE_MM,) * 3), shape_of(box))
    mask: NDArray[np.float32] = ball(box, target.spacing_mm, target.site, 9.0, soft_mm=2.0)
    return patch(box, old + mask * (back - old))
