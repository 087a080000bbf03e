"""Fit and evaluate the forensic detector."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.bundle import Bundle, pack_arrays, save_bundle
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.detect.forensic import HEADS, WEIGHTS
from training.attack import ATTACKS, shams, simulated
from training.calibration import calibration_sections
from training.card import CARD, TRAINING_DATA, model_card
from training.crossval import comparable, fit_heads, raw_scores, score_lines
from training.examples import MeasuredSlice, measure, rows_of
from training.froc import froc_of
from training.networks import fit_classifier
from training.nodules import nodule_figures
from training.protocol import auc, folds_by_group
from training.reliability import reliability_figures
from training.report import Figure, clean_scores, detections_of, figures_of
from training.sources import read_all
from training.trial import FAMILIES, held_to, run_trials, trial_figures

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.classifier import Classifier
    from pacs_guard.domain.verdict import FindingKind
    from training.crossval import Scored
    from training.sources import Case
    from training.trial import Trial

VERSION = "1.3.0"
NETWORKS = 5
FAMILY_NETWORKS = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """Real slices, and the altered copies that are only trained on."""

    real: list[MeasuredSlice]
    made: list[MeasuredSlice]


def measured_slices(data: Path, *, seed: int, say: Callable[[str], None] = print) -> Measured:
    """Read and measure the data folder, make altered copies and measure these."""
    started = time.monotonic()
    cases = read_all(data)
    real = list(measure(cases))
    made = list(measure((*simulated(cases, seed=seed), *shams(cases, seed=seed))))
    say(f"measured {len(real)} slices with lung and {len(made)} altered copies, {time.monotonic() - started:.0f} s")
    return Measured(real, made)


def evaluate(raw: Scored, slices: Measured, *, seed: int, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Return a report for JSON: figures, operating points with their calibration, and every slice's outcome."""
    scored = comparable(raw)
    points, calibration = calibration_sections(clean_scores(scored))
    figures = [
        *figures_of(scored),
        *detections_of(scored, points["slice"]),
        *reliability_figures(scored, seed=seed),
        *froc_of(scored),
        *nodule_figures(slices.real, _drawn(slices.made), scored.heads_by_patient()),
        *trial_figures(trials_of(scored, slices, seed=seed)),
        *clean_figures(calibration["series"], points["series"]),
        *permutation_check(slices.real, seed=seed),
    ]
    for one in figures:
        say(f"{one.name}: {one.value:.3f} ({one.low:.3f} to {one.high:.3f}; {one.n})")
    return {
        "figures": [one.as_dict() for one in figures],
        "operating_point": points,
        "calibration": calibration,
        "slices": _slice_rows(scored),
    }


def trials_of(scored: Scored, slices: Measured, *, seed: int) -> list[Trial]:
    """Try altered copies of the clean series on networks that saw neither the patient nor any attack of the family.

    For each family the cross-validation is done again without its copies, with fewer networks, and its trials are held
    to the point that these networks' own clean scores give. Attacks that nothing is trained on, and shams, are judged
    by `scored`.
    """
    rest = [name for name in ATTACKS if not any(name in family for family in FAMILIES)]
    trials = _held_trials(scored, slices, rest, seed)
    for family in FAMILIES:
        without = [one for one in slices.made if one.case.attack not in family]
        unseen = comparable(raw_scores(slices.real, without, seed=seed, networks=FAMILY_NETWORKS))
        trials += _held_trials(unseen, slices, family, seed)
    return trials


def _held_trials(scored: Scored, slices: Measured, attacks: Collection[str], seed: int) -> list[Trial]:
    points, calibration = calibration_sections(clean_scores(scored))
    trials = run_trials(_cases(slices.real), scored.heads_by_patient(), seed=seed, attacks=attacks)
    return held_to(trials, points["series"], _highest_clean(calibration))


def score_unseen(slices: Measured, *, seed: int) -> Scored:
    """Score every real slice with networks that never saw its patient."""
    return raw_scores(slices.real, slices.made, seed=seed, networks=NETWORKS)


