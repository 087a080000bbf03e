"""Lossless encoders that pydicom has no plugin for, through GDCM."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import gdcm
import pydicom
from pydicom.uid import UID, JPEGLosslessSV1, JPEGLSLossless

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_SYNTAXES = {
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def gdcm_encoded(ds: FileDataset, syntax: UID) -> bytes:
    """Return the encapsulated pixel data of an uncompressed image in another transfer syntax.

    Parameters
    ----------
    ds : FileDataset
        In Explicit VR Little Endian.
    syntax : UID
        JPEG-LS Lossless or JPEG Lossless SV1.

    Raises
    ------
    ValueError
        If the encoder fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.dcm"), Path(folder, "target.dcm")
        ds.save_as(source, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(_SYNTAXES[syntax]))
        if not reader.Read():
            raise ValueError("GDCM cannot read the image to be encoded")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError(f"GDCM cannot encode the image as {syntax.name}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError(f"GDCM cannot write {syntax.name}")
        encoded: bytes = pydicom.dcmread(target).PixelData
    return encoded
