"""Train a challenger: the champion's recipe on its data with the studies that people labelled."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.bundle import MANIFEST, pack_arrays, save_bundle
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.detect.forensic import HEADS, WEIGHTS
from pacs_guard.errors import ConfigurationError
from training.attack import shams, simulated
from training.calibration import calibration_sections
from training.crossval import FOLDS, comparable, fit_heads, raw_scores, score_lines
from training.examples import measure
from training.labelled import CLEAN, PRESUMED, TAMPERED, is_held_back, training_cases
from training.report import clean_scores
from training.reviewed import SOURCE, read_reviewed
from training.sources import read_all

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from pacs_guard.detect.bundle import Bundle
    from training.examples import MeasuredSlice
    from training.index import Index
    from training.labelled import LabelledStudy
    from training.sources import Case

CARD = "MODEL_CARD.md"
Files = dict[str, bytes]


class TooFewError(ConfigurationError):
    """There are too few patients to train on."""


def train_forensic(
    champion: Bundle,
    studies: list[LabelledStudy],
    data: Path | None,
    *,
    seed: int,
    networks: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Files]:
    """Train both heads anew, and set points and p-values by networks that had not seen the patient.

    What else the champion's bundle holds is taken over.

    Returns
    -------
    manifest : dict
        Sections that differ from the champion's.
    files : dict of str to bytes
        Files that differ.

    Raises
    ------
    TooFewError
        If there are fewer patients of one kind than folds.
    """
    base = read_all(data) if data is not None else []
    cases = [*base, *training_cases(studies)]
    real = list(_light(measure(cases)))
    _enough(real)
    made = list(_light(measure((*simulated(cases, seed=seed), *shams(cases, seed=seed)))))
    say(f"measured {len(real)} slices with lung and {len(made)} altered copies")
    raw = raw_scores(real, made, seed=seed, networks=networks)
    points, calibration = calibration_sections(clean_scores(comparable(raw)))
    lines = score_lines(raw.slices)
    heads = fit_heads([*real, *made], seed=seed, networks=networks)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for kind in HEADS:
        arrays |= heads[kind].classifier.arrays(kind)
    preprocessing = champion.section("preprocessing") | {
        "features": {kind: list(FEATURE_NAMES[kind]) for kind in HEADS},
        "score_line": {kind: [round(number, 6) for number in lines[kind]] for kind in HEADS},
        "seed": seed,
    }
    sections = {"preprocessing": preprocessing, "operating_point": points, "calibration": calibration}
    return sections, {WEIGHTS: pack_arrays(arrays)}


def _enough(slices: Iterable[MeasuredSlice]) -> None:
    """Refuse where a head would have nothing to learn from in one of the folds."""
    patients: dict[str, set[str]] = {"clean": set(), **{kind: set() for kind in HEADS}}
    for one in slices:
        target = one.case.target
        if not one.case.labels:
            patients["clean"].add(one.case.group)
        elif target is not None:
            patients[target.kind].add(one.case.group)
    if min(len(groups) for groups in patients.values()) < FOLDS:
        counted = ", ".join(f"{len(groups)} {kind}" for kind, groups in patients.items())
        raise TooFewError(
            [f"patients to train on: {counted}; expected {FOLDS} of each: label more studies, or give a base (--data)"]
        )


def _light(slices: Iterable[MeasuredSlice]) -> Iterator[MeasuredSlice]:
    """Let go of pixels that were measured; their shape and place stay."""
    seen: dict[int, tuple[Case, Case]] = {}
    for one in slices:
        if id(one.case) not in seen:
            hollow = np.broadcast_to(np.int16(0), one.case.volume.hu.shape)
            light = replace(one.case, volume=replace(one.case.volume, hu=hollow, padding=None))
            seen[id(one.case)] = (one.case, light)
        yield replace(one, case=seen[id(one.case)][1])


def train_classifier(
    champion: Bundle,
    studies: list[LabelledStudy],
    reviewed: Path,
    data: Path | None,
    options: argparse.Namespace,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Files]:
    """Fit a slice or site classifier anew, as ``export`` does, on an index that has the labelled studies too.

    Raises
    ------
    ConfigurationError
        If the champion is no classifier of an experiment.
    """
    from training.console import CACHE, plan_of  # noqa: PLC0415  # the console imports much
    from training.datasets import read_index  # noqa: PLC0415
    from training.export import export  # noqa: PLC0415
    from training.index import joined  # noqa: PLC0415

    options.name, _, options.classifiers = champion.name.rpartition("-")
    options.protocol = "grouped"
    cache = options.cache or CACHE
    parts = [_learnable(read_index(data, cache))] if data is not None else []
    index = joined([*parts, _training_rows(reviewed, studies)])
    with tempfile.TemporaryDirectory(prefix="pacs-guard-") as folder:
        made = export(plan_of(options), index, Path(folder), cache, say)
        changed = ("preprocessing", "operating_point", "calibration", "notes", "data_sha256")
        files = {file: made.read(file) for file in made.section("files") if file != MANIFEST}
        return {key: made.manifest[key] for key in changed if key in made.manifest}, files


def _learnable(index: Index) -> Index:
    """Leave out what a base holds of patients who are held back, from an earlier export."""
    own = f"{SOURCE}:"
    kept = (row for row in index.rows if not row.patient.startswith(own) or not is_held_back(row.patient[len(own) :]))
    return replace(index, rows=tuple(kept))


def _training_rows(reviewed: Path, studies: list[LabelledStudy]) -> Index:
    allowed = {str(one.folder) for one in studies if not one.held_back and one.label != PRESUMED}
    index = read_reviewed(reviewed)
    return replace(index, rows=tuple(row for row in index.rows if str(Path(row.file).parent) in allowed))


def learnt_from(studies: list[LabelledStudy]) -> dict[str, str]:
    """Return the entry of ``training_data`` for the labelled studies."""
    used = [one for one in studies if not one.held_back]
    counts = {label: len({one.patient for one in used if one.label == label}) for label in (TAMPERED, CLEAN)}
    return {
        "name": f"studies labelled on this node ({SOURCE})",
        "use": f"{counts[TAMPERED]} altered and {counts[CLEAN]} clean patients, by the word of reviewers",
        "licence": "the site's own patients; not to be passed on",
    }


def write_challenger(
    champion: Bundle,
    version: str,
    sections: dict[str, Any],
    files: Files,
    learnt: dict[str, str],
    figures: list[dict[str, Any]],
    card: str,
    out: Path,
) -> Bundle:
    """Write a challenger's bundle: the champion's, with what was learnt anew in its place."""
    manifest = {key: part for key, part in champion.manifest.items() if key not in {"format", "files"}}
    manifest |= sections | {
        "version": version,
        "training_data": [*champion.section("training_data"), learnt],
        "figures": figures,
    }
    every = {file: champion.read(file) for file in champion.section("files")} | files
    every[CARD] = card.encode()
    return save_bundle(out, manifest, every)
