"""Training time of all eight classifiers for one experiment, with and without the cache of features.

Run it on a machine that does nothing else::

    python tests/benchmarks/training_time.py --experiment table5
    python tests/benchmarks/training_time.py --data FOLDER --weights imagenet

Without ``--data`` (or ``PACS_GUARD_DATA``) the pictures are slices of phantoms; the time is the same, the figures mean
nothing and are not printed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.simulate import make_phantom, write_series
from training.classifiers import TITLES, Weights, unconverged
from training.datasets import read_index
from training.experiments import Plan, best_parameters, features_of, out_of_part, prepare
from training.index import Index, IndexRow
from training.settings import ProtocolName, read_experiments, read_size

if TYPE_CHECKING:
    from training.experiments import Pictures

_SLICES = 8
_SITE = 180, 250


@dataclass(frozen=True, slots=True)
class _Row:
    """Seconds that one classifier took."""

    title: str
    features: float
    cached: float
    training: float

    def line(self) -> str:
        first, again = self.features + self.training, self.cached + self.training
        columns = [self.features, self.cached, self.training, first, again]
        return f"| {self.title} | " + " | ".join(f"{one:.2f}" for one in columns) + f" | {first / again:.0f} |"


def main() -> None:
    """Print the table."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        index = read_index(arguments.data) if arguments.data else _phantoms(cache / "phantoms", arguments.patients)
        experiment = read_experiments()[arguments.experiment]
        plan = Plan(
            (experiment,),
            (ProtocolName.GROUPED,),
            tuple(arguments.classifiers),
            read_size(arguments.size),
            Weights(arguments.weights),
            jobs=arguments.jobs,
        )
        started = time.perf_counter()
        made = prepare(plan, experiment, ProtocolName.GROUPED, index, cache)
        seconds = time.perf_counter() - started
        count = sum(part.shape[0] * part.shape[1] for part, _ in made.parts)
        source = "real slices" if arguments.data else "phantoms"
        print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; ", end="")
        print(f"{experiment.name}, size {plan.size.name}, {count} pictures of {source}, made in {seconds:.0f} s\n")
        print("| classifier | features, s | from the cache, s | grid and folds, s | first run, s | again, s | times |")
        print("|---|---|---|---|---|---|---|", flush=True)
        rows = []
        for name in plan.classifiers:
            rows.append(_time(plan, name, made, cache))
            print(rows[-1].line(), flush=True)
        total = _Row("all", *(sum(getattr(row, part) for row in rows) for part in ("features", "cached", "training")))
        print(total.line())
        fits = len(made.split.folds) + 1
        print(
            f"\nThe cache saves {total.features - total.cached:.0f} s each time the experiment runs again. "
            f"Computed, not measured: a base that convolved the pictures of each of the {fits} fits after the grid "
            f"for itself would take {fits * total.features:.0f} s for one epoch."
        )


def _time(plan: Plan, name: str, made: Pictures, cache: Path) -> _Row:
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        features = features_of(plan, name, made, cache)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    answers = made.table.row_answers
    with unconverged():
        parameters, _ = best_parameters(plan, name, features, answers, made.split)
        out_of_part(plan, name, features, made, parameters)
    return _Row(TITLES[name], *seconds, time.perf_counter() - started)


def _phantoms(folder: Path, patients: int) -> Index:
    """Write phantoms and index them, half of them as altered, which they are not: only time is measured."""
    rows = []
    for patient in range(patients):
        volume = make_phantom(slices=_SLICES, slice_mm=5.0, seed=patient)
        altered = patient % 2 == 0
        for number, file in enumerate(write_series(volume, folder / str(patient)), start=1):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            who, kind = (str(patient), "FB" if patient % 4 else "FM") if altered else (f"clean:{patient}", "clean")
            x, y = _SITE if altered else (None, None)
            rows.append(IndexRow("phantom", who, "", volume.series_uid, number, x, y, kind, digest, str(file)))
    return Index(tuple(rows), ())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = os.environ.get("PACS_GUARD_DATA")
    parser.add_argument("--data", type=Path, default=Path(known) if known else None)
    parser.add_argument("--experiment", default="table5")
    parser.add_argument("--size", default="small")
    parser.add_argument("--weights", default="none", help="imagenet, none, a file or a folder")
    parser.add_argument("--classifiers", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--patients", type=int, default=16, help="phantoms, where there are no data")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
