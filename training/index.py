"""One table of every slice and site that a data folder holds, whatever data set it came from."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom

from pacs_guard.assemble import find_instances
from pacs_guard.errors import ConfigurationError
from training.lidc import read_nodules
from training.sources import label_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset

TAMPERED = ("FB", "FM")
CLEAN = "clean"
NODULE = "nodule"
AWAY_SLICES = 40
"""Slices of a tampered scan this far from every altered place are untampered."""

_MANY_PATIENTS = ("singles-", "misc-")
_TAGS = ["Modality", "InstanceNumber", "ImageType", "NumberOfFrames", "PixelSpacing"]


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A slice, or a site on a slice.

    Attributes
    ----------
    source : str
        Data set.
    patient : str
        No patient is ever on both sides of a split. Patients without any altered slice begin with ``clean:``, except
        in the CT-GAN set, where one uuid may be clean in one experiment and altered in the other.
    experiment, series : str
        Of the CT-GAN set, its experiment and uuid; else empty and the SeriesInstanceUID.
    slice : int
        InstanceNumber; 0 where there is none.
    x, y : int or None
        Column and row of the site, from 0; None where the row is about the whole slice.
    kind : str
        FB, FM, TM or TB as in the CT-GAN set; ``nodule`` (a real one, LIDC-IDRI); ``clean`` (an untampered slice).
    sha256 : str
        Of the file, or of its data set where it was read as an instance.
    file : str
        Absolute path.
    readers : int
        How many radiologists marked the nodule; 0 where not known.
    diameter_mm : float
        Largest extent of the nodule on any slice; 0 where not known.
    """

    source: str
    patient: str
    experiment: str
    series: str
    slice: int
    x: int | None
    y: int | None
    kind: str
    sha256: str
    file: str
    readers: int = 0
    diameter_mm: float = 0.0


