"""From an experiment's classifier to a bundle that the node runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.bundle import pack_arrays, save_bundle
from pacs_guard.detect.preprocess import Window
from pacs_guard.detect.registry import load_detector
from pacs_guard.detect.slicemodels import WEIGHTS, support_arrays, trees_arrays
from pacs_guard.detect.trained import margins
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import ConfigurationError
from training import measures
from training.classifier_calibration import calibrated
from training.classifier_card import CARD, classifier_card
from training.classifiers import NETWORKS, TITLES, build_base, unconverged, with_head
from training.classifiers import estimator as untrained
from training.experiments import best_parameters, features_of, out_of_part, prepare
from training.networkfiles import network_files
from training.protocol import group_bootstrap
from training.samples import clean_volumes
from training.settings import Form, ProtocolName
from training.splits import balanced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle
    from training.experiments import Pictures, Plan
    from training.index import Index
    from training.settings import Experiment

_CLEAN_SLICES = 6
_PROVISIONAL = 1e9
_PROTOCOLS = {
    Form.DELOCALISED: ("slices", "grouped by patient, six parts, whole slices, out of part"),
    Form.LOCALISED: ("sites", "grouped by patient, six parts, known sites of the same slices, out of part"),
}


def export(plan: Plan, index: Index, out: Path, cache: Path, say: Callable[[str], None] = lambda _: None) -> Bundle:
    """Fit one classifier on all patients, calibrate it on patients it had not seen, and write its bundle.

    Parameters
    ----------
    plan : Plan
        With one experiment and one classifier; the grouped protocol is used.
    index : Index
    out : Path
        Folder of the bundle.
    cache : Path
    say : callable

    Raises
    ------
    ConfigurationError
        If the experiment's pictures show the whole slice: the node judges lungs and sites in them; or if there is no
        clean patient to set the operating point by.
    """
    experiment, name = plan.experiments[0], plan.classifiers[0]
    if experiment.form not in _PROTOCOLS:
        raise ConfigurationError(
            [f"{experiment.name} is about {experiment.form} slices; the node runs localised and delocalised ones"]
        )
    made = prepare(plan, experiment, ProtocolName.GROUPED, index, cache, say)
    features = features_of(plan, name, made, cache, say)
    parameters, _ = best_parameters(plan, name, features, made.table.row_answers, made.split)
    unseen = margins(out_of_part(plan, name, features, made, parameters, node_scores))[made.table.copy == 0]
    with unconverged():
        rows = balanced(made.table, np.arange(len(features)), plan.seed)
        fitted = untrained(name, plan.seed, parameters).fit(features[rows], made.table.row_answers[rows])
    files, model = _files(plan, name, fitted, plan.size.shapes[experiment.form])
    manifest = _manifest(plan, experiment, made, unseen, model, index.digest())
    if experiment.form is Form.LOCALISED:
        say("scores of clean patients")
        clean = _clean_at_candidates(plan, index, made, save_bundle(out, manifest, files))
        judged = f"up to {_CLEAN_SLICES} slices of each, at candidate sites; the classifier had seen no slice of theirs"
    else:
        clean = _clean_out_of_part(made, unseen)
        judged = "slices of each, scored by a classifier that had not seen the patient"
    manifest |= dict(zip(("operating_point", "calibration"), calibrated(clean, judged), strict=True))
    files[CARD] = classifier_card(manifest).encode()
    return save_bundle(out, manifest, files)


def _clean_out_of_part(made: Pictures, unseen: NDArray[np.float64]) -> dict[str, float]:
    clean: dict[str, float] = {}
    for one, value in zip(made.samples, unseen.max(axis=1), strict=True):
        if one.kind == "untampered":
            clean[one.patient] = max(clean.get(one.patient, -np.inf), float(value))
    return clean


def _clean_at_candidates(plan: Plan, index: Index, made: Pictures, bundle: Bundle) -> dict[str, float]:
    """Return the highest score of every patient who was not trained on, as the node finds it."""
    detector = load_detector(bundle.path)
    clean: dict[str, float] = {}
    for patient, volume in clean_volumes(index, set(made.table.patients), _CLEAN_SLICES, plan.seed):
        result = detector.assess(AssembledSeries(volume.study_uid, volume.series_uid, (), volume))
        if result.score is not None:
            clean[patient] = max(clean.get(patient, -np.inf), result.score)
    return clean


def node_scores(fitted: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a fitted pipeline's scores as the node's models give them: log probabilities, or decision values."""
    if hasattr(fitted, "predict_proba"):
        least = 1e-3 if hasattr(fitted.named_steps["model"], "feature_importances_") else 1e-30
        return np.asarray(np.log(np.maximum(fitted.predict_proba(features), least)), float)
    decision = np.asarray(fitted.decision_function(features), float)
    return np.stack([-decision, decision], axis=1) / 2 if decision.ndim == 1 else decision


