"""Score every case with networks that never saw its patient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.forensic import HEADS, Head, score_slice
from pacs_guard.detect.scoremap import NOTHING, agreement, highest, peaks
from training.examples import training_rows
from training.networks import fit_classifier
from training.protocol import folds_by_group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from training.examples import MeasuredSlice
    from training.sources import Case, Label

    Map = NDArray[np.float32]

FOLDS = 5
_MARKS = 10


@dataclass(frozen=True, slots=True)
class HeadScore:
    """A head's highest score and its place, in pixels."""

    score: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class ScoredSlice:
    """What unseen networks say of one slice.

    `heads` holds each head's highest place, `marks` up to ten places of each head, highest first.
    """

    source: str
    group: str
    name: str
    fold: int
    target: Label | None
    labels: tuple[Label, ...]
    pixel_mm: tuple[float, float]
    heads: dict[FindingKind, HeadScore]
    marks: dict[FindingKind, tuple[HeadScore, ...]] = field(default_factory=dict)

    @property
    def place(self) -> HeadScore:
        """The more suspicious of the heads' places."""
        return max(self.heads.values(), key=lambda head: head.score)

    def distance_mm(self, place: HeadScore, label: Label) -> float:
        """Return how far a place is from a label."""
        return float(np.hypot((place.x - label.x) * self.pixel_mm[1], (place.y - label.y) * self.pixel_mm[0]))


@dataclass(frozen=True, slots=True)
class ScoredSeries:
    """What unseen networks say of a whole series."""

    source: str
    group: str
    name: str
    fold: int
    slices: int
    tampered: bool
    scores: dict[FindingKind, float]


@dataclass(frozen=True, slots=True)
class Scored:
    """Out-of-fold scores of everything.

    Attributes
    ----------
    slices : list of ScoredSlice
    series : list of ScoredSeries
    heads : list of dict
        The heads of each fold, which saw none of that fold's patients.
    """

    slices: list[ScoredSlice]
    series: list[ScoredSeries]
    heads: list[dict[FindingKind, Head]]

    def heads_by_patient(self) -> dict[str, dict[FindingKind, Head]]:
        """Return for every patient the heads that did not see this patient."""
        return {one.group: self.heads[one.fold] for one in self.slices}


def fit_heads(slices: Sequence[MeasuredSlice], *, seed: int, networks: int) -> dict[FindingKind, Head]:
    """Train both heads; their output is not yet comparable."""
    heads = {}
    for kind in HEADS:
        features, answers = training_rows(slices, kind, seed)
        heads[kind] = Head(fit_classifier(features, answers, seed=seed, networks=networks))
    return heads


def comparable(scored: Scored) -> Scored:
    """Make the heads of `raw_scores` comparable, by a line fitted for each fold on the scores of the other folds."""
    lines = [score_lines([one for one in scored.slices if one.fold != fold]) for fold in range(FOLDS)]
    return with_lines(scored, lines)


def raw_scores(
    slices: Sequence[MeasuredSlice], extra: Sequence[MeasuredSlice] = (), *, seed: int, networks: int
) -> Scored:
    """Train on all patients but one fold's and score that fold's, for every fold.

    Parameters
    ----------
    slices : sequence of MeasuredSlice
        Trained on and scored.
    extra : sequence of MeasuredSlice
        Only trained on, and only in the folds where their patient is.
    seed : int
        Of the split and the networks.
    networks : int
        For each head.
    """
    folds = folds_by_group([one.case.group for one in slices], FOLDS, seed)
    scored = Scored([], [], [])
    for fold in range(FOLDS):
        train = [one for one in (*slices, *extra) if folds[one.case.group] != fold]
        heads = fit_heads(train, seed=seed, networks=networks)
        scored.heads.append(heads)
        held = (one for one in slices if folds[one.case.group] == fold)
        add_maps(((one, score_slice(one.sites, heads, one.raster)) for one in held), fold, scored)
    return scored


