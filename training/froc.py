"""How many altered places are marked at how many false marks, and against the untouched lung of the same slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.forensic import HEADS
from pacs_guard.detect.scoremap import NOTHING
from training.protocol import auc, group_bootstrap
from training.report import HIT_MM, Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from training.crossval import Scored, ScoredSlice

RATES = (0.05, 0.25, 1.0)
"""False marks for each clean slice, every clean patient counting once."""

_FAR_MM = 28.0
_PROTOCOL = "grouped by patient, 5 folds, single slices; up to ten marks of each head, 28 mm apart"


def froc_of(scored: Scored, *, seed: int = 0) -> list[Figure]:
    """Return the share of altered places marked within 16 mm at some rates of false marks, and their AUC.

    False marks are counted on clean slices of other patients; the AUC sets the highest mark of the head at the altered
    place against its highest one that is at least 28 mm from every altered place of the same slices.
    """
    thresholds = [_threshold([one for one in scored.slices if not one.labels], rate) for rate in RATES]
    figures = []
    for kind in HEADS:
        own = [
            one for one in scored.slices if one.source == "ctgan" and one.target is not None and one.target.kind is kind
        ]
        if not own:
            continue
        best = np.array([max(_here(one, head) for head in HEADS) for one in own])
        for rate, threshold in zip(RATES, thresholds, strict=True):
            figures.append(_share(kind, rate, (best >= threshold) & (best > NOTHING), own, seed))
        figures.append(_against_untouched(kind, own, seed))
    return figures


def _threshold(clean: Sequence[ScoredSlice], rate: float) -> float:
    """Return the smallest score at which clean slices have at most this many marks each."""
    patients: dict[str, int] = {}
    for one in clean:
        patients[one.group] = patients.get(one.group, 0) + 1
    marks = [
        (mark.score, 1.0 / (patients[one.group] * len(patients)))
        for one in clean
        for kind in HEADS
        for mark in one.marks[kind]
    ]
    marks.sort(reverse=True)
    weights = np.cumsum([weight for _, weight in marks])
    allowed = int((weights <= rate + 1e-12).sum())
    return marks[allowed][0] + 1e-6 if allowed < len(marks) else NOTHING


def _here(one: ScoredSlice, kind: FindingKind) -> float:
    target = one.target
    return max(
        (mark.score for mark in one.marks[kind] if target is not None and one.distance_mm(mark, target) <= HIT_MM),
        default=NOTHING,
    )


def _elsewhere(one: ScoredSlice, kind: FindingKind) -> float:
    return max(
        (
            mark.score
            for mark in one.marks[kind]
            if all(one.distance_mm(mark, label) >= _FAR_MM for label in one.labels)
        ),
        default=NOTHING,
    )


def _share(kind: FindingKind, rate: float, found: NDArray[np.bool_], own: Sequence[ScoredSlice], seed: int) -> Figure:
    groups = [one.group for one in own]
    low, high = group_bootstrap(lambda rows: float(found[rows].mean()), groups, seed=seed)
    n = f"{int(found.sum())} of {len(own)} slices of {len(set(groups))} patients"
    name = f"{kind} marked within {HIT_MM:g} mm at {rate:g} false marks a clean slice"
    return Figure(name, float(found.mean()), low, high, n, _PROTOCOL)


def _against_untouched(kind: FindingKind, own: Sequence[ScoredSlice], seed: int) -> Figure:
    here = np.array([_here(one, kind) for one in own])
    elsewhere = np.array([_elsewhere(one, kind) for one in own])
    groups = [one.group for one in own]

    def area(rows: NDArray[np.intp]) -> float:
        return auc(here[rows], elsewhere[rows])

    low, high = group_bootstrap(area, groups, seed=seed)
    n = f"{len(own)} slices of {len(set(groups))} patients, altered place and highest other place of each"
    return Figure(
        f"{kind} place against untouched lung of the same slices, AUC",
        area(np.arange(len(own))),
        low,
        high,
        n,
        _PROTOCOL,
    )
