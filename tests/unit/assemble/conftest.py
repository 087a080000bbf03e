"""Small CT instances, made up here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (32, 40)


def ct_image(z: float = 0.0, *, series: str = "1.2.3.1", number: int = 1, seed: int = 0, **changes) -> FileDataset:
    """Return a minimal valid CT image; a change to None deletes the attribute."""
    stored = np.random.default_rng(seed + number * 1000).integers(0, 2000, SHAPE).astype("<i2")
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid(prefix=None)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", series
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceNumber = number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10, -20, z], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.8], 2.5
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = *SHAPE, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", CTImageStorage)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3.4")
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def saved(folder: Path, datasets: list[Dataset]) -> Path:
    """Write data sets into a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, ds in enumerate(datasets):
        ds.save_as(folder / f"{i:03d}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture
def image():
    return ct_image


@pytest.fixture
def save():
    return saved