def fit(data: Path, out: Path, *, seed: int, say: Callable[[str], None] = print) -> Bundle:
    """Cross-validate, calibrate, train on everything, and write the bundle.

    Figures, score lines and calibration all come from networks that had not seen the patient; only the weights come
    from all patients together.
    """
    slices = measured_slices(data, seed=seed, say=say)
    raw = score_unseen(slices, seed=seed)
    report = evaluate(raw, slices, seed=seed, say=say)
    lines = score_lines(raw.slices)
    heads = fit_heads([*slices.real, *slices.made], seed=seed, networks=NETWORKS)
    arrays: dict[str, NDArray[Any]] = {}
    for kind in HEADS:
        arrays |= heads[kind].classifier.arrays(kind)
    manifest = {
        "name": "forensic",
        "version": VERSION,
        "detector": "forensic",
        "preprocessing": {
            "features": {kind: list(FEATURE_NAMES[kind]) for kind in HEADS},
            "score_line": {kind: [round(number, 6) for number in lines[kind]] for kind in HEADS},
            "seed": seed,
        },
        "operating_point": report["operating_point"],
        "calibration": report["calibration"],
        "training_data": TRAINING_DATA,
        "figures": report["figures"],
    }
    files = {WEIGHTS: pack_arrays(arrays), CARD: model_card(manifest).encode()}
    return save_bundle(out, manifest, files)


def permutation_check(slices: Sequence[MeasuredSlice], *, seed: int) -> list[Figure]:
    """Train on labels that were shuffled among the sites of each slice; unseen shuffled labels must not be found."""
    figures = []
    for kind in HEADS:
        areas = _shuffled_areas(slices, kind, seed)
        low, high = np.quantile(areas, [0.025, 0.975])
        n = f"{len(areas)} folds"
        protocol = "labels shuffled among the sites of each slice; expected 0.5; interval over folds"
        figures.append(Figure(f"{kind} shuffled labels, site AUC", float(np.mean(areas)), low, high, n, protocol))
    return figures


def _shuffled_areas(slices: Sequence[MeasuredSlice], kind: FindingKind, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    folds = folds_by_group([one.case.group for one in slices], 5, seed)
    rows: dict[int, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = {}
    for one in slices:
        if one.case.labels:
            chosen, positive = rows_of(one, kind)
            rows.setdefault(folds[one.case.group], []).append((one.head(kind).features[chosen], positive))
    areas = []
    for fold in sorted(rows):
        train = [
            (features, rng.permutation(answers)) for other in rows if other != fold for features, answers in rows[other]
        ]
        classifier: Classifier = fit_classifier(
            np.concatenate([features for features, _ in train]),
            np.concatenate([answers for _, answers in train]),
            seed=seed,
            networks=1,
        )
        # within each slice: the share of positives differs between slices, and must not be what is measured
        within = []
        for features, answers in rows[fold]:
            shuffled, scores = rng.permutation(answers), classifier.log_odds(features)
            within.append(auc(scores[shuffled], scores[~shuffled]))
        areas.append(float(np.nanmean(within)))
    return areas


def clean_figures(series: Mapping[str, Any], point: Mapping[str, float]) -> list[Figure]:
    """Return each clean series' highest score by networks that had not seen the patient, against the series point.

    The p-value is that among the other clean patients; the interval is not estimated, as there is one series.
    """
    figures = []
    for number, patient in enumerate(series["patients"]):
        for head in HEADS:
            scores = [one[-1] for one in series[head.lower()]]
            score = scores[number]
            p_value = (1 + sum(other >= score for k, other in enumerate(scores) if k != number)) / len(scores)
            at = point[head.lower()]
            protocol = f"grouped by patient, no interval for one; series point {at}; conformal p-value {p_value:.2f}"
            figures.append(Figure(f"clean series {patient}, highest {head}", score, score, score, "1 series", protocol))
    return figures


def _highest_clean(calibration: dict[str, Any]) -> dict[str, float]:
    return {head.lower(): max(scores[-1] for scores in calibration["series"][head.lower()]) for head in HEADS}


def _drawn(made: Sequence[MeasuredSlice]) -> list[MeasuredSlice]:
    return [one for one in made if one.case.hard]


def _cases(slices: Sequence[MeasuredSlice]) -> list[Case]:
    return list({id(one.case): one.case for one in slices}.values())


def _slice_rows(scored: Scored) -> list[dict[str, Any]]:
    rows = []
    for one in scored.slices:
        row: dict[str, Any] = {"source": one.source, "name": one.name, "fold": one.fold}
        row |= {kind.lower(): round(one.heads[kind].score, 3) for kind in HEADS}
        row |= {"x": one.place.x, "y": one.place.y}
        if one.target is not None:
            row |= {"label": one.target.kind, "distance_mm": round(one.distance_mm(one.place, one.target), 1)}
        rows.append(row)
    return rows
