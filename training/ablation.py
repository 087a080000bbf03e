"""What each part of the forensic detector is worth: features, residual network, both; with simulated edits and without.

Every variant is judged by the same folds of patients, on the same slices and sites, with the same smoothing. None sees
a patient that it is judged on; what makes two of them comparable is fitted on the other folds as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.forensic import HEADS, smoothed_map
from training.calibration import calibration_sections
from training.cancers import FOLDER, cancer_figures
from training.crossval import FOLDS, Scored, add_maps, comparable, fit_heads, score_lines
from training.examples import HARD_MM, nodules_of, rows_of
from training.protocol import auc, folds_by_group, group_bootstrap
from training.report import Figure, as_table, clean_scores, detections_of, figures_of
from training.residual import OUTPUTS, Effort, Place, fit_network, log_odds_at, log_odds_map
from training.whitening import white_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from training.crossval import ScoredSlice
    from training.examples import MeasuredSlice
    from training.whitening import WhiteSlice

    SiteScores = Mapping[FindingKind, NDArray[np.float32]]

FEATURES, NETWORK, BOTH = "features", "network", "both"

_NEGATIVES = {True: 72, False: 24}  # more from altered slices, so that a slice's source does not give the answer
_EVERY_CLEAN = 2
_UNTOUCHED_MM = 28.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of judging, and how it fared.

    Attributes
    ----------
    parts : str
        `FEATURES`, `NETWORK` or `BOTH`.
    simulated : bool
        Whether simulated edits and shams were trained on.
    figures : list of Figure
    """

    parts: str
    simulated: bool
    figures: list[Figure]


@dataclass(frozen=True, slots=True)
class Shown:
    """A measured slice and its white noise."""

    measured: MeasuredSlice
    image: WhiteSlice | None


def ablation(
    real: Sequence[MeasuredSlice],
    made: Sequence[MeasuredSlice],
    *,
    seed: int,
    networks: int,
    effort: Effort | None = None,
    say: Callable[[str], None] = print,
) -> list[Variant]:
    """Cross-validate every variant.

    Parameters
    ----------
    real : sequence of MeasuredSlice
        Judged, and trained on in the other folds.
    made : sequence of MeasuredSlice
        Altered copies, only trained on.
    seed : int
        Of folds, networks and intervals.
    networks : int
        Small networks on features, for each head.
    effort : Effort, optional
        Of the residual network.
    say : callable
        Told what is done.
    """
    shown, copies = _shown(real), _shown(made)
    say(f"made the noise of {len(shown)} slices and {len(copies)} altered copies white")
    variants = []
    for extra in (copies, []):
        by_parts = _site_scores(shown, extra, seed, networks, effort or Effort(), say)
        by_parts[BOTH] = _mean_of(shown, [by_parts[FEATURES], by_parts[NETWORK]], seed)
        for parts, scores in by_parts.items():
            figures = _figures(_scored(shown, scores, seed), seed)
            variants.append(Variant(parts, bool(extra), figures))
            say(f"{parts}, {'with' if extra else 'without'} simulated edits: {_line_of(figures)}")
    return variants


def ablation_command(data: Path, report: Path, *, seed: int) -> str:
    """Measure every variant on a data folder, and injections against real cancers; write JSON and return tables."""
    from training.forensic import NETWORKS, measured_slices  # noqa: PLC0415  # that one imports much

    slices = measured_slices(data, seed=seed)
    variants = ablation(slices.real, slices.made, seed=seed, networks=NETWORKS)
    nodules = cancer_figures(data / FOLDER, slices.real, slices.made, seed=seed, networks=NETWORKS)
    written = [
        {"parts": one.parts, "simulated": one.simulated, "figures": [figure.as_dict() for figure in one.figures]}
        for one in variants
    ]
    content = {"ablation": written, "nodules": [figure.as_dict() for figure in nodules]}
    report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return "\n\n".join([ablation_table(variants), *([as_table(nodules)] if nodules else [])])


