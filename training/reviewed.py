"""Studies that people reviewed in a node's quarantine, as ``pacs-guard quarantine export`` writes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pydicom

from pacs_guard.assemble import find_instances
from training.index import CLEAN, TAMPERED, Index, IndexRow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LABELS = "labels.json"
SOURCE = "reviewed"
FORMAT = 1
_TAGS = ["PatientID", "IssuerOfPatientID", "InstanceNumber", "Modality"]


def read_reviewed(folder: Path) -> Index:
    """Read one export: slices of false alarms are untampered, places that were confirmed are FB or FM.

    Other slices of a confirmed study are neither: nobody has looked at them for this. One patient's studies share one
    name, a hash of the PatientID and its issuer, so that no patient is on both sides of a split.

    Parameters
    ----------
    folder : Path
        With ``labels.json`` and one folder for each study.
    """
    path = folder / LABELS
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
        studies = labels["studies"]
        if labels["format"] != FORMAT:
            return Index((), (f"{path}: has format {labels['format']}, expected {FORMAT}",))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Index((), (f"{path}: is no list of reviewed studies ({error})",))
    rows: list[IndexRow] = []
    problems: list[str] = []
    for number, study in enumerate(studies):
        try:
            rows += _study_rows(folder, study, problems)
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{path}: study {number} lacks or misstates {error}")
    return Index(tuple(rows), tuple(problems))


def _study_rows(folder: Path, study: dict[str, Any], problems: list[str]) -> list[IndexRow]:
    expected = {str(one["sop_uid"]): str(one["sha256"]) for one in study["instances"]}
    instances, lines = find_instances([folder / str(study["folder"])])
    problems += lines
    slices = {}
    for instance in instances:
        uid = instance.key.sop_uid
        if expected.get(uid) != instance.key.sha256:
            problems.append(f"{instance.path}: is not what was exported; its data set has another SHA-256")
            continue
        ds = pydicom.dcmread(instance.path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        if str(ds.get("Modality") or "CT") == "CT":
            key = instance.key
            slices[uid] = IndexRow(
                SOURCE, _patient(ds, key.study_uid), "", key.series_uid, int(ds.get("InstanceNumber") or 0),
                None, None, CLEAN, key.sha256, instance.path,
            )  # fmt: skip
    absent = sorted(set(expected) - {one.key.sop_uid for one in instances})
    if absent:
        problems.append(f"{folder / str(study['folder'])}: {len(absent)} exported instances are missing")
    if study["label"] == CLEAN:
        return list(slices.values())
    return list(_site_rows(slices, study["places"], problems))


def _site_rows(
    slices: dict[str, IndexRow], places: Iterable[dict[str, Any]], problems: list[str]
) -> Iterable[IndexRow]:
    for place in places:
        if place["kind"] not in TAMPERED:
            continue
        at = slices.get(str(place["sop_uid"]))
        if at is None:
            problems.append(f"a reviewed {place['kind']} lies in {place['sop_uid']}, which is missing")
        else:
            yield replace(at, kind=str(place["kind"]), x=round(float(place["x"])), y=round(float(place["y"])))


def _patient(ds: pydicom.Dataset, study_uid: str) -> str:
    who = f"{ds.get('IssuerOfPatientID') or ''}\0{ds.get('PatientID') or study_uid}"
    return f"{SOURCE}:{hashlib.sha256(who.encode()).hexdigest()[:16]}"
