"""Altered copies of real series: the attack on scanners that nobody attacked for us, and nodules that are no attack.

The altered place, the scanner and the anatomy are drawn independently, so that no scanner stands for an answer. The
copies belong to their patient's group and never enter the measured figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage, special

from pacs_guard.detect.lungs import lung_mask
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate import inject_nodule, remove_nodule
from training.sources import Case, Label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume

SITES = 10
"""Removals, and as many injections, for each series."""

SHAMS = 3
"""Nodules with the scanner's own noise on each slice that gets any."""

_HALF_MM = 26.0
_MOST_OFF_MM = 8.0
_LEAST_SLICES = 12
_LARGEST_MM = 1.4
_APART_MM = 45.0
_NODULE_HU = (-20.0, 80.0)
_NODULE_MM = (6.0, 18.0)
_EDGE_MM = 0.7
_GRAIN_MM = 1.5
_EVERY_CLEAN = 6


def simulated(cases: Iterable[Case], *, seed: int, sites: int = SITES) -> Iterator[Case]:
    """Yield single slices through simulated removals and injections in the clean series among `cases`."""
    rng = np.random.default_rng(seed)
    for case in cases:
        volume = case.volume
        if case.labels or len(volume.hu) < _LEAST_SLICES or max(volume.spacing_mm[1:]) > _LARGEST_MM:
            continue
        for number in range(2 * sites):
            kind = (FindingKind.FB, FindingKind.FM)[number % 2]
            altered = _altered(case, kind, rng)
            if altered is not None:
                yield altered


def shams(cases: Iterable[Case], *, seed: int) -> Iterator[Case]:
    """Yield single slices with nodules that were added and left the scanner's noise as it was.

    They are negatives: without them "injected" would be learned as "round and dense", as real nodules are rare here.
    """
    rng = np.random.default_rng(seed)
    for case in cases:
        every = _EVERY_CLEAN if len(case.volume.hu) > 2 else 1
        for index in range(0, len(case.volume.hu), every):
            one = case.volume.part(index, index + 1)
            hu, places = _with_nodules(one, case.labels, rng)
            if places:
                shown = replace(one, hu=hu[None])
                yield Case("sham", case.group, f"{case.name} sham {index}", shown, case.labels, places)


def _with_nodules(
    volume: Volume, labels: tuple[Label, ...], rng: np.random.Generator
) -> tuple[NDArray[np.int16], tuple[tuple[int, int], ...]]:
    """Add nodules far from every label; return the slice and their columns and rows."""
    _, row_mm, column_mm = volume.spacing_mm
    hu = volume.hu[0].astype(np.float32)
    rows, columns = np.nonzero(lung_mask(volume.hu[0], (row_mm, column_mm)))
    for label in labels:
        far = np.hypot((rows - label.y) * row_mm, (columns - label.x) * column_mm) > _APART_MM
        rows, columns = rows[far], columns[far]
    if rows.size < 2000:
        return volume.hu[0], ()
    smooth = ndimage.gaussian_filter(hu, (_GRAIN_MM / row_mm, _GRAIN_MM / column_mm))
    y, x = np.ogrid[: hu.shape[0], : hu.shape[1]]
    drawn = rng.choice(rows.size, SHAMS, replace=False)
    for row, column in zip(rows[drawn], columns[drawn], strict=True):
        radius = rng.uniform(*_NODULE_MM) / 2
        distance = np.hypot((y - row) * row_mm * rng.uniform(0.8, 1.25), (x - column) * column_mm)
        share = special.expit((radius - distance) / (0.5 * _EDGE_MM))
        # only what is smooth is replaced: the noise stays the scanner's
        hu += share * np.maximum(rng.uniform(*_NODULE_HU) - smooth, 0)
    places = tuple((int(column), int(row)) for row, column in zip(rows[drawn], columns[drawn], strict=True))
    return np.rint(hu).astype(np.int16), places


def _altered(case: Case, kind: FindingKind, rng: np.random.Generator) -> Case | None:
    volume = case.volume
    index = int(rng.integers(len(volume.hu)))
    rows, columns = np.nonzero(lung_mask(volume.hu[index], volume.spacing_mm[1:]))
    if rows.size < 2000:
        return None
    drawn = int(rng.integers(rows.size))
    part, middle = _part(volume, index)
    site = (middle, int(rows[drawn]), int(columns[drawn]))
    # the public set's own texture is nearer to added Gaussian noise than to copied noise
    noise: Literal["copied", "gaussian"] = "gaussian" if rng.random() < 0.75 else "copied"
    seed = int(rng.integers(1 << 30))
    try:
        if kind is FindingKind.FB:
            part = remove_nodule(part, site, seed=seed, noise=noise)
        else:
            part = inject_nodule(part, site, diameter_mm=float(rng.uniform(7, 16)), seed=seed, noise=noise)
    except ValueError:
        return None  # the cube would not fit there
    most = _MOST_OFF_MM if kind is FindingKind.FB else 2.0
    off = round(rng.uniform(-most, most) / volume.spacing_mm[0])
    shown = min(max(middle + off, 0), len(part.hu) - 1)
    label = Label(kind, site[2], site[1])
    return Case("simulated", case.group, f"{case.name} {kind} {index}", part.part(shown, shown + 1), (label,))


def _part(volume: Volume, index: int) -> tuple[Volume, int]:
    """Cut out the slices that an alteration around `index` can reach."""
    half = int(np.ceil(_HALF_MM / volume.spacing_mm[0]))
    return volume.part(max(0, index - half), index + half + 1), min(index, half)