@dataclass(frozen=True, slots=True)
class Index:
    """The table, and one line for everything that is wrong or missing."""

    rows: tuple[IndexRow, ...]
    problems: tuple[str, ...]

    def digest(self) -> str:
        """Return a hash of what the data are, wherever they lie."""
        lines = sorted(
            repr((one.source, one.patient, one.experiment, one.slice, one.x, one.y, one.kind, one.sha256))
            for one in self.rows
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_index(data: Path) -> Index:
    """Read whatever is there of ``ctgan/`` (the public set's layout) and ``clean/`` (one folder for each patient).

    Raises
    ------
    ConfigurationError
        If neither is there.
    """
    missing = [f"{data / part} is missing" for part in ("ctgan", "clean") if not (data / part).is_dir()]
    if len(missing) == 2:
        raise ConfigurationError(missing)
    rows: list[IndexRow] = []
    problems = list(missing)
    for part, reader in (("ctgan", read_ctgan), ("clean", read_clean)):
        if (data / part).is_dir():
            found = reader(data / part)
            rows += found.rows
            problems += found.problems
    return Index(tuple(rows), tuple(problems))


def read_ctgan(folder: Path) -> Index:
    """Read the CT-GAN set; a scan of which slices are missing is one line, and what is there is used.

    A TB row names no slice: every slice of that scan is untampered. In tampered scans, slices far from every altered
    place are.
    """
    labels: dict[tuple[str, str], list[tuple[str, int, int, int]]] = defaultdict(list)
    for experiment, uuid, kind, number, x, y in label_rows(folder):
        labels[experiment, uuid].append((kind, number, x, y))
    rows: list[IndexRow] = []
    problems: list[str] = [] if labels else [f"{folder}: has neither labels_exp1.csv nor labels_exp2.csv"]
    for (experiment, uuid), marks in sorted(labels.items()):
        scan = folder / "CT_Scans" / experiment / uuid
        files = {int(one.stem): one for one in scan.glob("*.dcm") if one.stem.isdigit()}
        places = sorted({mark for mark in marks if mark[1]})
        absent = sorted({number for _, number, _, _ in places} - set(files))
        if absent:
            have = len({number for _, number, _, _ in places}) - len(absent)
            problems.append(f"{scan}: {have} labelled slices present, missing {', '.join(map(str, absent))}")
        elif not files:
            problems.append(f"{scan}: no slices present")
        rows += _scan_rows(experiment, uuid, places, files)
    return Index(tuple(rows), tuple(problems))


def read_clean(folder: Path) -> Index:
    """Read untampered CT series: one folder for each patient, with LIDC-IDRI's XML files where there are any.

    In folders of single slices (``singles-``, ``misc-``) the patient is the file name up to the first underscore.
    """
    rows: list[IndexRow] = []
    problems: list[str] = []
    for collection in sorted(one for one in folder.iterdir() if one.is_dir()):
        instances, lines = find_instances([collection])
        problems += lines
        by_uid: dict[str, IndexRow] = {}
        spacing: dict[str, float] = {}
        for instance in instances:
            path = Path(instance.path)
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            problem = _unusable(ds)
            if problem:
                problems.append(f"{path}: {problem}")
                continue
            many = collection.name.startswith(_MANY_PATIENTS)
            patient = f"clean:{path.stem.split('_')[0] if many else collection.name}"
            number = int(ds.get("InstanceNumber") or 0)
            key = instance.key
            by_uid[key.sop_uid] = IndexRow(
                collection.name, patient, "", key.series_uid, number, None, None, CLEAN, key.sha256, str(path)
            )
            spacing[key.sop_uid] = float((ds.get("PixelSpacing") or [0.0])[0])
        rows += by_uid.values()
        rows += _nodule_rows(collection, by_uid, spacing, problems)
    return Index(tuple(rows), tuple(problems))


def write_table(index: Index, path: Path) -> None:
    """Write the table as CSV; the column of `kind` is called class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class" if one.name == "kind" else one.name for one in fields(IndexRow)])
        writer.writerows(["" if value is None else value for value in astuple(row)] for row in index.rows)


def summary_lines(index: Index) -> list[str]:
    """Return how many rows, slices and patients there are of each source and class, and how many problems."""
    counts: dict[tuple[str, str], list[IndexRow]] = defaultdict(list)
    for row in index.rows:
        counts[row.source, row.kind].append(row)
    lines = [
        f"{source}: {kind}: {len(rows)} rows, {len({row.file for row in rows})} slices, "
        f"{len({row.patient for row in rows})} patients"
        for (source, kind), rows in sorted(counts.items())
    ]
    total = Counter(row.kind for row in index.rows)
    lines.append("all: " + (", ".join(f"{kind} {count}" for kind, count in sorted(total.items())) or "nothing"))
    lines.append(f"{len(index.problems)} missing or unusable; data hash {index.digest()[:16]}")
    return lines


def _scan_rows(
    experiment: str, uuid: str, places: Iterable[tuple[str, int, int, int]], files: dict[int, Path]
) -> list[IndexRow]:
    altered = [number for kind, number, _, _ in places if kind in TAMPERED]
    labelled = {number for _, number, _, _ in places}
    hashes = {number: _file_hash(path) for number, path in sorted(files.items())}

    def row(number: int, x: int | None, y: int | None, kind: str) -> IndexRow:
        return IndexRow("ctgan", uuid, experiment, uuid, number, x, y, kind, hashes[number], str(files[number]))

    sites = [row(number, x, y, kind) for kind, number, x, y in places if number in files]
    far = [one for one in hashes if one not in labelled and all(abs(one - at) >= AWAY_SLICES for at in altered)]
    return [*sites, *(row(number, None, None, CLEAN) for number in far)]


def _nodule_rows(
    collection: Path, slices: dict[str, IndexRow], spacing: dict[str, float], problems: list[str]
) -> list[IndexRow]:
    rows = []
    for path in sorted(collection.rglob("*.xml")):
        try:
            nodules = read_nodules(path)
        except ConfigurationError as error:
            problems += error.problems
            continue
        for nodule in nodules:
            known = {uid: mark for uid, mark in nodule.marks.items() if uid in slices}
            for uid, mark in known.items():
                at = slices[uid]
                extent = max(other.extent for other in nodule.marks.values()) * spacing[uid]
                site: dict[str, Any] = {"x": round(mark.x), "y": round(mark.y), "kind": NODULE}
                rows.append(replace(at, **site, readers=nodule.readers, diameter_mm=round(extent, 1)))
    return rows


def _unusable(ds: Dataset) -> str | None:
    modality = str(ds.get("Modality") or "")
    if modality not in ("", "CT"):
        return f"its Modality is {modality}, not CT"
    if "LOCALIZER" in (ds.get("ImageType") or ()):
        return "is a localizer"
    if int(ds.get("NumberOfFrames") or 1) > 1:
        return "has several frames; export it as single slices"
    return None


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
