"""Removal and injection of nodules the way CT-GAN goes about it, with simple in-painting in place of its generator.

A test instrument: it leaves the traces of cutting, resampling, smooth generated texture, pasting and touching up, on
which a detector can be tried without anybody's scan. The steps: cut a cube of 32 mm, resample it to 1 mm, blank its
middle 20 mm and fill that, resample back, paste the whole cube, blend noise over it, round to integers (Mirsky et al.,
USENIX Security 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydicom.uid import generate_uid
from scipy import ndimage

from pacs_guard.simulate.nodule import nodule_coverage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume

Site = tuple[int, int, int]
"""Voxel (slice, row, column)."""

CUBE_MM = 32
_BLANK = slice(6, 26)
_TOUCH_UP = 1.3
_NOISE_FROM = (0.50, 0.43, 0.27)
_LUNG_BELOW_HU = -650


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where the cube lies in the volume."""

    box: tuple[slice, slice, slice]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(s.stop - s.start for s in self.box)


def remove_nodule(
    volume: Volume,
    site: Site,
    *,
    seed: int = 0,
    noise: Literal["copied", "gaussian"] = "copied",
    keep_uids: bool = False,
) -> Volume:
    """Return a copy of the volume in which lung was written over whatever was at the site (false benign).

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
    keep_uids : bool
        Whether the copy keeps its UIDs, as an attack on the way does; otherwise it gets new ones.

    Raises
    ------
    ValueError
        If the site lies outside the volume.
    """
    rng = np.random.default_rng(seed)
    cut = _cut(volume, site)
    cube = _generated(_resampled(volume.hu[cut.box], (CUBE_MM,) * 3), rng)
    pasted = _pasted(volume, cut, cube)
    touch = _touch_up_box(volume, site, cut)
    old = volume.hu[touch.box].astype(np.float32)
    weight = _weight(touch.shape)
    new = weight * (pasted[touch.box] + _noise(volume, touch, noise, rng)) + (1 - weight) * old
    return _finished(volume, pasted, touch, new, keep_uids=keep_uids)


def inject_nodule(
    volume: Volume,
    site: Site,
    *,
    diameter_mm: float = 12.0,
    seed: int = 0,
    noise: Literal["copied", "gaussian"] = "copied",
    keep_uids: bool = False,
) -> Volume:
    """Return a copy of the volume with a generated nodule at the site (false malignant).

    Parameters
    ----------
    volume, site, seed, noise, keep_uids
        As for `remove_nodule`.
    diameter_mm : float
        Of the nodule, at most 18.

    Raises
    ------
    ValueError
        If the site lies outside the volume or the nodule does not fit the cube.
    """
    if not 0 < diameter_mm <= 18:
        raise ValueError(f"diameter is {diameter_mm} mm; expected more than 0 and at most 18")
    rng = np.random.default_rng(seed)
    cut = _cut(volume, site)
    cube = _generated(_resampled(volume.hu[cut.box], (CUBE_MM,) * 3), rng)
    covered = ndimage.gaussian_filter(nodule_coverage(cube.shape, (1.0, 1.0, 1.0), diameter_mm, rng), 0.7)
    tissue = 10 + 25 * _smooth_noise(cube.shape, 2.0, rng)
    pasted = _pasted(volume, cut, cube + covered * (tissue - cube))
    touch = _touch_up_box(volume, site, cut)
    old = volume.hu[touch.box].astype(np.float32)
    new = pasted[touch.box]
    dense = 1 / (1 + np.exp(-np.clip((new + 700) / 70, -30, 30))) * _weight(touch.shape)
    new = np.maximum(dense * (new + _noise(volume, touch, noise, rng)) + (1 - dense) * old, old)
    return _finished(volume, pasted=volume.hu.astype(np.float32), touch=touch, new=new, keep_uids=keep_uids)


