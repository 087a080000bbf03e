"""Altered copies of whole clean series, judged by networks that saw neither patient nor attack."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.copied import find_copy
from pacs_guard.detect.forensic import HEADS, score_volume
from pacs_guard.detect.moved import find_twins
from pacs_guard.detect.scoremap import NOTHING, agreement
from training.attack import ATTACKS, simulate_series
from training.attack.copies import part_to_alter
from training.protocol import group_bootstrap
from training.report import HIT_MM, Figure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pacs_guard.detect.forensic import Head
    from pacs_guard.domain.verdict import FindingKind
    from pacs_guard.domain.volume import Volume
    from training.attack import Altered
    from training.sources import Case

COPIES_NOISE = frozenset({"ctgan"})
"""Attack whose touch-up copies noise; in the others' copies the search for it is left out, which spares time."""

MOVES = frozenset({"copy-move"})
"""Attack that copies tissue; the same of the search for tissue that occurs twice."""

FAMILIES = (
    ("ctgan", "ctgan-gaussian", "ctgan-june", "native"),
    ("mask-only", "noise-matched"),
    ("inpaint", "denoise"),
)
"""Attacks that are left out of the training together, as they share a step: what is pasted, or how it is filled."""

_SCORED_MM = 9.0
_LEAST_SLICES = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """One altered series and the scores around the altered place.

    Attributes
    ----------
    attack : str
        One of `ATTACKS`.
    kind : FindingKind or None
        What was done; None for a sham.
    group : str
        Patient.
    scores : dict of FindingKind to float
        Highest score within 16 mm of the place, on the series' agreed maps.
    copied : bool
        Whether the place's noise, or all of it, was found to repeat that of another.
    point, highest : mapping
        For each head what these networks' series point is, and their highest score of a clean series.
    """

    attack: str
    kind: FindingKind | None
    group: str
    scores: dict[FindingKind, float]
    copied: bool = False
    point: Mapping[str, float] = field(default_factory=dict)
    highest: Mapping[str, float] = field(default_factory=dict)


def run_trials(
    cases: Iterable[Case],
    heads_for: Mapping[str, Mapping[FindingKind, Head]],
    *,
    seed: int,
    attacks: Collection[str] | None = None,
    copies: int = 1,
) -> Iterator[Trial]:
    """Alter every clean series by each attack, as removal and as injection, and judge the copies.

    Parameters
    ----------
    cases : iterable of Case
        Clean series are altered, everything else is passed over.
    heads_for : mapping
        From a patient to heads, made comparable, that never saw this patient.
    seed : int
        Of places and textures.
    attacks : collection of str, optional
        Names; all of them if not given.
    copies : int
        For each series, attack and kind.
    """
    judged = [case for case in cases if not case.labels and len(case.volume.hu) >= _LEAST_SLICES]
    for case in judged:
        for number, attack in enumerate(ATTACKS.values()):
            if attacks is not None and attack.name not in attacks:
                continue
            for turn, kind in enumerate(attack.kinds or (None,)):
                # places and sizes of their own: one draw for all would make one lucky place count for every attack
                drawn = seed + 2 * number + turn
                volume = part_to_alter(case.volume, attack.name, np.random.default_rng(drawn))
                for one in simulate_series(volume, attack.name, kind, copies, drawn):
                    yield _trial(one, case.group, heads_for[case.group])


def _trial(altered: Altered, group: str, heads: Mapping[FindingKind, Head]) -> Trial:
    part, site = altered.slab()
    scores = _scores_at(part, site, heads)
    name = altered.attack.name
    copied = (name in COPIES_NOISE and _copied_at(altered)) or (name in MOVES and _moved_at(altered))
    return Trial(name, altered.kind, group, scores, copied)


def _moved_at(altered: Altered) -> bool:
    volume = altered.whole()
    twins = find_twins(volume.hu, volume.spacing_mm)
    spacing = np.array(volume.spacing_mm)
    return twins is not None and any(
        float(np.linalg.norm((np.array(place) - altered.site) * spacing)) <= HIT_MM for place in twins.places
    )


def _copied_at(altered: Altered) -> bool:
    volume = altered.whole()
    copy = find_copy(volume.hu, volume.spacing_mm)
    if copy is None or not copy.repeats:
        return False
    _, row_mm, column_mm = volume.spacing_mm
    return float(np.hypot((copy.row - altered.site[1]) * row_mm, (copy.column - altered.site[2]) * column_mm)) <= HIT_MM


def held_to(trials: Iterable[Trial], point: Mapping[str, float], highest: Mapping[str, float]) -> list[Trial]:
    """Return trials with the point, and the highest clean score, of the networks that judged them."""
    return [replace(one, point=point, highest=highest) for one in trials]


def trial_figures(trials: Iterable[Trial], *, seed: int = 0) -> list[Figure]:
    """Return how often each edit is found, at its series point and over every clean series, with 95 % intervals."""
    by_edit: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_edit[f"{trial.kind or 'SHAM'}, all attacks"].append(trial)
        by_edit[f"{trial.kind or 'SHAM'}, {trial.attack}"].append(trial)
    figures = []
    for edit, members in sorted(by_edit.items()):
        for where, points in (
            ("at the series point", [one.point for one in members]),
            ("over every clean series (no smaller p-value exists)", [one.highest for one in members]),
        ):
            found = [_found(one, point) for one, point in zip(members, points, strict=True)]
            figures.append(_figure(edit, members, np.array(found, float), where, seed))
    return figures


def _found(one: Trial, point: Mapping[str, float]) -> bool:
    return one.copied or any(one.scores[kind] > point[kind.lower()] for kind in HEADS)


def _figure(edit: str, members: Sequence[Trial], found: NDArray[np.float64], where: str, seed: int) -> Figure:
    groups = [one.group for one in members]

    def share(rows: NDArray[np.intp]) -> float:
        return float(found[rows].mean())

    low, high = group_bootstrap(share, groups, seed=seed)
    if found.min() == found.max():
        # nothing to draw from when all copies fared alike: the exact bound for as many patients
        slack = 1.0 - 0.025 ** (1.0 / len(set(groups)))
        low, high = float(max(0.0, found[0] - slack)), float(min(1.0, found[0] + slack))
    n = f"{int(found.sum())} of {len(members)} copies of series of {len(set(groups))} patients"
    protocol = (
        "SIMULATED edits of clean series; networks that saw neither the patient nor an attack of this family; "
        f"found within {HIT_MM:g} mm {where}"
    )
    return Figure(f"series, {edit}", float(found.mean()), low, high, n, protocol)


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