def ablation_table(variants: Iterable[Variant]) -> str:
    """Return the variants side by side as a table in Markdown."""
    every = list(variants)
    names = [figure.name for figure in every[0].figures]
    titles = [f"{one.parts}, {'with' if one.simulated else 'without'} simulated edits" for one in every]
    rows = [f"| figure | n | {' | '.join(titles)} |", "|---" * (len(every) + 2) + "|"]
    for number, name in enumerate(names):
        cells = [one.figures[number] for one in every]
        shown = [f"{cell.value:.3f} ({cell.low:.3f} to {cell.high:.3f})" for cell in cells]
        n = cells[0].n.split(" of ", 1)[-1]
        rows.append(f"| {name} | {n} | {' | '.join(shown)} |")
    return "\n".join(rows)


def places_of(slices: Iterable[Shown], seed: int) -> list[Place]:
    """Return what the network is trained on: all altered sites, and some others of every slice, hard ones first."""
    rng = np.random.default_rng(seed)
    places = []
    for one in slices:
        case = one.measured.case
        if one.image is None or (not case.labels and len(case.volume.hu) > 2 and one.measured.index % _EVERY_CLEAN):
            continue
        for output, kind in enumerate(OUTPUTS):
            chosen, positive = rows_of(one.measured, kind)
            kept = positive.copy()
            for x, y in nodules_of(one.measured):
                kept |= one.measured.distance_mm(one.measured.head(kind), x, y)[chosen] < HARD_MM
            others = np.flatnonzero(~kept)
            kept[rng.permutation(others)[: _NEGATIVES[bool(case.labels)]]] = True
            rows, columns = _pixels(one.measured, kind)
            places += [
                Place(one.image, int(rows[site]), int(columns[site]), output, bool(altered))
                for site, altered in zip(chosen[kept], positive[kept], strict=True)
            ]
    return places


def _shown(slices: Iterable[MeasuredSlice]) -> list[Shown]:
    return [Shown(one, white_slice(one.case.volume, one.index)) for one in slices]


def _site_scores(
    shown: Sequence[Shown],
    extra: Sequence[Shown],
    seed: int,
    networks: int,
    effort: Effort,
    say: Callable[[str], None],
) -> dict[str, list[SiteScores]]:
    """Return log-odds of every slice's sites, by the features' networks and by the residual network, unseen."""
    folds = _folds(shown, seed)
    found: dict[str, dict[int, SiteScores]] = {FEATURES: {}, NETWORK: {}}
    for fold in range(FOLDS):
        train = [one for one in (*shown, *extra) if folds[one.measured.case.group] != fold]
        heads = fit_heads([one.measured for one in train], seed=seed, networks=networks)
        network = fit_network(places_of(train, seed), seed=seed, effort=effort)
        for number, one in enumerate(shown):
            if folds[one.measured.case.group] == fold:
                found[FEATURES][number] = {
                    kind: heads[kind].classifier.log_odds(one.measured.head(kind).features) for kind in HEADS
                }
                found[NETWORK][number] = _network_scores(network, one)
        say(f"fold {fold + 1} of {FOLDS} trained and judged")
    return {parts: [scores[number] for number in range(len(shown))] for parts, scores in found.items()}


def _network_scores(network: object, one: Shown) -> SiteScores:
    if one.image is None:
        return {kind: np.zeros(len(one.measured.head(kind).rows), np.float32) for kind in OUTPUTS}
    answers = log_odds_map(network, one.image)
    return {
        kind: log_odds_at(answers[..., output], one.image, *_pixels(one.measured, kind))
        for output, kind in enumerate(OUTPUTS)
    }


def _pixels(measured: MeasuredSlice, kind: FindingKind) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    sites, raster = measured.head(kind), measured.raster
    rows = np.rint(raster.offset[0] + sites.rows * raster.pitch[0]).astype(np.intp)
    return rows, np.rint(raster.offset[1] + sites.columns * raster.pitch[1]).astype(np.intp)


