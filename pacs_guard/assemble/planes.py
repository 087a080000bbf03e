"""The slices that one CT instance holds: one, or one per frame of a multi-frame object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.assemble import header
from pacs_guard.assemble.geometry import Orientation, checked_orientation
from pacs_guard.assemble.hounsfield import Rescale, to_hounsfield
from pacs_guard.errors import AssemblyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset

_AXIAL: Orientation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_HOUNSFIELD_TYPES = ("", "HU", "US", "HU_MOD")


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in Hounsfield units, with its geometry as far as the header states it.

    Attributes
    ----------
    sop_uid : str
        Instance that holds it.
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    padding : ndarray of bool, shape (rows, columns), or None
        True at padding.
    position_mm : tuple of float or None
        ImagePositionPatient; None where absent.
    orientation : tuple of float
        Direction cosines; axial where absent.
    pixel_mm : tuple of float
        PixelSpacing: between rows, between columns, mm.
    thickness_mm : float or None
        SliceThickness.
    """

    sop_uid: str
    hu: NDArray[np.int16]
    padding: NDArray[np.bool_] | None
    position_mm: tuple[float, ...] | None
    orientation: Orientation
    pixel_mm: tuple[float, float]
    thickness_mm: float | None


def single_plane(ds: Dataset, stored: NDArray[np.number], sop_uid: str) -> Plane:
    """Return the slice of a CT Image Storage instance.

    Parameters
    ----------
    ds : Dataset
        Its header.
    stored : ndarray, shape (rows, columns)
        Its decoded pixel values.
    sop_uid : str
        Its SOPInstanceUID.

    Raises
    ------
    AssemblyError
        If it lacks what Hounsfield units or millimetres need.
    """
    return _plane([ds], stored, _padding(ds), sop_uid)


def frame_planes(ds: Dataset, stored: NDArray[np.number], sop_uid: str) -> tuple[Plane, ...]:
    """Return the slices of an (legacy converted) enhanced CT instance, one per frame (PS3.3 C.7.6.16).

    Parameters
    ----------
    ds : Dataset
        Its header, with shared and per-frame functional groups.
    stored : ndarray, shape (frames, rows, columns)
        Its decoded pixel values.
    sop_uid : str
        Its SOPInstanceUID.

    Raises
    ------
    AssemblyError
        If the functional groups do not match the frames, or lack what Hounsfield units or millimetres need.
    """
    per_frame = ds.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) != len(stored):
        raise AssemblyError(f"it has {len(stored)} frames but functional groups for {len(per_frame)}")
    shared = list(ds.get("SharedFunctionalGroupsSequence") or [])[:1]
    padding = _padding(ds)
    return tuple(
        _plane(list(_macros([frame, *shared])), pixels, padding, sop_uid)
        for frame, pixels in zip(per_frame, stored, strict=True)
    )


def _macros(groups: list[Dataset]) -> Iterator[Dataset]:
    """Yield the items of the functional group macros, those of the frame before the shared ones."""
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value:
                yield element.value[0]


def _plane(
    sources: list[Dataset], stored: NDArray[np.number], padding: tuple[float, float] | None, sop_uid: str
) -> Plane:
    slope, intercept = _first(sources, "RescaleSlope", 1), _first(sources, "RescaleIntercept", 1)
    if slope is None or intercept is None:
        raise AssemblyError("it has no RescaleSlope and RescaleIntercept, so its values are no Hounsfield units")
    kind = next((header.text(ds, "RescaleType").upper() for ds in sources if "RescaleType" in ds), "")
    # scanners and workstations write the unit out, and misspell it
    if kind not in _HOUNSFIELD_TYPES and not kind.startswith("HOUN"):
        raise AssemblyError(f"its values are {kind} (RescaleType), not Hounsfield units")
    spacing = _first(sources, "PixelSpacing", 2)
    if spacing is None or min(spacing) <= 0:
        raise AssemblyError("it has no usable PixelSpacing; expected two positive numbers")
    cosines = _first(sources, "ImageOrientationPatient", 6)
    thickness = _first(sources, "SliceThickness", 1)
    hu, mask = to_hounsfield(stored, Rescale(slope[0], intercept[0], padding))
    return Plane(
        sop_uid=sop_uid,
        hu=hu,
        padding=mask,
        position_mm=_first(sources, "ImagePositionPatient", 3) if cosines else None,
        orientation=checked_orientation(cosines) if cosines else _AXIAL,
        pixel_mm=(spacing[0], spacing[1]),
        thickness_mm=thickness[0] if thickness and thickness[0] > 0 else None,
    )


def _first(sources: list[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    return next((found for ds in sources if (found := header.numbers(ds, keyword, count)) is not None), None)


def _padding(ds: Dataset) -> tuple[float, float] | None:
    """Return the declared padding as stored values (PS3.3 C.7.5.1.1.2)."""
    value = header.number(ds, "PixelPaddingValue")
    if value is None:
        return None
    limit = header.number(ds, "PixelPaddingRangeLimit")
    ends = sorted(_as_stored(ds, v) for v in (value, value if limit is None else limit))
    return ends[0], ends[1]


def _as_stored(ds: Dataset, value: float) -> float:
    # some writers give a negative padding value as the unsigned number of the same bits
    bits = int(header.number(ds, "BitsAllocated") or 16)
    signed = header.number(ds, "PixelRepresentation") == 1
    return value - 2**bits if signed and value >= 2 ** (bits - 1) else value
