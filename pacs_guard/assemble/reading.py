"""One stored instance: its facts, and its slices in Hounsfield units or the reason why it has none."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
)

from pacs_guard.assemble import header
from pacs_guard.assemble.planes import Plane, frame_planes, single_plane
from pacs_guard.domain.text import printable
from pacs_guard.domain.volume import InstanceFacts
from pacs_guard.errors import AssemblyError, SpoolError
from pacs_guard.spool.store import StoredFiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

    from pacs_guard.domain.instance import StoredInstance

_MULTI_FRAME = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_DEEPEST = 64
_TRANSFER_SYNTAX = 0x00020010
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class _OtherObjectError(AssemblyError):
    """An instance that is no CT slice, whatever its pixels."""


@dataclass(frozen=True, slots=True)
class ReadInstance:
    """What was read of one stored instance.

    Attributes
    ----------
    facts : InstanceFacts
        Header and pixel facts.
    planes : tuple of Plane
        Its slices; empty exactly if `refusal` is set.
    refusal : str or None
        Why it has no slices.
    localizer : bool
        Whether it is a localizer, which no volume misses.
    out_of_scope : bool
        Whether it was refused as it is something other than a CT slice.
    file : str
        Where it was read from.
    """

    facts: InstanceFacts
    planes: tuple[Plane, ...] = ()
    refusal: str | None = None
    localizer: bool = False
    file: str = ""
    out_of_scope: bool = False


_SCANNER = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel")
_SCANNER_PART = 40


def read_instance(instance: StoredInstance, root: Path, *, from_network: bool = True) -> ReadInstance:
    """Read one stored instance, its bytes once.

    Parameters
    ----------
    instance : StoredInstance
        Which.
    root : Path
        Folder that its path is relative to.
    from_network : bool
        Whether this node wrote the file meta information; only that of others is evidence. From others, an instance
        without a SOP class is also judged by what it contains.

    Raises
    ------
    SpoolError
        If the file cannot be opened; never for what it contains.
    """
    file = str(root / instance.path)
    with warnings.catch_warnings():
        # malformed values are this room's daily bread: they become facts or refusals, not warnings
        warnings.simplefilter("ignore")
        try:
            with StoredFiles(root).content_at(instance.path) as content:
                ds = _dataset(content, instance, file)
        except AssemblyError as error:
            return ReadInstance(bare_facts(instance), refusal=printable(str(error)), file=file)
        return _read(ds, instance, file, from_network=from_network)


def _read(ds: Dataset, instance: StoredInstance, file: str, *, from_network: bool) -> ReadInstance:
    pixels: NDArray[np.number] | None = None
    planes: tuple[Plane, ...] = ()
    refusal = None
    out_of_scope = False
    unreadable: AssemblyError | None = None
    try:
        pixels = _decoded(ds, instance)
    except AssemblyError as error:
        unreadable = error
    try:
        # what it is comes first: a film that cannot be decoded says nothing about the CT beside it
        _refuse_other_objects(ds, from_network=from_network)
        if unreadable is not None:
            raise unreadable
        planes = _planes(ds, pixels, instance.key.sop_uid)
    except AssemblyError as error:
        refusal = printable(str(error))
        out_of_scope = isinstance(error, _OtherObjectError)
    localizer = "LOCALIZER" in header.words(ds, "ImageType")
    facts = _facts(ds, instance, pixels, from_network=from_network)
    return ReadInstance(facts, planes, refusal, localizer, file, out_of_scope)


def _planes(ds: Dataset, pixels: NDArray[np.number] | None, sop_uid: str) -> tuple[Plane, ...]:
    if pixels is None:
        frames = header.number(ds, "NumberOfFrames") or 1
        raise AssemblyError("it has no pixel data" if frames <= 1 else f"it has {frames:g} frames; expected one")
    return frame_planes(ds, pixels, sop_uid) if pixels.ndim == 3 else (single_plane(ds, pixels, sop_uid),)


def _dataset(content: BinaryIO, instance: StoredInstance, file: str) -> Dataset:
    try:
        ds = pydicom.dcmread(content, force=True)
        _refuse_deep_nesting(ds)
        # parses every element, so that a malformed one shows here and not later
        ds.decode()
    except AssemblyError:
        raise
    except Exception as error:
        # the library raises OSError of its own too, without a number, where a data set is malformed
        if isinstance(error, OSError) and error.errno is not None:
            raise SpoolError(f"{file} cannot be read: {error}") from error
        # and nearly any other exception
        raise AssemblyError(f"the data set cannot be parsed: {error}") from error
    stated = header.text(ds.file_meta, "TransferSyntaxUID")
    syntax = pydicom.uid.UID(stated or instance.transfer_syntax_uid)
    ds.file_meta.add_new(_TRANSFER_SYNTAX, "UI", syntax)  # with the VR that it ought to have
    return ds


def _refuse_deep_nesting(ds: Dataset, depth: int = 0) -> None:
    # past Python's recursion limit the library tries each level again in several ways, which takes for ever
    if depth > _DEEPEST:
        raise AssemblyError(f"its sequences are nested more than {_DEEPEST} deep")
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _refuse_deep_nesting(item, depth + 1)


def _decoded(ds: Dataset, instance: StoredInstance) -> NDArray[np.number] | None:
    """Return the decoded pixels of a single frame or of a multi-frame CT; None for anything else."""
    frames = header.number(ds, "NumberOfFrames") or 1
    if not any(keyword in ds for keyword in _PIXELS) or (frames > 1 and instance.sop_class_uid not in _MULTI_FRAME):
        return None
    array: NDArray[np.number]
    try:
        array, _ = get_decoder(ds.file_meta.TransferSyntaxUID).as_array(ds, raw=True)
    except Exception as error:  # decoders let nearly any exception out of malformed bytes
        syntax = ds.file_meta.TransferSyntaxUID.name
        reason = " ".join(str(error).split())[:200]
        raise AssemblyError(f"its pixels ({syntax}) cannot be decoded: {reason}") from error
    finally:
        for keyword in _PIXELS:
            # the encoded pixels are not needed again
            ds.pop(keyword, None)
    # a multi-frame object of one frame still carries its geometry per frame
    return array[np.newaxis] if instance.sop_class_uid in _MULTI_FRAME and array.ndim == 2 else array


def _refuse_other_objects(ds: Dataset, *, from_network: bool) -> None:
    sop_class = pydicom.uid.UID(header.text(ds, "SOPClassUID"))
    modality = header.text(ds, "Modality").upper()
    if sop_class == SecondaryCaptureImageStorage:
        raise _OtherObjectError("it is a secondary capture, not a CT image")
    if sop_class not in (CTImageStorage, *_MULTI_FRAME) and (sop_class or from_network):
        raise _OtherObjectError(f"it is no CT image but {sop_class.name or 'an object without SOP class'}")
    if modality not in ("", "CT"):
        raise _OtherObjectError(f"its Modality is {modality}, not CT")
    if "LOCALIZER" in header.words(ds, "ImageType"):
        raise _OtherObjectError("it is a localizer, not a slice")
    samples, photometric = header.number(ds, "SamplesPerPixel"), header.text(ds, "PhotometricInterpretation")
    if samples not in (1, None) or photometric not in ("MONOCHROME2", ""):
        raise AssemblyError(
            f"its pixels are {photometric} with {samples or 1:g} samples; expected MONOCHROME2 with one"
        )


def _facts(
    ds: Dataset, instance: StoredInstance, pixels: NDArray[np.number] | None, *, from_network: bool
) -> InstanceFacts:
    rows, columns = header.number(ds, "Rows"), header.number(ds, "Columns")
    meta = ds.file_meta
    return InstanceFacts(
        sop_uid=instance.key.sop_uid,
        series_uid=instance.key.series_uid,
        study_uid=instance.key.study_uid,
        sop_class_uid=header.text(ds, "SOPClassUID"),
        content_sha256=instance.key.sha256,
        meta_sop_uid=None if from_network else header.text(meta, "MediaStorageSOPInstanceUID") or None,
        meta_sop_class_uid=None if from_network else header.text(meta, "MediaStorageSOPClassUID") or None,
        modality=header.text(ds, "Modality"),
        pixel_sha256=None if pixels is None else _pixel_hash(pixels),
        blank=pixels is not None and _is_blank(pixels),
        position_mm=header.numbers(ds, "ImagePositionPatient", 3),
        orientation=header.numbers(ds, "ImageOrientationPatient", 6),
        shape=(int(rows), int(columns)) if rows and columns else None,
        instance_number=header.number(ds, "InstanceNumber"),
        slice_location=header.number(ds, "SliceLocation"),
        scanner=" ".join(part[:_SCANNER_PART] for tag in _SCANNER if (part := header.text(ds, tag))),
    )


def bare_facts(instance: StoredInstance) -> InstanceFacts:
    """Return what is known of an instance that cannot be read."""
    key = instance.key
    return InstanceFacts(
        sop_uid=key.sop_uid,
        series_uid=key.series_uid,
        study_uid=key.study_uid,
        sop_class_uid=instance.sop_class_uid,
        content_sha256=key.sha256,
    )


def _pixel_hash(pixels: NDArray[np.number]) -> str:
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    # one byte order and width, so that the same values hash the same however they were stored
    wide = pixels if pixels.dtype.kind == "f" else pixels.astype("<i4", copy=False)
    digest.update(np.ascontiguousarray(wide).data)
    return digest.hexdigest()


def _is_blank(pixels: NDArray[np.number]) -> bool:
    low, high = pixels.min(), pixels.max()
    return bool(np.all((pixels == low) | (pixels == high)))
