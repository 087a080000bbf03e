"""The report of a run: one folder with a page, its plots, a table as CSV, everything as JSON."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

from training.classifiers import TITLES
from training.figures import draw_roc
from training.settings import LEAKY, ProtocolName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_COLUMNS = ["experiment", "protocol", "mark", "classifier", "base", "train_accuracy", "train_loss"]
_COLUMNS += ["validation_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_loss"]
_COLUMNS += ["auc", "auc_low", "auc_high", "permuted_auc_mean", "n_train", "n_test", "test_patients"]
_COLUMNS += ["pooled_accuracy", "pooled_auc", "pooled_auc_low", "pooled_auc_high", "n_pooled"]
_COLUMNS += ["published_accuracy", "parameters", "precision_recall"]
_NO_FIGURE = "n/a"


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
    by_experiment: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in results:
        by_experiment[one["experiment"]].append(one)
    sections = [_section(folder, name, run, by_experiment[name]) for name in sorted(by_experiment)]
    page = folder / "report.html"
    page.write_text(_page(run, results, sections), encoding="utf-8")
    return page


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


def _section(folder: Path, name: str, run: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    parts = [f"<h2>{escape(run['titles'].get(name, name))}</h2>"]
    for protocol in ProtocolName:
        own = [one for one in results if one["protocol"] == protocol]
        if not own:
            continue
        # curves and tables of a leaky split never stand without the mark
        draw_roc(own, f"{name}, {protocol} ({protocol.mark})", folder / f"roc-{name}-{protocol}.png")
        leaky = " leaky" if protocol.mark == LEAKY else ""
        parts += [f'<section class="protocol{leaky}">', f"<h3>{protocol} protocol <em>{protocol.mark}</em></h3>"]
        parts += [f"<p>{escape(note)}.</p>" for note in own[0]["notes"]]
        parts += [_table(own), '<div class="pictures">']
        pictures = [f"roc-{name}-{protocol}.png", f"samples-{name}-{protocol}.png"]
        pictures += [f"gradcam-{name}-{protocol}-{one['classifier']}.png" for one in own]
        parts += [
            f'<figure><img src="{file}" alt="{file}"><figcaption>{_caption(file, own)}</figcaption></figure>'
            for file in pictures
            if (folder / file).is_file()
        ]
        parts += ["</div>", "</section>"]
    return "\n".join(parts)


def _caption(file: str, results: Sequence[dict[str, Any]]) -> str:
    random = next((one["warning"] for one in results if one["warning"]), "") if file.startswith("gradcam") else ""
    return escape(f"{file.removesuffix('.png')} {random}".strip())


def _table(results: Sequence[dict[str, Any]]) -> str:
    classes = list(results[0]["classes"])
    head = ["classifier", "train accuracy", "train loss", "validation accuracy", "test accuracy", "95 % interval"]
    head += ["test loss", "AUC", "95 % interval", "AUC of shuffled labels", "n train", "n test (patients)"]
    head += ["AUC, all parts", "95 % interval", "n"]
    head += [f"{name} {figure}" for name in classes for figure in ("precision", "recall")] + ["paper's accuracy"]
    lines = ["<table>", "<tr>" + "".join(f"<th>{escape(one)}</th>" for one in head) + "</tr>"]
    for one in results:
        row = flat(one)
        title = escape(TITLES[one["classifier"]]) + (' <b class="warning">random base</b>' if one["warning"] else "")
        permuted = [value for value in one["permuted_auc"] if value is not None]
        cells = [
            title, _figure(row["train_accuracy"]), _figure(row["train_loss"]), _figure(row["validation_accuracy"]),
            _figure(row["test_accuracy"]), _interval(one["accuracy_interval"]), _figure(row["test_loss"]),
            _figure(row["auc"]), _interval(one["auc_interval"]),
            f"{_figure(row['permuted_auc_mean'])} ({_interval([min(permuted), max(permuted)])})" if permuted else "",
            str(row["n_train"]), f"{row['n_test']} ({row['test_patients']})",
            _figure(row["pooled_auc"]), _interval(one["pooled"]["auc_interval"]), str(row["n_pooled"]),
            *(_figure(one["classes"][name][figure]) for name in classes for figure in ("precision", "recall")),
            _figure(one["published_accuracy"]),
        ]  # fmt: skip
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _figure(value: float | None) -> str:
    return _NO_FIGURE if value is None else f"{value:.3f}"


def _interval(limits: Sequence[float | None]) -> str:
    return _NO_FIGURE if None in limits else " to ".join(_figure(one) for one in limits)


def _page(run: dict[str, Any], results: Sequence[dict[str, Any]], sections: Sequence[str]) -> str:
    warnings = sorted({one["warning"] for one in results if one["warning"]})
    made = {key: value for key, value in run.items() if key not in ("titles", "problems")}
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Experiments</title>',
            f"<style>{_STYLE}</style></head><body>",
            "<h1>The paper's experiments, measured again</h1>",
            f"<p>{escape(_HOW_TO_READ)}</p>",
            *(f'<p class="warning">{escape(one)}.</p>' for one in warnings),
            *sections,
            "<h2>What made this report</h2>",
            f"<pre>{escape(json.dumps(made, indent=1))}</pre>",
            f"<details><summary>{len(run['problems'])} missing or unusable files or scans</summary><pre>",
            escape("\n".join(run["problems"])),
            "</pre></details>",
            "</body></html>",
            "",
        ]
    )


_HOW_TO_READ = (
    "Each experiment is shown under two protocols. 'paper' repeats what the paper did: copies of a picture, and other "
    "slices of a patient, are on both sides of the split, so its figures are optimistic. 'grouped' keeps whole "
    "patients on one side, and tests no copies. Intervals come from drawing whole test patients again and again. The "
    "AUC of shuffled labels (mean, lowest to highest) must lie around 0.5; where it does not, the split leaks or n is "
    "small. 'All parts' pools the test part with the five parts of the cross-validation, each scored by a classifier "
    "fitted on the rest: more pictures, but the parameters were chosen on most of them."
)

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse; font-size: 12px; display: block; overflow-x: auto }
th, td { border: 1px solid #ccc; padding: 3px 6px; text-align: right }
th { background: #f0f0f0; vertical-align: bottom } td:first-child, th:first-child { text-align: left }
.protocol { border-left: 4px solid #2c7a4b; padding-left: 1rem; margin: 1rem 0 }
.leaky { border-color: #c0392b } .leaky em, .warning { color: #c0392b; font-style: normal; font-weight: 600 }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: .5rem 0 }
img { max-width: 640px; max-height: 480px } figcaption { font-size: 11px; color: #555 }
"""
