"""Small invented CT instances in every transfer syntax that the tests send."""

from __future__ import annotations

import subprocess
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.integration.peers import dcmtk

if TYPE_CHECKING:
    from pathlib import Path

# DCMTK's programs and the option that makes the transfer syntax
_DCMTK_ENCODERS = {
    JPEGLosslessSV1: ("dcmcjpeg", "+e1"),
    JPEGLSLossless: ("dcmcjpls", "+el"),
}
_PYDICOM_ENCODERS = {JPEG2000Lossless, RLELossless}
SENDABLE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)
"""Transfer syntaxes in which `make_instances` really encodes pixels."""
OPAQUE = (HTJ2KLossless, MPEG2MPML)
"""Transfer syntaxes whose pixel data is made up: nothing on the way may look at it."""


def make_data_set(study_uid: str, series_uid: str, number: int, *, rows: int = 64, seed: int | None = None) -> Dataset:
    """Return one invented CT slice; `seed` decides its pixels."""
    rng = np.random.default_rng(number if seed is None else seed)
    data_set = Dataset()
    data_set.SOPClassUID = CTImageStorage
    data_set.SOPInstanceUID = generate_uid(entropy_srcs=[series_uid, str(number)])
    data_set.StudyDate = "20200101"
    data_set.Modality = "CT"
    data_set.SeriesDescription = "SIMULATED"
    data_set.PatientName = "Invented^Nobody"
    data_set.PatientID = "SIMULATED"
    data_set.StudyInstanceUID = study_uid
    data_set.SeriesInstanceUID = series_uid
    data_set.InstanceNumber = number
    data_set.ImagePositionPatient = [-100.0, -100.0, float(number)]
    data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data_set.PixelSpacing = [0.7, 0.7]
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.Rows = data_set.Columns = rows
    data_set.BitsAllocated = 16
    data_set.BitsStored = 12
    data_set.HighBit = 11
    data_set.PixelRepresentation = 0
    data_set.RescaleIntercept = -1024
    data_set.RescaleSlope = 1
    data_set.PixelData = rng.integers(0, 4096, (rows, rows), dtype=np.uint16).tobytes()
    data_set["PixelData"].VR = "OW"
    return data_set


def write(data_set: Dataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a Part 10 file; the pixels are encoded as the transfer syntax asks, with DCMTK where pydicom cannot."""
    syntax = UID(transfer_syntax)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax in _PYDICOM_ENCODERS:
        data_set.compress(syntax, generate_instance_uid=False)
    elif syntax in OPAQUE:
        data_set.PixelData = encapsulate([bytes(range(256)) * 8])
        data_set["PixelData"].VR = "OB"
        data_set["PixelData"].is_undefined_length = True
        data_set.file_meta.TransferSyntaxUID = syntax
    elif syntax not in _DCMTK_ENCODERS:
        if syntax == ExplicitVRBigEndian:
            data_set.PixelData = np.frombuffer(data_set.PixelData, "<u2").astype(">u2").tobytes()
        data_set.file_meta.TransferSyntaxUID = syntax
    data_set.save_as(path, enforce_file_format=True, implicit_vr=None, little_endian=None)
    if syntax in _DCMTK_ENCODERS:
        program, option = _DCMTK_ENCODERS[syntax]
        subprocess.run([dcmtk(program), option, "+un", path, path], check=True, capture_output=True, timeout=60)
    return path


def make_instances(
    folder: Path,
    count: int,
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    rows: int = 64,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> list[Path]:
    """Write `count` CT slices of one series as Part 10 files."""
    folder.mkdir(parents=True, exist_ok=True)
    study_uid, series_uid = study_uid or generate_uid(), series_uid or generate_uid()
    return [
        write(make_data_set(study_uid, series_uid, number, rows=rows), folder / f"{number:04}.dcm", transfer_syntax)
        for number in range(1, count + 1)
    ]


def encoded(data_set: Dataset, *, implicit: bool = False) -> bytes:
    """Encode a data set in a little endian syntax, without file meta information."""
    buffer = BytesIO()
    data_set.save_as(buffer, implicit_vr=implicit, little_endian=True)
    return buffer.getvalue()
