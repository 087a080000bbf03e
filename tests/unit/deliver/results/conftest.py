"""A suspected study: instances in a spool, and the evidence that a worker leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.queue.results import ClaimedResult

if TYPE_CHECKING:
    from pathlib import Path

STUDY, SERIES = "1.2.826.0.1.1", "1.2.826.0.1.1.1"


def finding(**changes) -> dict:
    """A finding as ``evidence.json`` has it."""
    return {
        "kind": "FM",
        "severity": "suspect",
        "detector": "forensic",
        "score": 7.25,
        "p_value": 0.002,
        "sop_uid": f"{SERIES}.2",
        "file": None,
        "x": 21.0,
        "y": 30.0,
        "box": [16, 24, 32, 40],
        "position_mm": [1.0, 2.0, 3.0],
        "sentence": "finer noise than its surroundings on slice 2",
        "cues": {},
        "picture": "finding.png",
    } | changes


def notice(**changes) -> dict:
    """A contradiction, which lies nowhere."""
    nowhere = {"sop_uid": None, "x": None, "y": None, "box": None, "picture": None, "p_value": None}
    return finding(kind="integrity", detector="integrity", score=1.0, sentence="Größe differs", **nowhere) | changes


def instance(number: int, **attributes) -> Dataset:
    """A CT instance without pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = "Müller^Änne", "P-17"
    dataset.PatientBirthDate, dataset.PatientSex = "19600102", "F"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{SERIES}.{number}"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20260102", "101500", "S1"
    dataset.AccessionNumber, dataset.StudyDescription = "A-1", "Thorax"
    dataset.Modality, dataset.Manufacturer = "CT", "Scanners"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@dataclass
class Study:
    """Folders and rows of a suspected study."""

    data_dir: Path
    result: ClaimedResult

    @property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool"

    @property
    def evidence(self) -> Path:
        return self.data_dir / self.result.evidence


def write_study(data_dir: Path, datasets: list[Dataset], findings: list[dict]) -> Study:
    (data_dir / "spool").mkdir(parents=True)
    folder = data_dir / "evidence" / "7-3-abc"
    (folder / "series-1").mkdir(parents=True)
    stored = []
    for number, dataset in enumerate(datasets, start=1):
        dataset.save_as(data_dir / "spool" / f"{number}.dcm", enforce_file_format=True)
        key = InstanceKey(STUDY, SERIES, dataset.SOPInstanceUID, "0" * 64)
        stored.append(StoredInstance(number, key, CTImageStorage, ExplicitVRLittleEndian, f"{number}.dcm", 0, 0))
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:20, 30:50] = (255, 210, 0)
    Image.fromarray(picture).save(folder / "series-1" / "finding.png")
    report = {
        "study_uid": STUDY,
        "detectors": {"forensic": "1.4.0", "integrity": "1"},
        "series": [{"series_uid": SERIES, "folder": "series-1", "findings": findings}],
    }
    (folder / "evidence.json").write_text(json.dumps(report), encoding="utf-8")
    return Study(data_dir, ClaimedResult(1, 7, STUDY, "evidence/7-3-abc", tuple(stored), 0))


@pytest.fixture
def study(tmp_path) -> Study:
    return write_study(tmp_path / "data", [instance(number) for number in (1, 2, 3)], [finding(), notice()])