def with_lines(scored: Scored, lines: Sequence[Mapping[FindingKind, tuple[float, float]]]) -> Scored:
    """Apply each fold's line to its scores."""
    return Scored(
        [_with_line(one, lines[one.fold]) for one in scored.slices],
        [
            replace(one, scores={kind: _line(lines[one.fold][kind], score) for kind, score in one.scores.items()})
            for one in scored.series
        ],
        [
            {kind: Head(head.classifier, *line[kind]) for kind, head in heads.items()}
            for heads, line in zip(scored.heads, lines, strict=True)
        ],
    )


def score_lines(slices: Iterable[ScoredSlice]) -> dict[FindingKind, tuple[float, float]]:
    """Fit slope and intercept from each head's slice maximum to the log-odds of a slice that it should have found.

    Negatives are clean slices and slices tampered in the other way, so that a head learns to be quiet there.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  # slow to import

    every, lines = list(slices), {}
    for kind in HEADS:
        used = [one for one in every if one.heads[kind].score > NOTHING]
        scores = np.array([[one.heads[kind].score] for one in used])
        answers = [one.target is not None and one.target.kind is kind for one in used]
        fitted = LogisticRegression(C=1.0, class_weight="balanced").fit(scores, answers)
        lines[kind] = (float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))
    return lines


def add_maps(slices: Iterable[tuple[MeasuredSlice, Mapping[FindingKind, Map]]], fold: int, into: Scored) -> None:
    """Add what the maps of a fold's slices say: each slice's highest places, and each series' highest score."""
    stacks: dict[int, tuple[Case, list[Mapping[FindingKind, Map]]]] = {}
    for one, maps in slices:
        into.slices.append(_scored_slice(one, maps, fold))
        stacks.setdefault(id(one.case), (one.case, []))[1].append(maps)
    for case, members in stacks.values():
        into.series.append(_scored_series(case, members, fold))


def _scored_slice(one: MeasuredSlice, maps: Mapping[FindingKind, Map], fold: int) -> ScoredSlice:
    heads, marks = {}, {}
    for kind, scores in maps.items():
        peak = highest(scores[None])
        heads[kind] = HeadScore(peak.score, one.raster.x(peak.column), one.raster.y(peak.row))
        places = peaks(scores[None], (1.0, *one.raster.spacing_mm), NOTHING, _MARKS)
        marks[kind] = tuple(HeadScore(at.score, one.raster.x(at.column), one.raster.y(at.row)) for at in places)
    case = one.case
    spacing = case.volume.spacing_mm
    name = f"{case.name}:{one.index}" if len(case.volume.hu) > 1 else case.name
    return ScoredSlice(case.source, case.group, name, fold, case.target, case.labels, spacing[1:], heads, marks)


def _scored_series(case: Case, members: Sequence[Mapping[FindingKind, Map]], fold: int) -> ScoredSeries:
    scores = {
        kind: highest(agreement(np.stack([maps[kind] for maps in members]), case.volume.spacing_mm[0])).score
        for kind in HEADS
    }
    return ScoredSeries(case.source, case.group, case.name, fold, len(case.volume.hu), bool(case.labels), scores)


def _with_line(one: ScoredSlice, line: Mapping[FindingKind, tuple[float, float]]) -> ScoredSlice:
    marks = {
        kind: tuple(replace(mark, score=_line(line[kind], mark.score)) for mark in places)
        for kind, places in one.marks.items()
    }
    return replace(one, heads=_apply(one.heads, line), marks=marks)


def _apply(
    heads: Mapping[FindingKind, HeadScore], lines: Mapping[FindingKind, tuple[float, float]]
) -> dict[FindingKind, HeadScore]:
    return {kind: replace(head, score=_line(lines[kind], head.score)) for kind, head in heads.items()}


def _line(line: tuple[float, float], score: float) -> float:
    return NOTHING if score <= NOTHING else line[0] * score + line[1]
