"""The commands about data sets and experiments, with their progress."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs_guard.errors import ConfigurationError
from training.classifiers import CONVENTIONAL
from training.settings import ProtocolName, read_experiments, read_size

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from training.experiments import Plan
    from training.index import Index
    from training.settings import Experiment

RUN = "run.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pacs-guard"
"""Where ``index`` and ``summary`` keep what they read of a data folder, if not told where."""

_ON_SHEET = 6
_SHEET_SHAPE = (192, 192)


def index_command(data: Path, table: Path | None, sheets: Path | None = None, cache: Path | None = None) -> None:
    """Read a data folder, say line by line what is missing or wrong, and what there is.

    The table, and a sheet of pictures of each class, are written if asked for.
    """
    from training.datasets import read_index  # noqa: PLC0415  # commands import what they need
    from training.index import summary_lines, write_table  # noqa: PLC0415

    index = read_index(data, cache or CACHE)
    for line in index.problems:
        print(line, file=sys.stderr)
    if table is not None:
        write_table(index, table)
        print(f"wrote {len(index.rows)} rows to {table}")
    if sheets is not None:
        _write_sheets(index, sheets)
    print("\n".join(summary_lines(index)))


def _write_sheets(index: Index, folder: Path) -> None:
    from training.figures import draw_samples  # noqa: PLC0415  # commands import what they need
    from training.samples import contact_pictures  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    for kind, pictures in contact_pictures(index, _ON_SHEET, _SHEET_SHAPE, seed=0):
        draw_samples(pictures, [kind] * len(pictures), folder / f"{kind}.png")
        print(f"wrote {folder / kind}.png")


def summary_command(data: Path, cache: Path | None = None) -> None:
    """Say what a data folder holds."""
    from training.datasets import read_index  # noqa: PLC0415  # commands import what they need
    from training.index import summary_lines  # noqa: PLC0415

    print("\n".join(summary_lines(read_index(data, cache or CACHE))))


def experiment_command(options: argparse.Namespace) -> None:
    """Run one experiment or all, show how far it is, and write the report even if it ends early."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from training.datasets import read_index  # noqa: PLC0415
    from training.experiments import run  # noqa: PLC0415  # commands import what they need

    plan = plan_of(options)
    index = read_index(options.data, _cache(options))
    if plan.weights.warning:
        print(plan.weights.warning, file=sys.stderr)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = _facts(plan, index, read_experiments(options.config).values())
    (options.out / RUN).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    done = []
    try:
        with Progress(*columns, refresh_per_second=2) as progress:
            task = progress.add_task("reading", total=len(plan.cells()))

            def say(text: str) -> None:
                progress.update(task, description=text)

            for result in run(plan, index, options.out, _cache(options), say=say):
                done.append(result)
                progress.advance(task)
                progress.console.print(_line(result), highlight=False)
    finally:
        if done:
            print(f"report: {report_command(options.out)}")


def export_command(options: argparse.Namespace) -> None:
    """Write the bundle of one classifier, and its figure."""
    from training.datasets import read_index  # noqa: PLC0415
    from training.export import export  # noqa: PLC0415  # commands import what they need

    plan = plan_of(options)
    if len(plan.experiments) != 1 or len(plan.classifiers) != 1:
        raise ConfigurationError(["export needs one experiment and one classifier"])
    if plan.weights.warning and plan.classifiers[0] not in CONVENTIONAL:
        print(plan.weights.warning, file=sys.stderr)
    bundle = export(plan, read_index(options.data, _cache(options)), options.bundle, _cache(options))
    figure = bundle.manifest["figures"][0]
    print(f"{figure['name']}: {figure['value']} ({figure['low']} to {figure['high']}), {figure['n']}")
    print(f"wrote {bundle.name} to {bundle.path}")


def fit_command(options: argparse.Namespace) -> None:
    """Train one classifier of an experiment, such as ``table6/forest``, and write its bundle, as ``export`` does."""
    _name_model(options)
    options.bundle = options.out
    export_command(options)


def evaluate_command(options: argparse.Namespace) -> None:
    """Measure one classifier of an experiment, grouped by patient, and write its result as JSON."""
    from training.datasets import read_index  # noqa: PLC0415  # commands import what they need
    from training.experiments import run  # noqa: PLC0415

    _name_model(options)
    plan = plan_of(options)
    if plan.weights.warning and plan.classifiers[0] not in CONVENTIONAL:
        print(plan.weights.warning, file=sys.stderr)
    index = read_index(options.data, options.cache)
    (result,) = run(plan, index, options.cache / "evaluated", options.cache)
    options.report.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(_line(result))


