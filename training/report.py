"""Figures of a cross-validation, with n, protocol and 95 % confidence interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.forensic import HEADS
from training.protocol import auc, group_bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from training.crossval import Scored, ScoredSlice

HIT_MM = 16.0
PROTOCOL = "grouped by patient, 5 folds, single slices, no place given"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    name : str
    value, low, high : float
        The figure and its 95 % patient-bootstrap interval.
    n : str
        What it was measured on.
    protocol : str
        How.
    """

    name: str
    value: float
    low: float
    high: float
    n: str
    protocol: str = PROTOCOL

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, rounded to what n supports."""
        return {key: round(one, 3) if isinstance(one, float) else one for key, one in asdict(self).items()}


def figures_of(scored: Scored, *, seed: int = 0) -> list[Figure]:
    """Return hit rates and slice AUC of both heads."""
    tampered = [one for one in scored.slices if one.target is not None and one.source == "ctgan"]
    clean = [one for one in scored.slices if not one.labels]
    figures = []
    for kind in HEADS:
        own = [one for one in tampered if one.target is not None and one.target.kind is kind]
        patients = len({one.group for one in own})
        n = f"{len(own)} slices of {patients} patients"
        figures += [
            _share(f"{kind} first guess within {HIT_MM:g} mm", own, _is_hit, n, seed),
            _share(f"{kind} first guess within {HIT_MM:g} mm of any altered place", own, _is_any_hit, n, seed),
            _slice_auc(f"{kind} slices against clean slices, AUC", own, clean, seed),
        ]
    return figures


def detections_of(scored: Scored, point: Mapping[str, float], *, seed: int = 0) -> list[Figure]:
    """Return the share of tampered single slices of each kind that reaches the operating point of single slices."""
    figures = []
    for kind in HEADS:
        own = [
            one for one in scored.slices if one.source == "ctgan" and one.target is not None and one.target.kind is kind
        ]
        n = f"{len(own)} slices of {len({one.group for one in own})} patients"

        def found(one: ScoredSlice) -> bool:
            return any(one.heads[head].score >= point[head.lower()] for head in HEADS)

        figures.append(_share(f"{kind} slices suspected at the shipped single-slice point", own, found, n, seed))
    return figures


def clean_scores(scored: Scored) -> dict[str, list[dict[str, Any]]]:
    """Return the out-of-fold scores of what is clean, for calibration: one entry for each patient.

    Of series the entry holds the highest score, so that a patient with several counts once; of slices it holds every
    slice's.
    """
    series = _by_patient((one.group, one.scores) for one in scored.series if not one.tampered and one.slices > 2)
    slices = _by_patient(
        (one.group, {kind: one.heads[kind].score for kind in HEADS}) for one in scored.slices if not one.labels
    )
    for patient in series:
        patient |= {head: [max(patient[head])] for head in ("fb", "fm")}
    return {"series": series, "slice": slices}


def as_table(figures: Sequence[Figure]) -> str:
    """Return figures as a table in Markdown."""
    rows = [
        f"| {one.name} | {one.value:.3f} | {one.low:.3f} to {one.high:.3f} | {one.n} | {one.protocol} |"
        for one in figures
    ]
    return "\n".join(["| figure | value | 95 % interval | n | protocol |", "|---|---|---|---|---|", *rows])


def _is_hit(one: ScoredSlice) -> bool:
    return one.target is not None and one.distance_mm(one.place, one.target) <= HIT_MM


def _is_any_hit(one: ScoredSlice) -> bool:
    """Whether the place lies in any cube that passes through this slice, labelled here or on a neighbour."""
    return any(one.distance_mm(one.place, label) <= HIT_MM for label in one.labels if label.depth_mm <= HIT_MM)


def _share(
    name: str, slices: Sequence[ScoredSlice], counts: Callable[[ScoredSlice], bool], n: str, seed: int
) -> Figure:
    hits = np.array([counts(one) for one in slices], float)

    def share(rows: NDArray[np.intp]) -> float:
        return float(hits[rows].mean()) if len(rows) else float("nan")

    low, high = group_bootstrap(share, [one.group for one in slices], seed=seed)
    return Figure(name, share(np.arange(len(hits))), low, high, f"{int(hits.sum())} of {n}")


def _slice_auc(name: str, tampered: Sequence[ScoredSlice], clean: Sequence[ScoredSlice], seed: int) -> Figure:
    every = [*tampered, *clean]
    scores = np.array([one.place.score for one in every])
    answers = np.array([one.target is not None for one in every])

    def area(rows: NDArray[np.intp]) -> float:
        return auc(scores[rows][answers[rows]], scores[rows][~answers[rows]])

    low, high = group_bootstrap(area, [one.group for one in every], seed=seed)
    patients = len({one.group for one in clean})
    n = f"{len(tampered)} tampered, {len(clean)} clean slices of {patients} patients"
    return Figure(name, area(np.arange(len(every))), low, high, n)


def _by_patient(scores: Iterable[tuple[str, Mapping[FindingKind, float]]]) -> list[dict[str, Any]]:
    patients: dict[str, dict[str, Any]] = {}
    for group, heads in sorted(scores, key=lambda entry: entry[0]):
        patient = patients.setdefault(group, {"patient": group.removeprefix("clean:"), "fb": [], "fm": []})
        for kind, score in heads.items():
            patient[kind.lower()].append(round(float(score), 4))
    return list(patients.values())
