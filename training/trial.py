"""Altered copies of whole clean series, judged by networks that never saw the patient: simulated, and said so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from pacs_guard.detect.forensic import HEADS, score_volume
from pacs_guard.detect.lungs import lung_mask
from pacs_guard.detect.scoremap import NOTHING, agreement
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate import inject_nodule, remove_nodule
from pacs_guard.simulate.cube import CUBE_MM
from training.protocol import group_bootstrap
from training.report import HIT_MM, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pacs_guard.detect.forensic import Head
    from pacs_guard.domain.volume import Volume
    from training.sources import Case

_REACH_MM = 26.0
_SCORED_MM = 14.0
_LEAST_SLICES = 12
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Edit:
    """A way of altering a series.

    Attributes
    ----------
    name : str
        For reports.
    kind : FindingKind or None
        What a detector should say; None for an edit that generates nothing.
    noise : str
        What the touch-up blends over the place.
    copies : int
        For each series.
    """

    name: str
    kind: FindingKind | None
    noise: Literal["copied", "gaussian"] = "gaussian"
    copies: int = 3


EDITS = (
    Edit("FB, Gaussian touch-up", FindingKind.FB),
    Edit("FB, copied noise", FindingKind.FB, "copied", copies=2),
    Edit("FM, Gaussian touch-up", FindingKind.FM),
    Edit("FM, copied noise", FindingKind.FM, "copied", copies=2),
    Edit("sham: cut, resampled and pasted back", None, copies=2),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One altered series and the scores around the altered place.

    Attributes
    ----------
    edit : Edit
    group : str
        Patient.
    scores : dict of FindingKind to float
        Highest score within 16 mm of the place, on the series' agreed maps.
    """

    edit: Edit
    group: str
    scores: dict[FindingKind, float]


def run_trials(
    cases: Iterable[Case], heads_for: Mapping[str, Mapping[FindingKind, Head]], *, seed: int
) -> Iterator[Trial]:
    """Alter every clean series some times over and judge the copies.

    Parameters
    ----------
    cases : iterable of Case
        Clean series are altered, everything else is passed over.
    heads_for : mapping
        From a patient to heads, made comparable, that never saw this patient.
    seed : int
        Of places and textures.
    """
    for case in cases:
        if case.labels or len(case.volume.hu) < _LEAST_SLICES:
            continue
        rng = np.random.default_rng(seed)
        for edit in EDITS:
            for _ in range(edit.copies):
                site, part = _altered(case.volume, edit, rng)
                yield Trial(edit, case.group, _scores_at(part, site, heads_for[case.group]))


def trial_figures(trials: Iterable[Trial], point: Mapping[str, float], where: str, *, seed: int = 0) -> list[Figure]:
    """Return how often each edit reaches `point` (`where` names it), with patient-bootstrap intervals."""
    by_edit: dict[Edit, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_edit[trial.edit].append(trial)
    return [_figure(edit, members, point, where, seed) for edit, members in by_edit.items()]


def _figure(edit: Edit, members: Sequence[Trial], point: Mapping[str, float], where: str, seed: int) -> Figure:
    found = np.array([any(one.scores[kind] >= point[kind.lower()] for kind in HEADS) for one in members], float)
    groups = [one.group for one in members]

    def share(rows: NDArray[np.intp]) -> float:
        return float(found[rows].mean())

    low, high = group_bootstrap(share, groups, seed=seed)
    if found.min() == found.max():
        # nothing to draw from when all copies fared alike: the exact bound for as many patients
        slack = 1.0 - 0.025 ** (1.0 / len(set(groups)))
        low, high = float(max(0.0, found[0] - slack)), float(min(1.0, found[0] + slack))
    n = f"{int(found.sum())} of {len(members)} copies of series of {len(set(groups))} patients"
    protocol = f"SIMULATED edits of unseen patients' clean series, found within {HIT_MM:g} mm {where}"
    return Figure(f"series, {edit.name}", float(found.mean()), low, high, n, protocol)


def _altered(volume: Volume, edit: Edit, rng: np.random.Generator) -> tuple[tuple[int, int, int], Volume]:
    """Return the place and the slices around it, altered."""
    half = int(np.ceil(_REACH_MM / volume.spacing_mm[0]))
    for _ in range(_TRIES):
        index = int(rng.integers(len(volume.hu)))
        rows, columns = np.nonzero(lung_mask(volume.hu[index], volume.spacing_mm[1:]))
        if rows.size < 2000:
            continue
        drawn = int(rng.integers(rows.size))
        first = max(0, index - half)
        part = cut_slices(volume, first, index + half + 1)
        site = (index - first, int(rows[drawn]), int(columns[drawn]))
        return site, _edited(part, site, edit, rng)
    raise ValueError("no lung to alter was met in the series")


def _edited(part: Volume, site: tuple[int, int, int], edit: Edit, rng: np.random.Generator) -> Volume:
    seed = int(rng.integers(1 << 30))
    if edit.kind is None:
        return resampled_only(part, site)
    if edit.kind is FindingKind.FB:
        return remove_nodule(part, site, seed=seed, noise=edit.noise)
    return inject_nodule(part, site, diameter_mm=float(rng.uniform(7, 16)), seed=seed, noise=edit.noise)


def resampled_only(volume: Volume, site: tuple[int, int, int]) -> Volume:
    """Return a copy with a cube of 32 mm resampled to 1 mm and back, and nothing generated."""
    edges = [max(1, round(CUBE_MM / spacing)) for spacing in volume.spacing_mm]
    starts = [
        max(0, min(at - edge // 2, length - edge))
        for at, edge, length in zip(site, edges, volume.hu.shape, strict=True)
    ]
    z, y, x = (slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
    box = (z, y, x)
    hu = volume.hu.copy()
    cube = hu[box].astype(np.float32)
    small = ndimage.zoom(cube, [CUBE_MM / n for n in cube.shape], order=3, mode="nearest")
    back = ndimage.zoom(small, [n / m for n, m in zip(cube.shape, small.shape, strict=True)], order=3, mode="nearest")
    hu[box] = np.clip(np.trunc(back), -1024, 3071).astype(np.int16)
    return replace(volume, hu=hu)


def cut_slices(volume: Volume, first: int, last: int) -> Volume:
    """Return slices `first` to before `last` as a volume of their own."""
    return replace(
        volume,
        hu=volume.hu[first:last].copy(),
        padding=None if volume.padding is None else volume.padding[first:last],
        positions_mm=volume.positions_mm[first:last],
        sop_uids=volume.sop_uids[first:last],
    )


def _scores_at(part: Volume, site: tuple[int, int, int], heads: Mapping[FindingKind, Head]) -> dict[FindingKind, float]:
    half = int(np.ceil(_SCORED_MM / part.spacing_mm[0]))
    first = max(0, site[0] - half)
    scored = score_volume(part.hu[first : site[0] + half + 1], part.spacing_mm, heads)
    _, row_mm, column_mm = part.spacing_mm
    raster = scored.raster
    down = (raster.offset[0] + np.arange(raster.shape[0]) * raster.pitch[0] - site[1]) * row_mm
    across = (raster.offset[1] + np.arange(raster.shape[1]) * raster.pitch[1] - site[2]) * column_mm
    near = np.hypot(down[:, None], across[None]) <= HIT_MM
    return {
        kind: float(np.where(near, agreement(maps, part.spacing_mm[0]), NOTHING).max())
        for kind, maps in scored.maps.items()
    }
