"""The report of a run: one folder with a page, its plots, a table as CSV, everything as JSON."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from training.classifiers import TITLES
from training.figures import draw_roc
from training.report_page import page

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_COLUMNS = ["experiment", "protocol", "mark", "classifier", "base", "train_accuracy", "train_loss"]
_COLUMNS += ["validation_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_loss"]
_COLUMNS += ["auc", "auc_low", "auc_high", "permuted_auc_mean", "n_train", "n_test", "test_patients"]
_COLUMNS += ["pooled_accuracy", "pooled_auc", "pooled_auc_low", "pooled_auc_high", "n_pooled"]
_COLUMNS += ["published_accuracy", "parameters", "precision_recall"]


def write_report(folder: Path, run: dict[str, Any], results: Sequence[dict[str, Any]]) -> Path:
    """Write ``report.html``, ``results.csv``, ``results.json`` and the ROC plots; return the page's path.

    Parameters
    ----------
    folder : Path
        Where pictures of the run may already lie.
    run : dict
        What made the results: configuration, seed, data hash, versions, problems of the data, titles by experiment.
    results : sequence of dict
        As `training.experiments.run` yields them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"run": run, "results": list(results)}
    (folder / "results.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", results)
    _draw_curves(folder, results)
    written = folder / "report.html"
    written.write_text(page(folder, run, results), encoding="utf-8")
    return written


def read_results(folder: Path, made_with: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is finished in `folder`, in the order of experiment, protocol and classifier.

    Results of other data, another size, seed or weights are left out: they do not belong into one table.
    """
    order = list(TITLES)
    every = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "cells").glob("*.json")]
    found = [one for one in every if one["made_with"] == made_with]
    return sorted(found, key=lambda one: (one["experiment"], one["protocol"], order.index(one["classifier"])))


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """Return one result as a row of the CSV table."""
    permuted = [one for one in result["permuted_auc"] if one is not None]
    values = {
        **result,
        "base": result["warning"] or "",
        "test_accuracy": result["accuracy"],
        "permuted_auc_mean": sum(permuted) / len(permuted) if permuted else None,
        "n_train": result["n"]["train"]["pictures"],
        "n_test": result["n"]["test"]["pictures"],
        "test_patients": result["n"]["test"]["patients"],
        "pooled_accuracy": result["pooled"]["accuracy"],
        "pooled_auc": result["pooled"]["auc"],
        "pooled_auc_low": result["pooled"]["auc_interval"][0],
        "pooled_auc_high": result["pooled"]["auc_interval"][1],
        "n_pooled": result["pooled"]["n"],
        "parameters": json.dumps(result["parameters"]),
        "precision_recall": json.dumps(result["classes"]),
    }
    for ours, interval in (("test_accuracy", "accuracy_interval"), ("auc", "auc_interval")):
        values[f"{ours}_low"], values[f"{ours}_high"] = result[interval]
    return {column: values[column] for column in _COLUMNS}


def _write_csv(path: Path, results: Iterable[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS)
        writer.writeheader()
        writer.writerows(flat(one) for one in results)


def _draw_curves(folder: Path, results: Iterable[dict[str, Any]]) -> None:
    together: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in results:
        together[one["experiment"], one["protocol"]].append(one)
    for (name, protocol), own in together.items():
        # a curve of a leaky split never stands without the mark
        draw_roc(own, f"{name}, {protocol} ({own[0]['mark']})", folder / f"roc-{name}-{protocol}.png")
