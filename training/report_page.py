"""The page of a report: what was measured, both protocols side by side, and the pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

from training.classifiers import TITLES
from training.settings import LEAKY, ProtocolName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    Result = dict[str, Any]
    Column = tuple[str, Callable[[Result], str]]

_NO_FIGURE = "n/a"
_RANDOM = '<b class="random" title="the convolution base has no ImageNet weights">random base</b>'


def page(folder: Path, run: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    folder : Path
        Pictures that lie here are shown.
    run : dict
        What made the results: configuration, seed, data hash, versions, problems of the data, titles by experiment.
    results : sequence of dict
        As `training.experiments.run` yields them.
    """
    by_experiment: dict[str, list[Result]] = defaultdict(list)
    for one in results:
        by_experiment[one["experiment"]].append(one)
    names = sorted(by_experiment)
    titles = run.get("titles", {})
    links = [f'<a href="#{escape(name)}">{escape(titles.get(name, name))}</a>' for name in names]
    warnings = sorted({one["warning"] for one in results if one["warning"]})
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f"<title>Experiments</title><style>{_STYLE}</style></head><body>",
            "<h1>The paper's experiments, measured again</h1>",
            _HOW_TO_READ,
            *(f'<p class="random">{escape(one)}.</p>' for one in warnings),
            f"<nav>{' '.join(links)}</nav>",
            "<h2>All experiments: AUC over all parts</h2>",
            _summary(by_experiment, titles),
            *(_experiment(folder, name, titles.get(name, name), by_experiment[name]) for name in names),
            _made_by(run),
            "</body></html>",
            "",
        ]
    )


def _summary(by_experiment: dict[str, list[Result]], titles: dict[str, str]) -> str:
    head = ["experiment", "classifier", *(_protocol_head(one) for one in ProtocolName), "paper's accuracy"]
    lines = []
    for name in sorted(by_experiment):
        cells = _by_classifier(by_experiment[name])
        for number, own in enumerate(cells.values()):
            figures = [_cell(own.get(one), one, lambda it: _with_interval(it["pooled"], "auc")) for one in ProtocolName]
            first = f'<th rowspan="{len(cells)}">{escape(titles.get(name, name))}</th>' if number == 0 else ""
            published = next(iter(own.values()))["published_accuracy"]
            lines.append(f"<tr>{first}<th>{_title(own)}</th>{''.join(figures)}<td>{_figure(published)}</td></tr>")
    return _table_of(head, lines)


def _experiment(folder: Path, name: str, title: str, results: Sequence[Result]) -> str:
    shown = [one for one in ProtocolName if any(result["protocol"] == one for result in results)]
    sides = [_side(folder, name, one, [it for it in results if it["protocol"] == one]) for one in shown]
    return "\n".join(
        [
            f'<h2 id="{escape(name)}">{escape(title)}</h2>',
            f'<div class="sides">{"".join(sides)}</div>',
        ]
    )


def _side(folder: Path, name: str, protocol: ProtocolName, results: Sequence[Result]) -> str:
    stem = f"{name}-{protocol}"
    pictures = [(f"roc-{stem}.png", f"ROC of the test part, {protocol} protocol ({protocol.mark})", "plot")]
    pictures += [(f"samples-{stem}.png", "Samples, one row for each kind (how many there are)", "sheet")]
    for one in results:
        base = ", random base" if one["warning"] else ""
        caption = f"{TITLES[one['classifier']]}{base}: an altered picture, and Grad-CAM over it"
        pictures.append((f"gradcam-{stem}-{one['classifier']}.png", caption, "cam"))
    leaky = "leaky" if protocol.mark == LEAKY else "grouped"
    return "\n".join(
        [
            f'<section class="side {leaky}">',
            f"<h3>{protocol} protocol <em>{protocol.mark}</em></h3>",
            "<ul>",
            *(f"<li>{escape(note)}</li>" for note in results[0]["notes"]),
            "</ul>",
            _table(_TEST_COLUMNS, results),
            _table(_by_class_columns(results), results),
            _table(_FIT_COLUMNS, results),
            '<div class="pictures">',
            *(_picture(*one) for one in pictures if (folder / one[0]).is_file()),
            "</div></section>",
        ]
    )


