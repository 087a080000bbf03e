"""Command line: ``python -m training``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.errors import PacsGuardError

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    index = commands.add_parser("index", help="say what a data folder holds")
    index.add_argument("--data", type=Path, required=True, help="folder with ctgan/ and clean/")
    index.set_defaults(run=_index)
    fit = commands.add_parser("fit", help="train a model and write its bundle")
    fit.add_argument("model", choices=["forensic"])
    fit.add_argument("--data", type=Path, required=True, help="folder with ctgan/ and clean/")
    fit.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    fit.add_argument("--seed", type=int, default=0)
    fit.set_defaults(run=_fit)
    evaluate = commands.add_parser("evaluate", help="cross-validate a model by patient and report")
    evaluate.add_argument("model", choices=["forensic"])
    evaluate.add_argument("--data", type=Path, required=True, help="folder with ctgan/ and clean/")
    evaluate.add_argument("--report", type=Path, required=True, help="JSON file to write")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.set_defaults(run=_evaluate)
    summary = commands.add_parser("summary", help="print the model card of a bundle, after verifying it")
    summary.add_argument("bundle", help="name, or folder")
    summary.set_defaults(run=_summary)
    return parser


def _index(options: argparse.Namespace) -> None:
    from training.sources import read_all, read_labels  # noqa: PLC0415  # commands import what they need

    cases = read_all(options.data)
    labels = read_labels(options.data / "ctgan")
    wanted = sum(row[0] in {"FB", "FM"} for rows in labels.values() for row in rows)
    kinds = Counter(str(case.target.kind) for case in cases if case.target)
    print(f"tampered slices: {dict(sorted(kinds.items()))}, of {wanted} tampered places in the label files")
    for case in cases:
        if not case.labels:
            rows = " x ".join(str(length) for length in case.volume.hu.shape)
            print(f"clean: {case.source} / {case.name}: {rows}, patient {case.group.removeprefix('clean:')}")


def _fit(options: argparse.Namespace) -> None:
    from training.forensic import fit  # noqa: PLC0415  # commands import what they need

    bundle = fit(options.data, options.out, seed=options.seed)
    print(f"wrote {bundle.name} {bundle.version} to {bundle.path}")


def _evaluate(options: argparse.Namespace) -> None:
    from training.forensic import evaluate, measured_slices, score_unseen  # noqa: PLC0415  # commands import what they need
    from training.report import Figure, as_table  # noqa: PLC0415

    slices = measured_slices(options.data, seed=options.seed)
    report = evaluate(score_unseen(slices, seed=options.seed), slices, seed=options.seed)
    options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(as_table([Figure(**figure) for figure in report["figures"]]))


def _summary(options: argparse.Namespace) -> None:
    from pacs_guard.detect.bundle import find_bundle, load_bundle  # noqa: PLC0415  # commands import what they need

    path = Path(options.bundle)
    bundle = load_bundle(path if path.is_dir() else find_bundle(options.bundle))
    print(bundle.read("MODEL_CARD.md").decode())


if __name__ == "__main__":
    sys.exit(main())
