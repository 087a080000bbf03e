"""Command line: ``python -m training``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs_guard.errors import PacsGuardError
from training.attack_commands import add_commands as add_attack_commands

if TYPE_CHECKING:
    from collections.abc import Sequence


FORENSIC = "forensic"
_MODEL = "forensic, or a classifier of an experiment, such as table6/forest"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except PacsGuardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pacs-guard-train", description="Train, measure and look at detectors.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    index = commands.add_parser("index", help="make one table of a data folder and say what is missing")
    index.add_argument("--data", type=Path, required=True, help="folder with ctgan/, clean/ or both")
    index.add_argument("--table", type=Path, help="CSV file to write")
    index.add_argument("--sheets", type=Path, help="folder to write a sheet of pictures of each class into")
    index.add_argument("--cache", type=Path, help="folder to keep what was read in; ~/.cache/pacs-guard if not given")
    index.set_defaults(run=_index)
    fit = commands.add_parser("fit", help="train a model and write its bundle")
    fit.add_argument("model", help=_MODEL)
    fit.add_argument("--data", type=Path, required=True, help="folder with ctgan/ and clean/")
    fit.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    _add_amounts(fit)
    fit.set_defaults(run=_fit)
    evaluate = commands.add_parser("evaluate", help="cross-validate a model by patient and report")
    evaluate.add_argument("model", help=_MODEL)
    evaluate.add_argument("--data", type=Path, required=True, help="folder with ctgan/ and clean/")
    evaluate.add_argument("--report", type=Path, required=True, help="JSON file to write")
    evaluate.add_argument(
        "--ablation",
        action="store_true",
        help="forensic: features, residual network and both, with simulated edits and without, side by side",
    )
    _add_amounts(evaluate)
    evaluate.set_defaults(run=_evaluate)
    summary = commands.add_parser("summary", help="count a data folder, or print a bundle's model card")
    what = summary.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="folder with ctgan/, clean/ or both")
    what.add_argument("bundle", nargs="?", help="name, or folder; it is verified first")
    summary.add_argument("--cache", type=Path, help="as for index")
    summary.set_defaults(run=_summary)
    _add_experiment(commands)
    exported = commands.add_parser("export", help="fit one classifier and write a bundle that the node runs")
    exported.add_argument("name", help="a localised or delocalised experiment, such as table6")
    exported.add_argument("classifiers", metavar="classifier", help="one of the eight")
    exported.add_argument("--bundle", type=Path, required=True, help="folder of the bundle to write")
    _add_run_options(exported)
    exported.set_defaults(run=_export, protocol="grouped")
    add_attack_commands(commands.add_parser("attack", help="alter series on purpose, to train and to try detectors"))
    calibrate = commands.add_parser("calibrate", help="set a bundle's operating point on own clean series")
    calibrate.add_argument("bundle", help="name or folder of the bundle")
    calibrate.add_argument("--series", type=Path, required=True, help="folder with a folder of each patient's series")
    calibrate.add_argument("--out", type=Path, required=True, help="folder of the new version to write")
    calibrate.add_argument("--version", help="of the new bundle; the old one's with +calibrated if not given")
    calibrate.set_defaults(run=_calibrate)
    _add_retrain(commands)
    report = commands.add_parser("report", help="write the report of what a run of experiments has finished")
    report.add_argument("--out", type=Path, required=True, help="folder of the run")
    report.set_defaults(run=_report)
    return parser


def _add_retrain(commands: Any) -> None:
    retrain = commands.add_parser("retrain", help="train a challenger with a node's labelled studies and compare it")
    retrain.add_argument("champion", type=Path, help="folder of the bundle in force")
    retrain.add_argument("--reviewed", type=Path, required=True, help="folder that pacs-guard quarantine export wrote")
    retrain.add_argument("--data", type=Path, help="base: folder with ctgan/ and clean/")
    retrain.add_argument("--out", type=Path, required=True, help="folder of the new version")
    retrain.add_argument("--version", required=True, help="of the new bundle")
    retrain.add_argument("--proposal", type=Path, required=True, help="JSON file to write")
    retrain.add_argument("--least", type=int, default=6, help="fewest held-back patients of each kind")
    retrain.add_argument("--networks", type=int, default=5, help="for each head of the forensic detector")
    _add_amounts(retrain)
    retrain.set_defaults(run=_retrain)


def _add_experiment(commands: Any) -> None:
    experiment = commands.add_parser("experiment", help="run one of the paper's experiments, or all, and report")
    experiment.add_argument("name", help="a file of the configuration folder, such as table2, or all")
    experiment.add_argument("--protocol", choices=["both", "grouped", "paper"], default="both")
    experiment.add_argument("--classifiers", help="some of them, with commas between")
    _add_run_options(experiment)
    experiment.set_defaults(run=_experiment)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with ctgan/, clean/ or both")
    parser.add_argument("--out", type=Path, default=Path("experiments"), help="folder of the report; resumes there")
    _add_amounts(parser)


def _add_amounts(parser: argparse.ArgumentParser) -> None:
    from training.settings import CONFIGURATION  # noqa: PLC0415  # commands import what they need

    parser.add_argument(
        "--cache",
        type=Path,
        help="folder of pictures and features; OUT/cache if not given, for one model ~/.cache/pacs-guard",
    )
    parser.add_argument("--config", type=Path, default=CONFIGURATION, help="folder of the experiments' files")
    parser.add_argument("--size", default="small", help="a section of sizes.toml: small or full")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, a weights file, or a folder of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="folds and grid points tried at once")
    parser.add_argument("--cluster", help="address of a Dask scheduler to try folds and grid points on")


def _index(options: argparse.Namespace) -> None:
    from training.console import index_command  # noqa: PLC0415  # commands import what they need

    index_command(options.data, options.table, options.sheets, options.cache)


def _experiment(options: argparse.Namespace) -> None:
    from training.console import experiment_command  # noqa: PLC0415  # commands import what they need

    experiment_command(options)


def _export(options: argparse.Namespace) -> None:
    from training.console import export_command  # noqa: PLC0415  # commands import what they need

    export_command(options)


def _report(options: argparse.Namespace) -> None:
    from training.console import report_command  # noqa: PLC0415  # commands import what they need

    print(report_command(options.out))


def _fit(options: argparse.Namespace) -> None:
    if options.model != FORENSIC:
        from training.console import fit_command  # noqa: PLC0415  # commands import what they need

        fit_command(options)
        return
    from training.forensic import fit  # noqa: PLC0415  # commands import what they need

    bundle = fit(options.data, options.out, seed=options.seed)
    print(f"wrote {bundle.name} {bundle.version} to {bundle.path}")


def _calibrate(options: argparse.Namespace) -> None:
    from training.console import calibrate_command  # noqa: PLC0415  # commands import what they need

    calibrate_command(options.bundle, options.series, options.out, options.version)


def _retrain(options: argparse.Namespace) -> None:
    from training.retrain import Run, retrain  # noqa: PLC0415  # commands import what they need

    run = Run(
        champion=options.champion,
        reviewed=options.reviewed,
        data=options.data,
        out=options.out,
        version=options.version,
        proposal=options.proposal,
        least=options.least,
        seed=options.seed,
        networks=options.networks,
    )
    retrain(run, options)
    print(options.proposal.with_suffix(".txt").read_text(encoding="utf-8"), end="")


def _evaluate(options: argparse.Namespace) -> None:
    if options.model != FORENSIC:
        from training.console import evaluate_command  # noqa: PLC0415  # commands import what they need

        evaluate_command(options)
        return
    if options.ablation:
        from training.ablation import ablation_command  # noqa: PLC0415  # commands import what they need

        print(ablation_command(options.data, options.report, seed=options.seed))
        return
    from training.forensic import evaluate, measured_slices, score_unseen  # noqa: PLC0415  # commands import what they need
    from training.report import Figure, as_table  # noqa: PLC0415

    slices = measured_slices(options.data, seed=options.seed)
    report = evaluate(score_unseen(slices, seed=options.seed), slices, seed=options.seed)
    options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(as_table([Figure(**figure) for figure in report["figures"]]))


def _summary(options: argparse.Namespace) -> None:
    if options.data is not None:
        from training.console import summary_command  # noqa: PLC0415  # commands import what they need

        summary_command(options.data, options.cache)
        return
    from pacs_guard.detect.bundle import find_bundle, load_bundle  # noqa: PLC0415  # commands import what they need

    path = Path(options.bundle)
    bundle = load_bundle(path if path.is_dir() else find_bundle(options.bundle))
    print(bundle.read("MODEL_CARD.md").decode())


if __name__ == "__main__":
    sys.exit(main())