def _scored(shown: Sequence[Shown], scores: Sequence[SiteScores], seed: int) -> Scored:
    folds = _folds(shown, seed)
    scored = Scored([], [], [{} for _ in range(FOLDS)])
    for fold in range(FOLDS):
        held = [
            (
                one.measured,
                {kind: smoothed_map(one.measured.head(kind), own[kind], one.measured.raster, kind) for kind in HEADS},
            )
            for one, own in zip(shown, scores, strict=True)
            if folds[one.measured.case.group] == fold
        ]
        add_maps(held, fold, scored)
    return scored


def _mean_of(shown: Sequence[Shown], parts: Sequence[Sequence[SiteScores]], seed: int) -> list[SiteScores]:
    """Average log-odds once lines from the other folds have made them comparable."""
    folds = _folds(shown, seed)
    lines = []
    for scores in parts:
        scored = _scored(shown, scores, seed)
        lines.append([score_lines([one for one in scored.slices if one.fold != fold]) for fold in range(FOLDS)])
    mean: list[SiteScores] = []
    for number, one in enumerate(shown):
        own = [line[folds[one.measured.case.group]] for line in lines]
        mean.append({kind: _averaged([part[number][kind] for part in parts], own, kind) for kind in HEADS})
    return mean


def _averaged(
    scores: Sequence[NDArray[np.float32]],
    lines: Sequence[Mapping[FindingKind, tuple[float, float]]],
    kind: FindingKind,
) -> NDArray[np.float32]:
    comparable_scores = [line[kind][0] * one + line[kind][1] for one, line in zip(scores, lines, strict=True)]
    return np.asarray(np.mean(comparable_scores, axis=0), np.float32)


def _folds(shown: Sequence[Shown], seed: int) -> dict[str, int]:
    return folds_by_group([one.measured.case.group for one in shown], FOLDS, seed)


def _figures(raw: Scored, seed: int) -> list[Figure]:
    scored = comparable(raw)
    points, _ = calibration_sections(clean_scores(scored))
    found = [*figures_of(scored, seed=seed), *detections_of(scored, points["slice"], seed=seed)]
    figures = [*found, untouched_figure(scored.slices, seed=seed)]
    return [
        replace(one, name=one.name.replace("shipped single-slice point", "variant's own single-slice point"))
        for one in figures
    ]


def untouched_figure(slices: Iterable[ScoredSlice], *, seed: int) -> Figure:
    """Return how well slices of the altered data set are told from clean ones by what nobody altered.

    Far over one half, slices are known by their source, and slice AUC is worth that much less.
    """
    scores, answers, groups = [], [], []
    for one in slices:
        marks = [mark for marks in one.marks.values() for mark in marks]
        if one.source == "ctgan":
            marks = [
                mark for mark in marks if all(one.distance_mm(mark, label) > _UNTOUCHED_MM for label in one.labels)
            ]
        if marks and (one.source == "ctgan" or not one.labels):
            scores.append(max(mark.score for mark in marks))
            answers.append(one.source == "ctgan")
            groups.append(one.group)
    values, altered = np.array(scores), np.array(answers, bool)

    def area(rows: NDArray[np.intp]) -> float:
        return auc(values[rows][altered[rows]], values[rows][~altered[rows]])

    low, high = group_bootstrap(area, groups, seed=seed)
    n = f"{altered.sum()} slices with an altered place, {(~altered).sum()} clean slices"
    name = "untouched lung of altered slices against clean slices, AUC"
    return Figure(name, area(np.arange(len(values))), low, high, n, "expected 0.5 or less; more tells the source apart")


def _line_of(figures: Iterable[Figure]) -> str:
    return "; ".join(f"{one.name} {one.value:.3f}" for one in figures)
