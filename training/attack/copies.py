"""Altered copies of real series: the attack on scanners that nobody attacked for us, and nodules that are no attack.

The altered place, the scanner and the anatomy are drawn independently, so that no scanner stands for an answer. The
copies belong to their patient's group and never enter the measured figures.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, special

from pacs_guard.detect.lungs import lung_mask
from pacs_guard.domain.verdict import FindingKind
from training.attack.series import simulate_series
from training.attack.table import ATTACKS
from training.sources import Case, Label

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume
    from training.attack.series import Altered

COPIES = 1
"""Of each series, attack and kind."""

SLICES = 2
"""Shown of each copy."""

CUBES = frozenset({"ctgan", "ctgan-gaussian", "ctgan-june", "native"})
"""Attacks that alter all of a cube, whatever the size of the nodule."""

NOT_TRAINED_ON = frozenset({"copy-move", "splice", "ctgan-june"})
"""Attacks of which no copies are made.

The first two move native noise: taught as altered, it would become suspicious. The last resamples every slice: it takes
as long as all others together, and looks like `ctgan` at the place.
"""

SHAMS = 3
"""Nodules with the scanner's own noise on each slice that gets any."""

_PART_MM = 48.0
_MOST_OFF_MM = 12.0
_LEAST_SLICES = 12
_LARGEST_MM = 1.4
_APART_MM = 45.0
_NODULE_HU = (-20.0, 80.0)
_NODULE_MM = (6.0, 18.0)
_EDGE_MM = 0.7
_GRAIN_MM = 1.5
_EVERY_CLEAN = 6


def simulated(cases: Iterable[Case], *, seed: int, copies: int = COPIES) -> Iterator[Case]:
    """Yield single slices through the altered places of copies of the clean series among `cases`.

    Parameters
    ----------
    cases : iterable of Case
        Clean series are altered, everything else is passed over.
    seed : int
        Of places, sizes and textures.
    copies : int
        Of each series, by each attack that leaves a texture of its own, as removal and as injection.
    """
    rng = np.random.default_rng(seed)
    for case in cases:
        if case.labels or len(case.volume.hu) < _LEAST_SLICES or max(case.volume.spacing_mm[1:]) > _LARGEST_MM:
            continue
        for attack in ATTACKS.values():
            if attack.name in NOT_TRAINED_ON or attack.sham:
                continue
            for kind in attack.kinds:
                for one in simulate_series(case.volume, attack.name, kind, copies, int(rng.integers(1 << 30))):
                    yield from (_shown(case, one, kind, rng) for _ in range(SLICES))


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


def part_to_alter(volume: Volume, attack: str, rng: np.random.Generator) -> Volume:
    """Return what is to be altered: of an attack that resamples every slice only a part, to spare time."""
    if attack != "ctgan-june":
        return volume
    length = int(np.ceil(_PART_MM / volume.spacing_mm[0]))
    first = int(rng.integers(max(1, len(volume.hu) - length)))
    return volume.part(first, first + length)


def _shown(case: Case, altered: Altered, kind: FindingKind, rng: np.random.Generator) -> Case:
    """Return one slice through an altered place."""
    part, (z, row, column) = altered.slab()
    cube = altered.attack.name in CUBES
    reach = min(_MOST_OFF_MM, altered.diameter_mm / 2) if kind is FindingKind.FM or not cube else _MOST_OFF_MM
    off = round(rng.uniform(-0.5, 0.5) * reach / part.spacing_mm[0])
    at = min(max(z + off, 0), len(part.hu) - 1)
    label = Label(kind, column, row, radius_mm=inf if cube else altered.diameter_mm / 2 + 1)
    name = f"{case.name} {altered.attack.name} {kind}"
    return Case("simulated", case.group, name, part.part(at, at + 1), (label,), attack=altered.attack.name)
