"""From an experiment's classifier to a bundle that the node runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.bundle import pack_arrays, save_bundle
from pacs_guard.detect.preprocess import Window
from pacs_guard.detect.sliceclassifier import margins
from pacs_guard.detect.slicemodels import WEIGHTS, support_arrays, trees_arrays
from pacs_guard.errors import ConfigurationError
from training import measures
from training.calibration import operating_point, safe_margin
from training.classifiers import NETWORKS, TITLES, build_base, unconverged, with_head
from training.classifiers import estimator as untrained
from training.experiments import best_parameters, features_of, out_of_part, prepare
from training.networkfiles import network_files
from training.protocol import group_bootstrap
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

CARD = "MODEL_CARD.md"
_ABOVE = 1e-3
_PROTOCOL = "grouped by patient, six parts, whole slices, out of part"


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
        If the experiment's pictures need a known site or show the table: only lung slices as a whole are judged by
        the node.
    """
    experiment, name = plan.experiments[0], plan.classifiers[0]
    if experiment.form is not Form.DELOCALISED:
        raise ConfigurationError(
            [f"{experiment.name} is about {experiment.form} slices; only delocalised experiments can run in the node"]
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
    files[CARD] = _card(manifest).encode()
    return save_bundle(out, manifest, files)


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
    clean: dict[str, float] = {}
    for one, value in zip(made.samples, unseen.max(axis=1), strict=True):
        if one.kind == "untampered":
            clean[one.patient] = max(clean.get(one.patient, -np.inf), float(value))
    scores = [round(one, 4) for one in clean.values()]
    margin = safe_margin(scores)
    # trees give the same score to many: the point must lie above the highest clean one even then
    point = max(operating_point(scores, margin), round(max(scores) + _ABOVE, 4))
    sources = Counter((one.source, one.kind) for one in made.samples)
    window = asdict(Window())
    return {
        "name": f"{experiment.name}-{name}",
        "version": "1",
        "detector": "slice-classifier",
        "preprocessing": {
            "form": str(experiment.form),
            "shape": list(plan.size.shapes[experiment.form]),
            "window_hu": [window["low"], window["high"]],
            "classes": list(experiment.classes),
            **model,
        },
        "operating_point": {"slice": point, "margin_deviations": margin},
        "calibration": {
            "n": len(scores),
            "smallest_p_value": round(1 / (len(scores) + 1), 4),
            "clean_patients": scores,
        },
        "training_data": [
            {"name": source, "use": f"{count} slices, {kind}", "licence": "as the source states; see its own page"}
            for (source, kind), count in sorted(sources.items())
        ],
        "figures": [_area(plan, made, unseen)],
        "notes": [*made.notes, *([plan.weights.warning] if name in NETWORKS and plan.weights.warning else [])],
        "data_sha256": digest,
    }


def _area(plan: Plan, made: Pictures, unseen: NDArray[np.float64]) -> dict[str, Any]:
    altered = (made.table.answers > 0).astype(np.intp)
    highest = np.stack([np.zeros(len(unseen)), unseen.max(axis=1)], axis=1)
    low, high = group_bootstrap(
        lambda rows: measures.area(altered[rows], highest[rows]),
        list(made.table.patients),
        seed=plan.seed,
        rounds=plan.size.rounds,
    )
    patients = len(set(made.table.patients))
    return {
        "name": f"{TITLES[plan.classifiers[0]]}: altered against untampered slices, AUC",
        "value": round(measures.area(altered, highest), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "n": f"{int(altered.sum())} altered, {int((altered == 0).sum())} untampered slices of {patients} patients",
        "protocol": _PROTOCOL,
    }


def _card(manifest: dict[str, Any]) -> str:
    figure, clean = manifest["figures"][0], manifest["calibration"]
    return "\n".join(
        [
            f"# {manifest['name']} {manifest['version']}",
            "",
            _WHAT,
            "",
            *(f"**{note}.**\n" for note in manifest["notes"]),
            "## Measured",
            "",
            f"{figure['name']}: {figure['value']} ({figure['low']} to {figure['high']}), {figure['n']}.",
            f"Protocol: {figure['protocol']}.",
            "",
            "## Operating point and false alarms",
            "",
            f"Findings from {manifest['operating_point']['slice']} on, above all of {clean['n']} clean patients.",
            f"No p-value under {clean['smallest_p_value']} can be given.",
            _CAUTION,
            "",
            "## Trained on",
            "",
            *(f"- {one['name']}: {one['use']}. Licence: {one['licence']}." for one in manifest["training_data"]),
            "",
        ]
    )


_WHAT = (
    "Gives every slice that shows lung, reduced to the lungs, to one classifier of Solaiyappan and Wen 2022. It "
    "assists people; it is no medical device."
)

_CAUTION = (
    "Each patient gave some slices, not whole series: of a series of hundreds of slices the highest score will be "
    "higher. Calibrate on own clean series, and begin in shadow mode."
)
