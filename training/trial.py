"""Altered copies of whole clean series, judged by networks that never saw the patient: simulated, and said so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.copied import find_copy
from pacs_guard.detect.forensic import HEADS, score_volume
from pacs_guard.detect.scoremap import NOTHING, agreement
from training.attack import ATTACKS, simulate_series
from training.protocol import group_bootstrap
from training.report import HIT_MM, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pacs_guard.detect.forensic import Head
    from pacs_guard.domain.verdict import FindingKind
    from pacs_guard.domain.volume import Volume
    from training.attack import Altered
    from training.sources import Case

COPIES_NOISE = frozenset({"ctgan"})
"""Attack whose touch-up copies noise; in the others' copies the search for it is left out, which spares time."""

TRAINED_ON = frozenset({"ctgan", "ctgan-gaussian"})
"""Attacks of whose kind the networks see copies of other patients; every other one is unseen."""

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
        Whether the place's noise was found to repeat that of another.
    """

    attack: str
    kind: FindingKind | None
    group: str
    scores: dict[FindingKind, float]
    copied: bool = False


def run_trials(
    cases: Iterable[Case], heads_for: Mapping[str, Mapping[FindingKind, Head]], *, seed: int, copies: int = 1
) -> Iterator[Trial]:
    """Alter every clean series once by each attack, as removal and as injection in turn, and judge the copies.

    Parameters
    ----------
    cases : iterable of Case
        Clean series are altered, everything else is passed over.
    heads_for : mapping
        From a patient to heads, made comparable, that never saw this patient.
    seed : int
        Of places and textures.
    copies : int
        For each series and attack.
    """
    judged = [case for case in cases if not case.labels and len(case.volume.hu) >= _LEAST_SLICES]
    for turn, case in enumerate(judged):
        for number, attack in enumerate(ATTACKS.values()):
            kind = attack.kinds[(turn + number) % len(attack.kinds)] if attack.kinds else None
            # places and sizes of their own: one draw for all would make one lucky place count for every attack
            for one in simulate_series(case.volume, attack.name, kind, copies, seed + number):
                yield _trial(one, case.group, heads_for[case.group])


def _trial(altered: Altered, group: str, heads: Mapping[FindingKind, Head]) -> Trial:
    part, site = altered.slab()
    scores = _scores_at(part, site, heads)
    name = altered.attack.name
    return Trial(name, altered.kind, group, scores, name in COPIES_NOISE and _copied_at(altered))


def _copied_at(altered: Altered) -> bool:
    volume = altered.whole()
    copy = find_copy(volume.hu, volume.spacing_mm)
    if copy is None or not copy.repeats:
        return False
    _, row_mm, column_mm = volume.spacing_mm
    return float(np.hypot((copy.row - altered.site[1]) * row_mm, (copy.column - altered.site[2]) * column_mm)) <= HIT_MM


def trial_figures(trials: Iterable[Trial], point: Mapping[str, float], where: str, *, seed: int = 0) -> list[Figure]:
    """Return how often each edit reaches `point` (`where` names it), with patient-bootstrap intervals."""
    every = list(trials)
    by_edit: dict[str, list[Trial]] = defaultdict(list)
    for trial in every:
        by_edit[f"{trial.kind or 'SHAM'}, {trial.attack}"].append(trial)
        if trial.kind is not None and trial.attack not in TRAINED_ON:
            by_edit[f"{trial.kind}, all unseen attacks"].append(trial)
    return [_figure(edit, members, point, where, seed) for edit, members in by_edit.items()]


def _figure(edit: str, members: Sequence[Trial], point: Mapping[str, float], where: str, seed: int) -> Figure:
    found = np.array(
        [one.copied or any(one.scores[kind] >= point[kind.lower()] for kind in HEADS) for one in members], float
    )
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