def _name_model(options: argparse.Namespace) -> None:
    options.name, _, options.classifiers = options.model.partition("/")
    if not options.classifiers or "," in options.classifiers:
        raise ConfigurationError([f"the model is {options.model!r}; expected forensic, or such as table6/forest"])
    options.protocol, options.cache = "grouped", options.cache or CACHE


def calibrate_command(name: str, series: Path, out: Path, version: str | None = None) -> None:
    """Write a bundle again, calibrated on own clean series, and say how that changed its operating point."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from pacs_guard.detect.bundle import find_bundle, load_bundle  # noqa: PLC0415  # commands import what they need
    from training.classifier_calibration import recalibrate_classifier  # noqa: PLC0415
    from training.recalibrate import recalibrate  # noqa: PLC0415
    from training.sources import clean_series  # noqa: PLC0415

    before = load_bundle(Path(name) if Path(name).is_dir() else find_bundle(name))
    version = version or f"{before.version}+calibrated"
    problems: list[str] = []
    if before.detector == "forensic":
        after = recalibrate(before, clean_series(series), out, version=version)
    else:
        with Progress(SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")) as progress:
            task = progress.add_task("reading")

            def say(text: str) -> None:
                progress.update(task, description=text)

            after, problems = recalibrate_classifier(before, series, out, version=version, say=say)
    for line in problems:
        print(line, file=sys.stderr)
    print(f"operating point {before.manifest['operating_point']} -> {after.manifest['operating_point']}")
    print(f"wrote {after.name} {after.version} to {after.path}")


def report_command(folder: Path) -> Path:
    """Write the report of what a run has finished so far.

    Raises
    ------
    ConfigurationError
        If there is no run in `folder`.
    """
    from training.experiment_report import read_results, write_report  # noqa: PLC0415  # commands import what they need

    try:
        facts = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"{folder} holds no run: {RUN} cannot be read ({error.strerror})"]) from error
    return write_report(folder, facts, read_results(folder, facts["made_with"]))


def plan_of(options: argparse.Namespace) -> Plan:
    """Return what the command line asks for.

    Raises
    ------
    ConfigurationError
        If an experiment or classifier is not known.
    """
    from training.classifiers import TITLES, Weights  # noqa: PLC0415  # commands import what they need
    from training.experiments import Plan, classifier_order  # noqa: PLC0415

    known = read_experiments(options.config)
    names = list(known) if options.name == "all" else [options.name]
    problems = [f"there is no experiment {one!r}; there are {', '.join(known)}" for one in names if one not in known]
    wanted = options.classifiers.split(",") if options.classifiers else list(TITLES)
    problems += [
        f"there is no classifier {one!r}; there are {', '.join(TITLES)}" for one in wanted if one not in TITLES
    ]
    if problems:
        raise ConfigurationError(problems)
    return Plan(
        experiments=tuple(known[one] for one in names),
        protocols=tuple(ProtocolName) if options.protocol == "both" else (ProtocolName(options.protocol),),
        classifiers=classifier_order(wanted),
        size=read_size(options.size, options.config),
        weights=Weights(options.weights, options.seed),
        seed=options.seed,
        jobs=options.jobs,
        cluster=options.cluster,
    )


def _cache(options: argparse.Namespace) -> Path:
    return Path(options.cache or options.out / "cache")


def _facts(plan: Plan, index: Index, known: Iterable[Experiment]) -> dict[str, Any]:
    import sklearn  # noqa: PLC0415  # slow to import

    return {
        "titles": {one.name: f"{one.title} ({one.figures})" for one in known},
        "made_with": plan.made_with(index.digest()),
        "base": plan.weights.warning or "ImageNet or given weights",
        "experiments": [asdict(one) for one in known],
        "size": plan.size.as_dict(),
        "rows": len(index.rows),
        "versions": {"python": platform.python_version(), "scikit-learn": sklearn.__version__},
        "problems": list(index.problems),
    }


def _line(result: dict[str, Any]) -> str:
    area = "none" if result["auc"] is None else f"{result['auc']:.3f}"
    warning = " RANDOM BASE" if result["warning"] else ""
    return (
        f"{result['experiment']} {result['protocol']} ({result['mark']}) {result['classifier']}: test accuracy "
        f"{result['accuracy']:.3f}, AUC {area}, n {result['n']['test']['pictures']}{warning}"
    )
