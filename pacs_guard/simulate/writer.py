"""A simulated volume to DICOM CT images, which always say that they are simulated."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from pacs_guard.simulate.encoding import gdcm_encoded
from pacs_guard.simulate.tamper import with_new_uids

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.domain.volume import Volume

SIMULATED = "SIMULATED"
WRITABLE = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
)
"""Transfer syntaxes that `write_series` can write."""

_BY_PYDICOM = (RLELossless, JPEG2000Lossless)
_BY_GDCM = (JPEGLSLossless, JPEGLosslessSV1)
_INTERCEPT = -1024
_ACQUIRED = datetime(2000, 1, 1, 12, 0, tzinfo=UTC)


def write_series(
    volume: Volume,
    folder: Path,
    *,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    description: str = "chest",
    derivation: str = "no patient was scanned",
    acquired: datetime = _ACQUIRED,
) -> list[Path]:
    """Write a volume as one file per slice, CT Image Storage (PS3.3 A.3).

    The patient is invented, Quality Control Image is YES, the descriptions and comments begin with SIMULATED, and the
    UIDs are new: no simulated image can stand in for the one that it was made of.

    Parameters
    ----------
    volume : Volume
        A simulated one.
    folder : Path
        Made if absent.
    transfer_syntax_uid : str
        One of `WRITABLE`.
    description : str
        Follows SIMULATED in StudyDescription and SeriesDescription.
    derivation : str
        Follows SIMULATED in DerivationDescription and ImageComments.
    acquired : datetime
        Date and time of study, series and images.

    Returns
    -------
    list of Path
        In the order of the slices.

    Raises
    ------
    ValueError
        If the transfer syntax is none of `WRITABLE`.
    """
    syntax = UID(transfer_syntax_uid)
    if syntax not in WRITABLE:
        names = ", ".join(uid.name for uid in WRITABLE)
        raise ValueError(f"transfer syntax is {syntax} ({syntax.name}); expected one of {names}")
    folder.mkdir(parents=True, exist_ok=True)
    volume = with_new_uids(volume)
    common = _common(volume, f"{SIMULATED} {description}"[:64], acquired)
    paths = []
    for i in range(len(volume.hu)):
        path = folder / f"{i + 1:04d}.dcm"
        _encoded(_image(volume, i, common, derivation), syntax).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _common(volume: Volume, description: str, acquired: datetime) -> Dataset:
    """Return the attributes that all images of the series share."""
    ds = Dataset()
    date, time = acquired.strftime("%Y%m%d"), acquired.strftime("%H%M%S")
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", date)
        setattr(ds, f"{kind}Time", time)
    ds.PatientName = f"{SIMULATED}^PHANTOM"
    ds.PatientID = f"SIM-{volume.study_uid[-12:]}"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = volume.study_uid, volume.series_uid
    ds.FrameOfReferenceUID = generate_uid(prefix=None, entropy_srcs=[volume.series_uid, "frame of reference"])
    ds.PositionReferenceIndicator = ""
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "SIM", "", ""
    ds.SeriesNumber, ds.AcquisitionNumber = 1, 1
    ds.StudyDescription = ds.SeriesDescription = description
    ds.Modality, ds.BodyPartExamined, ds.PatientPosition = "CT", "CHEST", "HFS"
    ds.Manufacturer, ds.ManufacturerModelName = "PACS Guard", "simulated phantom"
    ds.KVP, ds.ConvolutionKernel = "120", SIMULATED
    return ds


def _image(volume: Volume, index: int, common: Dataset, derivation: str) -> FileDataset:
    ds = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    ds.update(common)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, volume.sop_uids[index]
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.DerivationDescription = ds.ImageComments = f"{SIMULATED}: {derivation}"
    ds.QualityControlImage, ds.BurnedInAnnotation, ds.LossyImageCompression = "YES", "NO", "00"
    ds.InstanceNumber = index + 1
    slice_mm, row_mm, column_mm = volume.spacing_mm
    ds.ImagePositionPatient = [round(float(v), 4) for v in volume.positions_mm[index]]
    ds.ImageOrientationPatient = list(volume.orientation)
    ds.SliceLocation = round(volume.depth_of(index), 4)
    ds.SliceThickness = round(slice_mm, 4)
    ds.PixelSpacing = [round(row_mm, 6), round(column_mm, 6)]
    _set_pixels(ds, volume, index)
    return ds


def _set_pixels(ds: Dataset, volume: Volume, index: int) -> None:
    """Store 12 bits unsigned with the usual intercept, as most scanners do."""
    stored = np.clip(volume.hu[index].astype(np.int32) - _INTERCEPT, 0, 4095).astype("<u2")
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(_INTERCEPT), "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "-600", "1500"
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"


def _encoded(ds: FileDataset, syntax: UID) -> FileDataset:
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    compressed = syntax in _BY_PYDICOM + _BY_GDCM
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if compressed else syntax
    if syntax in _BY_PYDICOM:
        ds.compress(syntax, generate_instance_uid=False)
    elif syntax in _BY_GDCM:
        ds.PixelData = gdcm_encoded(ds, syntax)
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax
    return ds
