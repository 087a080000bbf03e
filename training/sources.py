"""Labelled and clean data sets, read by the node's own assembler so that training sees the arrays the node sees."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.lidc import read_nodules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pacs_guard.domain.volume import AssembledSeries, Volume

EXPERIMENTS = {"labels_exp1.csv": "EXP1_blind", "labels_exp2.csv": "EXP2_open"}

_REACH_MM = 40.0
_FAKES = {"FB": FindingKind.FB, "FM": FindingKind.FM}
_MANY_PATIENTS = ("singles-", "misc-")


@dataclass(frozen=True, slots=True)
class Label:
    """A tampered place as the label file gives it.

    Attributes
    ----------
    kind : FindingKind
        FB or FM.
    x, y : int
        Column and row, from 0.
    depth_mm : float
        Distance of the labelled slice from the slice at hand, mm; 0 on the labelled slice itself.
    radius_mm: float
        How far around the place everything was altered, where that is known.
    """

    kind: FindingKind
    x: int
    y: int
    depth_mm: float = 0.0
    radius_mm: float = inf


@dataclass(frozen=True, slots=True)
class Case:
    """A volume with what is known of it.

    Attributes
    ----------
    source : str
        Data set.
    group : str
        Patient; no patient is ever on both sides of a split.
    name : str
        For reports.
    volume : Volume
        A series, or a single slice.
    labels : tuple of Label
        Tampered places on or near the slice; empty for clean series.
    hard : tuple of (int, int)
        Columns and rows of places that look like tampering and are none.
    nodules : mapping of int to tuple of (float, float)
        By slice, columns and rows of nodules that radiologists marked.
    attack : str
        Name of the simulated attack that made it; empty for what is real.
    """

    source: str
    group: str
    name: str
    volume: Volume
    labels: tuple[Label, ...] = ()
    hard: tuple[tuple[int, int], ...] = ()
    nodules: Mapping[int, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    attack: str = ""

    @property
    def target(self) -> Label | None:
        """The place labelled on this very slice, if there is one."""
        return next((label for label in self.labels if label.depth_mm == 0), None)


def read_labels(folder: Path) -> dict[tuple[str, str], list[tuple[str, int, int, int]]]:
    """Read the label files of the public set.

    Returns
    -------
    dict
        (experiment, uuid) to rows of (type, slice, x, y). Rows that call a whole scan clean (TB, all 0) are left out.
    """
    labels: dict[tuple[str, str], list[tuple[str, int, int, int]]] = {}
    for experiment, uuid, kind, number, x, y in label_rows(folder):
        if kind != "TB" or number:
            labels.setdefault((experiment, uuid), []).append((kind, number, x, y))
    return labels


def label_rows(
    folder: Path, said: Callable[[str], None] | None = None
) -> Iterator[tuple[str, str, str, int, int, int]]:
    """Yield (experiment, uuid, type, slice, x, y) of every row of the label files that are there.

    Parameters
    ----------
    folder : Path
    said : callable, optional
        Told of rows that are none, file and line; the others are still read.

    Raises
    ------
    ConfigurationError
        If a row is none, and there is nobody to tell.
    """
    for file, experiment in EXPERIMENTS.items():
        if not (folder / file).is_file():
            continue
        with (folder / file).open(newline="", encoding="utf-8-sig") as stream:
            for line, row in enumerate(csv.DictReader(stream), start=2):
                try:
                    number = int(row.get("slice") or row.get("z") or 0)
                    yield experiment, row["uuid"], row["type"], number, int(row["x"]), int(row["y"])
                except (KeyError, TypeError, ValueError) as error:
                    wrong = f"{folder / file}, line {line}: expected type,uuid,slice,x,y, found {dict(row)}"
                    if said is None:
                        raise ConfigurationError([wrong]) from error
                    said(wrong)


def tampered_slices(folder: Path) -> Iterator[Case]:
    """Yield every labelled tampered slice that is there, each as a volume of one slice.

    Parameters
    ----------
    folder : Path
        With ``labels_exp1.csv`` and ``CT_Scans/EXP1_blind/<uuid>/<slice>.dcm`` and so on; slices that are missing are
        passed over.
    """
    for (experiment, uuid), rows in sorted(read_labels(folder).items()):
        for number in sorted({row[1] for row in rows if row[0] in _FAKES}):
            path = folder / "CT_Scans" / experiment / uuid / f"{number}.dcm"
            if not path.is_file():
                continue
            volume = _only(_assembled(path)).volume
            if volume is None:
                raise ConfigurationError([f"{path}: no slice could be made of it"])
            labels = _labels_near(rows, number, volume.spacing_mm[0])
            yield Case("ctgan", uuid, f"{uuid}/{number}", volume, labels)


def clean_series(folder: Path) -> Iterator[Case]:
    """Yield every untampered series, and every single slice, under `folder`: one folder for each patient.

    In folders of single slices the patient is the file name's part before the first underscore. Radiologists' marks are
    read from XML files in the folder (LIDC-IDRI).
    """
    for collection in sorted(one for one in folder.iterdir() if one.is_dir()):
        marks = _marks(collection)
        for series in _assembled(collection):
            if series.volume is None:
                continue
            file = Path(min(series.files.values())) if series.files else collection
            many = collection.name.startswith(_MANY_PATIENTS)
            group = file.stem.split("_")[0] if many else collection.name
            name = file.stem if many else (file.parent.name if file.parent != collection else collection.name)
            nodules = {i: marks[uid] for i, uid in enumerate(series.volume.sop_uids) if uid in marks}
            yield Case(collection.name, f"clean:{group}", name, series.volume, nodules=nodules)


def read_all(data: Path) -> list[Case]:
    """Read the tampered slices and the clean series of a data folder.

    Raises
    ------
    ConfigurationError
        If either is absent.
    """
    problems = [f"{data / part} is missing; expected a folder with {part}" for part in ("ctgan", "clean")]
    problems = [line for line, part in zip(problems, ("ctgan", "clean"), strict=True) if not (data / part).is_dir()]
    if problems:
        raise ConfigurationError(problems)
    cases = [*tampered_slices(data / "ctgan"), *clean_series(data / "clean")]
    if not any(case.labels for case in cases) or all(case.labels for case in cases):
        raise ConfigurationError([f"{data}: expected tampered slices under ctgan and untampered series under clean"])
    return cases


def read_series(folder: Path) -> list[Volume]:
    """Return the volumes of a folder's series, in no order, as the node's assembler makes them."""
    return [series.volume for series in _assembled(folder) if series.volume is not None]


def read_slice(path: Path) -> Volume | None:
    """Return the single slice of a file as the node's assembler makes it, or None if it makes none."""
    return next((series.volume for series in _assembled(path) if series.volume is not None), None)


def _assembled(path: Path) -> Iterator[AssembledSeries]:
    instances, _ = find_instances([path])
    return assemble_study(instances, Path("/"), split_gaps=True, from_network=False)


def _marks(folder: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    marks: dict[str, tuple[tuple[float, float], ...]] = {}
    for path in sorted(folder.rglob("*.xml")):
        for nodule in read_nodules(path):
            for uid, mark in nodule.marks.items():
                marks[uid] = (*marks.get(uid, ()), (mark.x, mark.y))
    return marks


def _only(series: Iterator[AssembledSeries]) -> AssembledSeries:
    return next(series)


def _labels_near(rows: list[tuple[str, int, int, int]], number: int, thickness_mm: float) -> tuple[Label, ...]:
    near = [
        Label(_FAKES[kind], x, y, abs(at - number) * thickness_mm)
        for kind, at, x, y in rows
        if kind in _FAKES and abs(at - number) * thickness_mm <= _REACH_MM
    ]
    return tuple(sorted(near, key=lambda label: label.depth_mm))
