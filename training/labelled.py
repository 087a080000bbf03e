"""Studies that a node labelled, one at a time and split by patient, for training a challenger and comparing it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.reviewed import FORMAT, LABELS
from training.sources import Case, Label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs_guard.domain.volume import AssembledSeries, Volume

HELD_BACK = 0.4
"""Share of the patients that no challenger ever learns from: by a hash, so that it is the same patients every time."""

TAMPERED, CLEAN, PRESUMED = "tampered", "clean", "presumed clean"
MOST_SLICES = 40
"""Of a clean series, around what was suspected in it; whole series of many studies would not fit into memory."""

_DEPTH_MM = 40.0
_TAGS = ["PatientID", "IssuerOfPatientID"]


@dataclass(frozen=True, slots=True)
class LabelledStudy:
    """One study of an export.

    Attributes
    ----------
    folder : Path
    patient : str
        A hash.
    label : str
        ``tampered``, ``clean`` (a person looked), or ``presumed clean`` (it passed and nobody looked).
    places : tuple of dict
        Of tampered studies where, with ``kind``, ``sop_uid``, ``x`` and ``y``.
    found : tuple of dict
        Where the detector suspected something, rightly or not.
    """

    folder: Path
    patient: str
    label: str
    places: tuple[dict[str, Any], ...] = ()
    found: tuple[dict[str, Any], ...] = ()

    @property
    def held_back(self) -> bool:
        """Whether its patient is one that no challenger learns from."""
        return is_held_back(self.patient)

    def series(self) -> Iterator[AssembledSeries]:
        """Yield its series as the node assembles them."""
        instances, _ = find_instances([self.folder])
        yield from assemble_study(instances, Path("/"))


def is_held_back(patient: str) -> bool:
    """Say whether a patient, by hash, is one that no challenger learns from."""
    return int(patient[:8], 16) < HELD_BACK * 0x1_0000_0000


def read_labelled(folder: Path) -> list[LabelledStudy]:
    """Read the studies of an export.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    path = folder / LABELS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ConfigurationError([f"{path} has format {content['format']}; expected {FORMAT}"])
        return [_study(folder, one) for one in content["studies"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigurationError([f"{path} is no list of labelled studies: {error}"]) from error


def _study(folder: Path, entry: dict[str, Any]) -> LabelledStudy:
    ds = pydicom.dcmread(
        folder / entry["instances"][0]["file"], stop_before_pixels=True, force=True, specific_tags=_TAGS
    )
    who = f"{ds.get('IssuerOfPatientID') or ''}\0{ds.get('PatientID') or entry['folder']}"
    return LabelledStudy(
        folder=folder / entry["folder"],
        patient=hashlib.sha256(who.encode()).hexdigest()[:16],
        label=PRESUMED if entry["action"] == "none" else entry["label"],
        places=tuple(entry["places"]),
        found=tuple(entry.get("found", ())),
    )


def training_cases(studies: list[LabelledStudy]) -> Iterator[Case]:
    """Yield what a challenger may learn from: labelled slices of altered studies, stretches of clean ones."""
    altered = {one.patient for one in studies if one.label == TAMPERED}
    for study in studies:
        if study.held_back or study.label == PRESUMED:
            continue
        # a patient with an altered study is dealt out with the altered ones, so as to be on one side only
        group = f"reviewed:{study.patient}" if study.patient in altered else f"clean:reviewed:{study.patient}"
        for series in study.series():
            if series.volume is None:
                continue
            if study.label == TAMPERED:
                yield from _altered_slices(study, group, series.volume)
            else:
                yield _clean_stretch(study, group, series.volume)


def _altered_slices(study: LabelledStudy, group: str, volume: Volume) -> Iterator[Case]:
    order = {uid: index for index, uid in enumerate(volume.sop_uids)}
    places = [(order[one["sop_uid"]], one) for one in study.places if one["sop_uid"] in order]
    for index in sorted({at for at, _ in places}):
        near = [
            Label(
                FindingKind(one["kind"]),
                round(float(one["x"])),
                round(float(one["y"])),
                abs(at - index) * volume.spacing_mm[0],
            )
            for at, one in places
            if abs(at - index) * volume.spacing_mm[0] <= _DEPTH_MM
        ]
        labels = tuple(sorted(near, key=lambda label: label.depth_mm))
        yield Case("reviewed", group, f"{study.folder.name}/{index}", volume.part(index, index + 1), labels)


def _clean_stretch(study: LabelledStudy, group: str, volume: Volume) -> Case:
    order = {uid: index for index, uid in enumerate(volume.sop_uids)}
    found = [(order[one["sop_uid"]], one) for one in study.found if one["sop_uid"] in order and one["x"] is not None]
    centre = found[0][0] if found else len(order) // 2
    first = max(0, min(centre - MOST_SLICES // 2, len(order) - MOST_SLICES))
    last = min(len(order), first + MOST_SLICES)
    hard = tuple({(round(float(one["x"])), round(float(one["y"]))) for at, one in found if first <= at < last})
    return Case("reviewed", group, study.folder.name, volume.part(first, last), hard=hard)
