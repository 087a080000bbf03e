"""Where in the lungs of a series something can be altered: deep in them, or at the pleura."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.detect.lungs import lung_mask
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.cube import CUBE_MM
from training.attack.boxes import box_of_mm, distance_mm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Box, Site

_LEAST_PIXELS = 500
_PLEURAL_MM = (3.0, 8.0)
_PLEURAL_SHARE = 0.3
_DEEP_MM = 10.0
_OPEN_BELOW_HU = -600
_NEAR_MM = 3.0
_DENSE_HU = -400
_DENSE_MM = (4.0, 20.0)
_ISOLATED = 0.15
_EVERY_MM = 4.0
_BORDER_MM = 1.5
_TRIES = 100


def draw_site(
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    kind: FindingKind,
    rng: np.random.Generator,
    *,
    nodules: tuple[Site, ...] = (),
) -> Site:
    """Draw a place: for a removal a known nodule or healthy lung, for an injection healthy lung.

    Three in ten lie 3 to 8 mm from the lung's border, the others deeper than 10 mm.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
    spacing_mm : tuple of float
    kind : FindingKind
        FB or FM.
    rng : numpy.random.Generator
    nodules : tuple of Site
        Real ones; half of the removals are of these.

    Raises
    ------
    ValueError
        If the series shows no lung to alter.
    """
    if kind is FindingKind.FB and nodules and rng.random() < 0.5:
        return nodules[int(rng.integers(len(nodules)))]
    slices = _whole(hu.shape[0], spacing_mm[0])
    for _ in range(_TRIES):
        lung = _Lung(hu, int(rng.choice(slices)), spacing_mm)
        if (lung.depth > 0).sum() < _LEAST_PIXELS:
            continue
        pleural = rng.random() < _PLEURAL_SHARE
        near, far = _PLEURAL_MM
        suitable = (lung.depth >= near) & (lung.depth < far) if pleural else lung.open(_DEEP_MM)
        if suitable.any():
            return lung.drawn(suitable, rng)
    raise ValueError("the series shows no lung to alter")


def lung_places(
    hu: NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
    count: int,
    *,
    depth_mm: float,
) -> list[Site]:
    """Draw up to `count` places of open lung, at least `depth_mm` from its border within the slice."""
    found: list[Site] = []
    for index in rng.choice(len(hu), size=min(count, len(hu)), replace=False):
        lung = _Lung(hu, int(index), spacing_mm)
        suitable = lung.open(depth_mm)
        if suitable.any():
            found += [lung.drawn(suitable, rng) for _ in range(-(-count // min(count, len(hu))))]
    return found[:count]


def dense_places(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], rng: np.random.Generator, slices: int
) -> Iterator[tuple[Site, float]]:
    """Yield places of small dense things in the lungs that stand alone, with their diameters in mm.

    Without reports a nodule cannot be told from a vessel that crosses the slice, so both come.

    Parameters
    ----------
    hu, spacing_mm, rng
        As for `draw_site`.
    slices : int
        How many slices are searched.
    """
    for index in rng.choice(len(hu), size=min(slices, len(hu)), replace=False):
        lung = _Lung(hu, int(index), spacing_mm)
        dense = (lung.plane > _DENSE_HU) & (lung.depth > _NEAR_MM)
        labels, count = ndimage.label(dense)
        if not count:
            continue
        diameters = 2 * np.sqrt(np.bincount(labels.ravel())[1:] * lung.pixel_mm[0] * lung.pixel_mm[1] / np.pi)
        chosen = np.flatnonzero((diameters >= _DENSE_MM[0]) & (diameters <= _DENSE_MM[1])) + 1
        for label, middle in zip(chosen, ndimage.center_of_mass(dense, labels, chosen), strict=True):
            site, diameter = lung.site(middle), float(diameters[label - 1])
            if _stands_alone(hu, spacing_mm, site, diameter):
                yield site, diameter


def lung_weight(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], box: Box) -> NDArray[np.float32]:
    """Return 1 in the lungs in a box, with nodules in and on them, and 0 outside; it falls within 2 mm inside.

    The mask of one slice every 4 mm serves the next ones.
    """
    step = max(1, round(_EVERY_MM / spacing_mm[0]))
    sigma = [_BORDER_MM / spacing for spacing in spacing_mm[1:]]
    depth, y, x = box
    masks = [lung_mask(hu[index], spacing_mm[1:])[y, x] for index in range(depth.start, depth.stop, step)]
    soft = [ndimage.gaussian_filter(mask.astype(np.float32), sigma) for mask in masks]
    weight = np.clip(2 * np.stack(soft) - 1, 0, 1)
    return np.asarray(np.repeat(weight, step, axis=0)[: depth.stop - depth.start], np.float32)


class _Lung:
    """The lungs of one slice on every other pixel, which is as fine as places are needed."""

    def __init__(self, hu: NDArray[np.int16], index: int, spacing_mm: tuple[float, float, float]) -> None:
        self.index = index
        self.plane = hu[index, ::2, ::2]
        self.pixel_mm = (2 * spacing_mm[1], 2 * spacing_mm[2])
        mask = lung_mask(hu[index], spacing_mm[1:])[::2, ::2]
        self.depth = np.asarray(ndimage.distance_transform_edt(mask, sampling=self.pixel_mm), np.float32)

    def open(self, depth_mm: float) -> NDArray[np.bool_]:
        """Return what lies at least so deep and has no thick vessel within 3 mm."""
        size = [max(1, round(2 * _NEAR_MM / spacing)) for spacing in self.pixel_mm]
        smooth = ndimage.uniform_filter(self.plane, size, output=np.float32)
        result: NDArray[np.bool_] = (self.depth >= depth_mm) & (smooth < _OPEN_BELOW_HU)
        return result

    def drawn(self, suitable: NDArray[np.bool_], rng: np.random.Generator) -> Site:
        rows, columns = np.nonzero(suitable)
        one = int(rng.integers(rows.size))
        return self.site((rows[one], columns[one]))

    def site(self, at: tuple[float, float]) -> Site:
        return self.index, 2 * round(float(at[0])), 2 * round(float(at[1]))


def _stands_alone(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], site: Site, diameter_mm: float
) -> bool:
    """Return whether little in the shell around a thing is dense, in three dimensions."""
    box = box_of_mm(hu.shape, spacing_mm, site, diameter_mm + 8.0)
    distance = distance_mm(box, spacing_mm, site)
    shell = (distance > diameter_mm / 2 + 1.5) & (distance < diameter_mm / 2 + 4.0)
    return bool(shell.any()) and float((hu[box][shell] > _DENSE_HU).mean()) < _ISOLATED


def _whole(slices: int, spacing_mm: float) -> NDArray[np.intp]:
    """Return the slices whose cube of 32 mm lies in the series, or the middle one of a few."""
    half = int(np.ceil(CUBE_MM / spacing_mm / 2))
    inside = np.arange(half, slices - half)
    return inside if inside.size else np.array([slices // 2])
