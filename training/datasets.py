"""Read whatever data sets a folder holds into one index; what was read before and has not changed is not read again."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom

from pacs_guard.assemble import find_instances
from pacs_guard.errors import ConfigurationError
from training.index import AWAY_SLICES, CLEAN, NODULE, TAMPERED, Index, IndexRow, joined
from training.indexcache import IndexCache
from training.lidc import read_nodules
from training.reviewed import LABELS, read_reviewed
from training.sources import EXPERIMENTS, label_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pacs_guard.domain.instance import StoredInstance

LIDC = "LIDC-IDRI"
REACH_MM = 10.0
"""How far from the labelled slice the others of a site are: CT-GAN makes the middle 20 mm of its cube anew.

Between these and the faces of the 32 mm cube only little is altered: such slices are neither altered nor untampered."""

_CUBE_MM = 16.0
"""Half the edge of CT-GAN's cube: a place this near to one labelled on the same slice is the same place."""

_MANY_PATIENTS = ("singles-", "misc-")
_TAGS = ["Modality", "InstanceNumber", "ImageType", "NumberOfFrames", "PixelSpacing", "SliceThickness"]
_TAGS += ["Rows", "Columns", "BitsAllocated", "PixelData"]
_EXPECTED = (
    f"expected ctgan, clean, {LIDC} or reviewed in it, labels_exp1.csv, or one folder of series for each patient"
)
_UNCOMPRESSED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}


def read_index(data: Path, cache: Path | None = None) -> Index:
    """Read all that a folder holds.

    ``ctgan`` is the public set in its own layout; ``clean`` and ``LIDC-IDRI`` hold one folder for each patient, as TCIA
    lays them out; ``reviewed`` holds what ``pacs-guard quarantine export`` wrote. Without any of these, `data` is the
    public set itself, or one folder of DICOM series for each patient.

    Parameters
    ----------
    data : Path
    cache : Path, optional
        Folder to keep what was read in; a scan or patient of whose files path, size and time are the same as before is
        not read again.

    Raises
    ------
    ConfigurationError
        If there is nothing to read.
    """
    parts = {name: data / name for name in ("ctgan", "clean", LIDC, "reviewed") if (data / name).is_dir()}
    kept = IndexCache(cache)
    if not parts and any((data / file).is_file() for file in EXPERIMENTS):
        return read_ctgan(data, kept)
    if not parts and data.is_dir() and any(one.is_dir() for one in data.iterdir()):
        return read_series(data, None, kept)
    if not parts:
        raise ConfigurationError([f"{data}: {_EXPECTED}"])
    missing = [f"{data / name} is missing" for name in ("ctgan", "clean") if name not in parts]
    found = [Index((), tuple(missing))]
    if "ctgan" in parts:
        found.append(read_ctgan(parts["ctgan"], kept))
    if "clean" in parts:
        found.append(read_series(parts["clean"], None, kept))
    if LIDC in parts:
        found.append(read_series(parts[LIDC], LIDC, kept))
    if "reviewed" in parts:
        exports = sorted(parts["reviewed"].rglob(LABELS))
        found += [kept.read(one.parent, "reviewed", lambda one=one: read_reviewed(one.parent)) for one in exports]  # type: ignore[misc]  # a lambda's default
    return joined(found)


def read_ctgan(folder: Path, cache: IndexCache | None = None) -> Index:
    """Read the CT-GAN set; a scan of which slices are missing is one line, and what is there is used.

    A site is altered on the slices within `REACH_MM` of the labelled one, so far as they are there. A TB row names no
    slice: every slice of that scan is untampered. In tampered scans, slices far from every altered place are.
    """
    labels: dict[tuple[str, str], list[tuple[str, int, int, int]]] = defaultdict(list)
    problems: list[str] = []
    for experiment, uuid, kind, number, x, y in label_rows(folder, problems.append):
        labels[experiment, uuid].append((kind, number, x, y))
    if not labels:
        problems.append(f"{folder}: has neither labels_exp1.csv nor labels_exp2.csv with any label")
    found = [Index((), tuple(problems))]
    for (experiment, uuid), marks in sorted(labels.items()):
        scan = folder / "CT_Scans" / experiment / uuid

        def read(scan: Path = scan, marks: Iterable[tuple[str, int, int, int]] = tuple(marks)) -> Index:
            return _read_scan(scan, marks)

        found.append((cache or IndexCache(None)).read(scan, repr(sorted(marks)), read))
    return joined(found)


def read_series(folder: Path, source: str | None = None, cache: IndexCache | None = None) -> Index:
    """Read untampered CT series: one folder for each patient, with LIDC-IDRI's XML files where there are any.

    In folders of single slices (``singles-``, ``misc-``) the patient is the file name up to the first underscore.

    Parameters
    ----------
    folder : Path
    source : str, optional
        Name of the data set; the patient's folder if not given.
    cache : IndexCache, optional
    """
    found = []
    loose = sum(one.suffix.lower() == ".dcm" for one in folder.iterdir() if one.is_file())
    if loose:
        found.append(Index((), (f"{folder}: {loose} files lie beside the patients' folders and were left out",)))
    for collection in sorted(one for one in folder.iterdir() if one.is_dir()):

        def read(collection: Path = collection) -> Index:
            return _read_collection(collection, source)

        found.append((cache or IndexCache(None)).read(collection, f"series {source}", read))
    return joined(found)


