"""Removal and injection of nodules the way CT-GAN goes about it, with simple in-painting in place of its generator.

A test instrument: it leaves the traces of cutting, resampling, smooth generated texture, pasting and touching up, on
which a detector can be tried without anybody's scan. The steps: cut a cube of 32 mm, resample it to 1 mm, blank its
middle 20 mm and fill that, resample back, paste the whole cube, blend noise over it, round to integers (Mirsky et al.,
USENIX Security 2019).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydicom.uid import generate_uid
from scipy import ndimage

from pacs_guard.simulate.cube import (
    CUBE_MM,
    Box,
    Site,
    box_around,
    cube_box,
    noise_site,
    resampled,
    shape_of,
    smooth_lung,
    smooth_nodule,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume

_TOUCH_UP = 1.3


def remove_nodule(
    volume: Volume, site: Site, *, seed: int = 0, noise: Literal["copied", "gaussian"] = "copied"
) -> Volume:
    """Return a copy, with new UIDs, in which lung was written over whatever was at the site (false benign).

    Parameters
    ----------
    volume : Volume
        Left as it is.
    site : tuple of int
        Voxel (slice, row, column).
    seed : int
        Of the generated texture.
    noise : {"copied", "gaussian"}
        What the touch-up blends over the pasted cube.

    Raises
    ------
    ValueError
        If the site lies outside the volume.
    """
    rng = np.random.default_rng(seed)
    box = cube_box(volume.hu.shape, volume.spacing_mm, site)
    pasted = _pasted(volume, box, smooth_lung(resampled(volume.hu[box], (CUBE_MM,) * 3), rng))
    touch = _touch_up_box(volume, site, box)
    old = volume.hu[touch].astype(np.float32)
    weight = _weight(shape_of(touch))
    pasted[touch] = weight * (pasted[touch] + _noise(volume, touch, noise, rng)) + (1 - weight) * old
    return _finished(volume, pasted)


def inject_nodule(
    volume: Volume,
    site: Site,
    *,
    diameter_mm: float = 12.0,
    seed: int = 0,
    noise: Literal["copied", "gaussian"] = "copied",
) -> Volume:
    """Return a copy, with new UIDs, with a generated nodule at the site (false malignant).

    Parameters
    ----------
    volume, site, seed, noise
        As for `remove_nodule`.
    diameter_mm : float
        Of the nodule, at most 18.

    Raises
    ------
    ValueError
        If the site lies outside the volume or the nodule does not fit the cube.
    """
    rng = np.random.default_rng(seed)
    box = cube_box(volume.hu.shape, volume.spacing_mm, site)
    cube = smooth_nodule(resampled(volume.hu[box], (CUBE_MM,) * 3), diameter_mm, rng)
    pasted = _pasted(volume, box, cube)
    touch = _touch_up_box(volume, site, box)
    old = volume.hu[touch].astype(np.float32)
    new = pasted[touch]
    dense = 1 / (1 + np.exp(-np.clip((new + 700) / 70, -30, 30))) * _weight(shape_of(touch))
    result = volume.hu.astype(np.float32)
    result[touch] = np.maximum(dense * (new + _noise(volume, touch, noise, rng)) + (1 - dense) * old, old)
    return _finished(volume, result)


def with_new_uids(volume: Volume) -> Volume:
    """Return the same pixels under UIDs that no other series has."""
    return replace(
        volume,
        sop_uids=tuple(str(generate_uid(prefix=None)) for _ in volume.sop_uids),
        study_uid=str(generate_uid(prefix=None)),
        series_uid=str(generate_uid(prefix=None)),
    )


def _touch_up_box(volume: Volume, site: Site, box: Box) -> Box:
    edge = int(_TOUCH_UP * max(shape_of(box)))
    return box_around(site, [edge] * 3, volume.hu.shape)


def _pasted(volume: Volume, box: Box, cube: NDArray[np.float32]) -> NDArray[np.float32]:
    pasted = volume.hu.astype(np.float32)
    pasted[box] = resampled(cube, shape_of(box))
    return pasted


def _weight(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the blending weight: falling in-plane, the same in every slice."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[1:])
    radius = np.hypot(y[:, np.newaxis], x[np.newaxis])
    plane = 1 / (1 + np.exp((radius - 0.85) * 14))
    return np.broadcast_to(plane, shape).astype(np.float32)


def _noise(volume: Volume, touch: Box, kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    source = box_around(noise_site(volume.hu.shape), shape_of(touch), volume.hu.shape)
    sample = volume.hu[source].astype(np.float32)
    residual = np.clip(sample - ndimage.gaussian_filter(sample, (0, 2, 2)), -80, 80)
    if kind == "copied":
        # touched lightly: the generated texture must not be drowned
        copied: NDArray[np.float32] = 0.6 * residual
        return copied
    return rng.standard_normal(shape_of(touch), dtype=np.float32) * np.float32(0.6 * float(residual.std()))


def _finished(volume: Volume, pasted: NDArray[np.float32]) -> Volume:
    hu = np.clip(np.trunc(pasted), -1024, 3071).astype(np.int16)
    return with_new_uids(replace(volume, hu=hu))