def _picture(file: str, caption: str, kind: str) -> str:
    text = escape(caption)
    return (
        f'<figure class="{kind}"><a href="{escape(file)}"><img src="{escape(file)}" alt="{text}"></a>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _table(columns: Sequence[Column], results: Iterable[Result]) -> str:
    lines = []
    for one in results:
        cells = "".join(f"<td>{value(one)}</td>" for _, value in columns)
        lines.append(f"<tr><th>{_title({'': one})}</th>{cells}</tr>")
    return _table_of(["classifier", *(name for name, _ in columns)], lines)


def _table_of(head: Iterable[str], lines: Iterable[str]) -> str:
    row = "".join(f"<th>{one}</th>" for one in head)
    return f"<table><thead><tr>{row}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _by_classifier(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {name: {} for name in TITLES}
    for one in results:
        found[one["classifier"]][one["protocol"]] = one
    return {name: own for name, own in found.items() if own}


def _cell(result: Result | None, protocol: ProtocolName, value: Callable[[Result], str]) -> str:
    leaky = ' class="leaky"' if protocol.mark == LEAKY else ""
    return f"<td{leaky}>{_NO_FIGURE if result is None else value(result)}</td>"


def _protocol_head(protocol: ProtocolName) -> str:
    return f"{protocol} protocol<br><em>{protocol.mark}</em>"


def _title(own: dict[str, Result]) -> str:
    one = next(iter(own.values()))
    return escape(TITLES[one["classifier"]]) + (f" {_RANDOM}" if one["warning"] else "")


def _by_class_columns(results: Sequence[Result]) -> list[Column]:
    def column(name: str, figure: str) -> Column:
        return (f"{escape(name)} {figure}", lambda one: _figure(one["classes"][name][figure]))

    return [column(name, figure) for name in results[0]["classes"] for figure in ("precision", "recall")]


def _shuffled(result: Result) -> str:
    areas = [one for one in result["permuted_auc"] if one is not None]
    if not areas:
        return _NO_FIGURE
    return f"{sum(areas) / len(areas):.2f}<small> ({min(areas):.2f} to {max(areas):.2f})</small>"


def _with_interval(figures: dict[str, Any], name: str) -> str:
    low, high = figures[f"{name}_interval"]
    if None in (figures[name], low, high):
        return _figure(figures[name])
    n = f", n {figures['n']}" if isinstance(figures.get("n"), int) else ""
    return f"{_figure(figures[name])}<small> ({low:.2f} to {high:.2f}{n})</small>"


def _figure(value: float | None) -> str:
    return _NO_FIGURE if value is None else f"{value:.3f}"


def _of_test(result: Result) -> str:
    test = result["n"]["test"]
    return f"{test['pictures']}<small> of {test['patients']} patients</small>"


_TEST_COLUMNS: list[Column] = [
    ("test accuracy", lambda one: _with_interval(one, "accuracy")),
    ("test AUC", lambda one: _with_interval(one, "auc")),
    ("n test", _of_test),
    ("AUC, all parts", lambda one: _with_interval(one["pooled"], "auc")),
    ("AUC, labels shuffled", _shuffled),
    ("paper's accuracy", lambda one: _figure(one["published_accuracy"])),
]

_FIT_COLUMNS: list[Column] = [
    ("train accuracy", lambda one: _figure(one["train_accuracy"])),
    ("validation accuracy", lambda one: _figure(one["validation_accuracy"])),
    ("train loss", lambda one: _figure(one["train_loss"])),
    ("test loss", lambda one: _figure(one["test_loss"])),
    ("n train", lambda one: str(one["n"]["train"]["pictures"])),
    ("chosen", lambda one: escape(", ".join(f"{key} {value}" for key, value in one["parameters"].items()))),
]


def _made_by(run: dict[str, Any]) -> str:
    made = {key: value for key, value in run.items() if key not in ("titles", "problems")}
    problems = run.get("problems", [])
    return "\n".join(
        [
            "<h2>What made this report</h2>",
            _table_of(
                ["", ""],
                [f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in _facts(run)],
            ),
            "<details><summary>The whole configuration</summary><pre>",
            escape(json.dumps(made, indent=1)),
            "</pre></details>",
            f"<details><summary>{len(problems)} missing or unusable files or scans</summary><pre>",
            escape("\n".join(problems)),
            "</pre></details>",
        ]
    )


def _facts(run: dict[str, Any]) -> list[tuple[str, Any]]:
    return [*run.get("made_with", {}).items(), *run.get("versions", {}).items(), ("base", run.get("base", ""))]


_HOW_TO_READ = """<p>Each experiment stands under two protocols, side by side.
<b class="leaky">paper</b> repeats what the paper did: copies of a picture, and other slices of a patient, are on both
sides of the split, so its figures are <b class="leaky">leaky: optimistic</b>. <b class="grouped">grouped</b> keeps
whole patients on one side and tests no copies: the one to believe. Intervals are 95 %, from drawing whole patients
again and again. After training on shuffled labels the AUC (mean, lowest to highest) must lie around 0.5; where it does
not, the split leaks or n is small. "All parts" pools the test part with the five parts of the cross-validation, each
scored by a classifier fitted on the rest: more pictures, but the parameters were chosen on most of them. With three
classes the AUC is the mean of each against the rest. Pictures of patients: treat this page as what it shows.</p>"""

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1720px; padding: 0 1.5rem; color: #1c1c1c }
h1 { margin-bottom: .5rem } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0 }
table { border-collapse: collapse; font-size: 12.5px; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { border: 1px solid #d4d4d4; padding: 3px 7px; text-align: right }
thead th { background: #f1f1f1; vertical-align: bottom } tbody th { text-align: left; font-weight: 500 }
small { color: #555; white-space: nowrap } .side small { display: block }
em { font-style: normal; font-weight: 600 } pre { white-space: pre-wrap; font-size: 12px }
td.leaky { background: #fdecea }
b.leaky, .leaky em, .random { color: #b3261e } b.grouped, .grouped em { color: #1e6b3c }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 700px), 1fr)); gap: 1.5rem }
.side { border-top: 4px solid #1e6b3c; padding: 0 .8rem .8rem; background: #f8fbf9; min-width: 0; overflow-x: auto }
.side.leaky { border-color: #b3261e; background: #fff8f7 } ul { margin: .3rem 0; padding-left: 1.2rem }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start } figure { margin: .3rem 0 }
figcaption { font-size: 11.5px; color: #444; max-width: 46ch } img { max-width: 100% }
.plot img { width: 380px } .sheet img { width: 100%; max-width: 700px } .cam img { width: 240px; min-height: 60px }
"""