def _read_scan(scan: Path, marks: Iterable[tuple[str, int, int, int]]) -> Index:
    experiment, uuid = scan.parent.name, scan.name
    files = {int(one.stem): one for one in scan.glob("*.dcm") if one.stem.isdigit()}
    places = sorted({mark for mark in marks if mark[1]})
    labelled = {number for _, number, _, _ in places}
    absent = sorted(labelled - set(files))
    problems = []
    if absent:
        have = len(labelled) - len(absent)
        problems.append(f"{scan}: {have} labelled slices present, missing {', '.join(map(str, absent))}")
    elif not files:
        problems.append(f"{scan}: no slices present")
    hashes: dict[int, str] = {}
    thickness = spacing = 0.0
    for instance, ds in _usable(find_instances([files[number] for number in sorted(files)]), problems):
        hashes[int(Path(instance.path).stem)] = instance.key.sha256
        thickness = float(ds.get("SliceThickness") or thickness)
        spacing = float((ds.get("PixelSpacing") or [spacing])[0])

    def row(number: int, x: int | None, y: int | None, kind: str, depth_mm: float = 0.0) -> IndexRow:
        file = str(files[number].resolve())
        return IndexRow(
            "ctgan", uuid, experiment, uuid, number, x, y, kind, hashes[number], file, depth_mm=round(depth_mm, 3)
        )

    sites = [row(number, x, y, kind) for kind, number, x, y in places if number in hashes]
    for kind, at, x, y in places:
        for number in _other_slices(at, thickness) if kind in TAMPERED else ():
            labelled_there = [(one[2], one[3]) for one in places if one[1] == number and one[0] in TAMPERED]
            if number in hashes and all(math.hypot(x - i, y - j) * spacing > _CUBE_MM for i, j in labelled_there):
                sites.append(row(number, x, y, kind, (number - at) * thickness))
    altered = [number for kind, number, _, _ in places if kind in TAMPERED]
    far = [one for one in hashes if one not in labelled and all(abs(one - at) >= AWAY_SLICES for at in altered)]
    return Index((*sites, *(row(number, None, None, CLEAN) for number in far)), tuple(problems))


def _other_slices(at: int, thickness_mm: float) -> list[int]:
    """Return the numbers of the other slices that a site labelled on slice `at` is altered on."""
    reach = int(REACH_MM / thickness_mm) if thickness_mm > 0 else 0
    return [number for number in range(max(1, at - reach), at + reach + 1) if number != at]


def _read_collection(collection: Path, source: str | None) -> Index:
    problems: list[str] = []
    by_uid: dict[str, IndexRow] = {}
    spacing: dict[str, float] = {}
    for instance, ds in _usable(find_instances([collection]), problems):
        path, key = Path(instance.path), instance.key
        many = collection.name.startswith(_MANY_PATIENTS)
        patient = f"clean:{path.stem.split('_')[0] if many else collection.name}"
        number = int(ds.get("InstanceNumber") or 0)
        of = source or collection.name
        by_uid[key.sop_uid] = IndexRow(
            of, patient, "", key.series_uid, number, None, None, CLEAN, key.sha256, str(path)
        )
        spacing[key.sop_uid] = float((ds.get("PixelSpacing") or [0.0])[0])
    rows = [*by_uid.values(), *_nodule_rows(collection, by_uid, spacing, problems)]
    return Index(tuple(rows), tuple(problems))


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
            largest = max(mark.extent for mark in nodule.marks.values())
            for uid, mark in nodule.marks.items():
                if uid not in slices:
                    continue
                size: dict[str, Any] = {
                    "diameter_px": round(largest, 1),
                    "diameter_mm": round(largest * spacing[uid], 1),
                }
                site: dict[str, Any] = {"x": round(mark.x), "y": round(mark.y), "kind": NODULE}
                rows.append(replace(slices[uid], **site, readers=nodule.readers, **size))
    return rows


def _usable(
    found: tuple[list[StoredInstance], list[str]], problems: list[str]
) -> Iterator[tuple[StoredInstance, pydicom.Dataset]]:
    """Yield the instances that are whole CT slices, with some of their header; of the others add a line."""
    instances, lines = found
    problems += lines
    for instance in instances:
        with warnings.catch_warnings():
            # what is wrong with a header is said below or does not matter here
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(instance.path, force=True, specific_tags=_TAGS)
        problem = _unusable(ds, instance)
        if problem:
            problems.append(f"{instance.path}: {problem}")
        else:
            yield instance, ds


def _unusable(ds: pydicom.Dataset, instance: StoredInstance) -> str | None:
    modality = str(ds.get("Modality") or "")
    if modality not in ("", "CT"):
        return f"its Modality is {modality}, not CT"
    if "LOCALIZER" in (ds.get("ImageType") or ()):
        return "is a localizer"
    if int(ds.get("NumberOfFrames") or 1) > 1:
        return "has several frames; export it as single slices"
    if not ds.get("Rows") or not ds.get("Columns"):
        return "has no image"
    size = int(ds.Rows) * int(ds.Columns) * int(ds.get("BitsAllocated") or 16) // 8
    if instance.transfer_syntax_uid in _UNCOMPRESSED and len(ds.get("PixelData") or b"") < size:
        return f"ends before its {ds.Rows} x {ds.Columns} pixels do; download it again"
    return None
