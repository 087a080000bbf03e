"""Attacks that use a generator and leave less of its traces than CT-GAN does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.cube import CUBE_MM, cube_box, resampled, shape_of
from training.attack.boxes import ball, hull, within
from training.attack.donors import with_nodule
from training.attack.inpainting import lung_filled
from training.attack.places import lung_weight
from training.attack.spectrum import local_spectrum
from training.attack.target import Patch, Target, patch
from training.attack.touchup import blended, public_gaussian_noise, touch_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGES = (CUBE_MM,) * 3
_FILLED_MM = 9.0
_SPOTS_MM = 1.5
_SPOTS_HU = 14.0
_HIGH_PASS_MM = 2.5


def native_grid(target: Target, rng: np.random.Generator) -> Patch:
    """Fill and paste a cuboid on the series' own grid, and touch it up with Gaussian noise: nothing is resampled.

    The networks of this project work at 1 mm, so this one's generator is plain in-painting: a harmonic filling with
    smooth texture, in which a nodule is drawn.
    """
    hu, spacing = target.hu, target.spacing_mm
    cube = cube_box(hu.shape, spacing, target.site)
    touch = touch_box(hu.shape, target.site, cube)
    box = hull(cube, touch)
    new = hu[box].astype(np.float32)
    inner = within(cube, box)
    new[inner] = _filled_natively(target, new[inner], rng)
    place = within(touch, box)
    old = hu[touch].astype(np.float32)
    noise = public_gaussian_noise(hu, cube, shape_of(touch), target.kind, rng)
    new[place] = blended(old, new[place], noise, target.kind)
    return patch(box, new)


def mask_only(target: Target, rng: np.random.Generator) -> Patch:
    """Paste only the ball that was filled, softly, and not the cuboid around it; no touch-up."""
    generated, mask = _generated_ball(target, rng)
    cube = cube_box(target.hu.shape, target.spacing_mm, target.site)
    old = target.hu[cube].astype(np.float32)
    return patch(cube, old + mask * (generated - old))


def noise_matched(target: Target, rng: np.random.Generator) -> Patch:
    """Paste only the ball that was filled, with noise that has the spectrum and strength of the lung around it."""
    hu, spacing = target.hu, target.spacing_mm
    generated, mask = _generated_ball(target, rng)
    cube = cube_box(hu.shape, spacing, target.site)
    old = hu[cube].astype(np.float32)
    native = local_spectrum(hu, spacing, target.site, without_mm=target.diameter_mm)
    smooth = ndimage.gaussian_filter(generated, [0, *(_HIGH_PASS_MM / s for s in spacing[1:])])
    rest = 1.4826 * float(np.median(np.abs(generated - smooth)[mask > 0.5]))
    noise = native.noise(shape_of(cube), rng) * np.sqrt(max(0.0, 1 - (rest / max(native.sigma_hu, 1e-6)) ** 2))
    return patch(cube, old + mask * (generated + noise - old))


def _generated_ball(target: Target, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the generated cuboid on the series' grid, and a soft ball inside what was filled."""
    hu, spacing = target.hu, target.spacing_mm
    cube = cube_box(hu.shape, spacing, target.site)
    small = target.fills.rendered(resampled(hu[cube], _EDGES), target.kind, target.diameter_mm, rng)
    middle = tuple((part.start + part.stop) // 2 for part in cube)
    ball_mm = _FILLED_MM if target.kind is FindingKind.FB else min(_FILLED_MM, target.diameter_mm / 2 + 2)
    mask = ball(cube, spacing, (middle[0], middle[1], middle[2]), ball_mm, soft_mm=2.0)
    return resampled(small, shape_of(cube)), mask


def _filled_natively(target: Target, block: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    spacing = target.spacing_mm
    whole = tuple(slice(0, n) for n in block.shape)
    middle = tuple(n // 2 for n in block.shape)
    mask = ball((whole[0], whole[1], whole[2]), spacing, (middle[0], middle[1], middle[2]), _FILLED_MM, soft_mm=0.1)
    lung = lung_weight(target.hu, spacing, cube_box(target.hu.shape, spacing, target.site)) * (mask > 0.5)
    filled = lung_filled(block, lung)
    spots = ndimage.gaussian_filter(rng.standard_normal(block.shape), [_SPOTS_MM / s for s in spacing])
    filled += lung * np.float32(_SPOTS_HU) * (spots / max(float(spots.std()), 1e-9)).astype(np.float32)
    if target.kind is FindingKind.FB:
        return filled
    return with_nodule(filled, spacing, min(target.diameter_mm, 2 * _FILLED_MM), rng)