def _cut(volume: Volume, site: Site) -> _Cut:
    if any(not 0 <= i < n for i, n in zip(site, volume.hu.shape, strict=True)):
        raise ValueError(f"site {site} lies outside the volume of shape {volume.hu.shape}")
    edges = [max(1, round(CUBE_MM / spacing)) for spacing in volume.spacing_mm]
    return _around(site, edges, volume.hu.shape)


def _around(site: Site, edges: list[int], shape: tuple[int, ...]) -> _Cut:
    starts = [max(0, min(i - e // 2, n - e)) for i, e, n in zip(site, edges, shape, strict=True)]
    z, y, x = (slice(a, min(a + e, n)) for a, e, n in zip(starts, edges, shape, strict=True))
    return _Cut((z, y, x))


def _touch_up_box(volume: Volume, site: Site, cut: _Cut) -> _Cut:
    edge = int(_TOUCH_UP * max(cut.shape))
    return _around(site, [edge] * 3, volume.hu.shape)


def _resampled(block: NDArray[np.number], shape: tuple[int, ...]) -> NDArray[np.float32]:
    factors = [new / old for new, old in zip(shape, block.shape, strict=True)]
    result: NDArray[np.float32] = ndimage.zoom(block.astype(np.float32), factors, order=3, mode="nearest")
    return result


def _generated(cube: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blank the middle of a 1 mm cube and fill it from the lung around it, smoothly, as a generator does."""
    known = (cube < _LUNG_BELOW_HU).astype(np.float32)
    known[_BLANK, _BLANK, _BLANK] = 0
    weight = ndimage.gaussian_filter(known, 5) + 1e-4
    filled = (ndimage.gaussian_filter(known * cube, 5) + 1e-4 * -870) / weight
    filled += 14 * _smooth_noise(cube.shape, 1.5, rng)
    middle = np.zeros_like(cube)
    middle[_BLANK, _BLANK, _BLANK] = 1
    soft = ndimage.gaussian_filter(middle, 1.0)
    # a generator renders its surroundings too, a little softer than they were
    around = ndimage.gaussian_filter(cube, 0.5)
    result: NDArray[np.float32] = around + soft * (filled - around)
    return result


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    result: NDArray[np.float32] = field / field.std()
    return result


def _pasted(volume: Volume, cut: _Cut, cube: NDArray[np.float32]) -> NDArray[np.float32]:
    pasted = volume.hu.astype(np.float32)
    pasted[cut.box] = _resampled(cube, cut.shape)
    return pasted


def _weight(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the blending weight: falling in-plane, the same in every slice."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape[1:])
    radius = np.hypot(y[:, np.newaxis], x[np.newaxis])
    plane = 1 / (1 + np.exp((radius - 0.85) * 14))
    return np.broadcast_to(plane, shape).astype(np.float32)


def _noise(volume: Volume, touch: _Cut, kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
    source = _around(_noise_site(volume), list(touch.shape), volume.hu.shape)
    sample = volume.hu[source.box].astype(np.float32)
    residual = np.clip(sample - ndimage.gaussian_filter(sample, (0, 2, 2)), -80, 80)
    if kind == "copied":
        # touched lightly: the generated texture must not be drowned
        copied: NDArray[np.float32] = 0.6 * residual
        return copied
    return rng.standard_normal(touch.shape, dtype=np.float32) * np.float32(0.6 * float(residual.std()))


def _noise_site(volume: Volume) -> Site:
    z, y, x = (int(f * n) for f, n in zip(_NOISE_FROM, volume.hu.shape, strict=True))
    return z, y, x


def _finished(
    volume: Volume, pasted: NDArray[np.float32], touch: _Cut, new: NDArray[np.float32], *, keep_uids: bool
) -> Volume:
    pasted[touch.box] = new
    hu = np.clip(np.trunc(pasted), -1024, 3071).astype(np.int16)
    if keep_uids:
        return replace(volume, hu=hu)
    return replace(
        volume,
        hu=hu,
        sop_uids=tuple(str(generate_uid(prefix=None)) for _ in volume.sop_uids),
        study_uid=str(generate_uid(prefix=None)),
        series_uid=str(generate_uid(prefix=None)),
    )