def _files(plan: Plan, name: str, fitted: Any, shape: tuple[int, int]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a model, and what the manifest says of its kind."""
    model = fitted.named_steps["model"]
    if name == "svm":
        arrays = support_arrays(model, fitted.named_steps["scale"], plan.size.step)
        return {WEIGHTS: pack_arrays(arrays)}, {"model": "support vectors"}
    if name not in NETWORKS:
        return {WEIGHTS: pack_arrays(trees_arrays(model, plan.size.step))}, {"model": "trees"}
    network = with_head(build_base(name, shape, plan.weights), fitted)
    return network_files(name, network)


def _manifest(
    plan: Plan,
    experiment: Experiment,
    made: Pictures,
    unseen: NDArray[np.float64],
    model: dict[str, Any],
    digest: str,
) -> dict[str, Any]:
    name = plan.classifiers[0]
    sources = Counter((one.source, one.kind) for one in made.samples)
    unit, _ = _PROTOCOLS[experiment.form]
    window = asdict(Window())
    return {
        "name": f"{experiment.name}-{name}",
        "version": "1",
        "detector": "site-classifier" if experiment.form is Form.LOCALISED else "slice-classifier",
        "preprocessing": {
            "form": str(experiment.form),
            "shape": list(plan.size.shapes[experiment.form]),
            "window_hu": [window["low"], window["high"]],
            "classes": list(experiment.classes),
            **model,
        },
        # set when the clean patients' scores are known
        "operating_point": {"slice": _PROVISIONAL},
        "calibration": {"clean_patients": []},
        "training_data": [
            {"name": source, "use": f"{count} {unit}, {kind}", "licence": _licence(source)}
            for (source, kind), count in sorted(sources.items())
        ],
        "figures": [_area(plan, experiment, made, unseen)],
        "notes": [*made.notes, *([plan.weights.warning] if name in NETWORKS and plan.weights.warning else [])],
        "data_sha256": digest,
    }


def _licence(source: str) -> str:
    known = {"ctgan": "CC BY 4.0 (made from LIDC-IDRI, CC BY 3.0)", "lidc-idri": "CC BY 3.0"}
    return next((what for name, what in known.items() if source.lower().startswith(name)), "as the source states")


def _area(plan: Plan, experiment: Experiment, made: Pictures, unseen: NDArray[np.float64]) -> dict[str, Any]:
    altered = (made.table.answers > 0).astype(np.intp)
    highest = np.stack([np.zeros(len(unseen)), unseen.max(axis=1)], axis=1)
    low, high = group_bootstrap(
        lambda rows: measures.area(altered[rows], highest[rows]),
        list(made.table.patients),
        seed=plan.seed,
        rounds=plan.size.rounds,
    )
    patients = len(set(made.table.patients))
    unit, protocol = _PROTOCOLS[experiment.form]
    return {
        "name": f"{TITLES[plan.classifiers[0]]}: altered against untampered {unit}, AUC",
        "value": round(measures.area(altered, highest), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "n": f"{int(altered.sum())} altered, {int((altered == 0).sum())} untampered {unit} of {patients} patients",
        "protocol": protocol,
    }
