"""A series as an array in Hounsfield units with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Volume:
    """A CT series, or a single slice of one, in Hounsfield units.

    Attributes
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units, slices in the order of their positions along the normal; padding is set to -1024.
    padding : ndarray of bool, shape (slices, rows, columns), or None
        True where the scanner wrote no measurement; None if there is no such pixel.
    spacing_mm : tuple of float
        Distance between neighbouring voxels along (slices, rows, columns), mm. For a single slice the first is its
        SliceThickness.
    orientation : tuple of float
        ImageOrientationPatient: direction cosines of a row, then of a column (PS3.3 C.7.6.2.1.1).
    positions_mm : ndarray of float64, shape (slices, 3)
        ImagePositionPatient of each slice, mm.
    sop_uids : tuple of str
        SOPInstanceUID of each slice.
    study_uid, series_uid : str
        The series it was made from.
    """

    hu: NDArray[np.int16]
    padding: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    positions_mm: NDArray[np.float64]
    sop_uids: tuple[str, ...]
    study_uid: str
    series_uid: str

    def position_of(self, index: int, x: float, y: float) -> tuple[float, float, float]:
        """Return where column `x` and row `y` of slice `index` lie in the patient, mm (PS3.3 C.7.6.2.1.1)."""
        row_direction, column_direction = self.orientation[:3], self.orientation[3:]
        _, row_spacing, column_spacing = self.spacing_mm
        first = self.positions_mm[index]
        return (
            float(first[0] + row_direction[0] * column_spacing * x + column_direction[0] * row_spacing * y),
            float(first[1] + row_direction[1] * column_spacing * x + column_direction[1] * row_spacing * y),
            float(first[2] + row_direction[2] * column_spacing * x + column_direction[2] * row_spacing * y),
        )

    def part(self, first: int, last: int) -> Volume:
        """Return slices `first` to before `last` as a volume of their own, with pixels of its own."""
        return replace(
            self,
            hu=self.hu[first:last].copy(),
            padding=None if self.padding is None else self.padding[first:last],
            positions_mm=self.positions_mm[first:last],
            sop_uids=self.sop_uids[first:last],
        )

    def depth_of(self, index: int) -> float:
        """Return the position of slice `index` along the series normal, mm."""
        r, c = self.orientation[:3], self.orientation[3:]
        normal = (r[1] * c[2] - r[2] * c[1], r[2] * c[0] - r[0] * c[2], r[0] * c[1] - r[1] * c[0])
        return float(sum(n * p for n, p in zip(normal, self.positions_mm[index], strict=True)))


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What the header and the pixels of one instance say, for checks that need no volume.

    Attributes
    ----------
    sop_uid, series_uid, study_uid : str
        From the data set.
    meta_sop_uid, meta_sop_class_uid : str or None
        MediaStorageSOPInstanceUID and MediaStorageSOPClassUID of the file meta information; None where the instance
        came over the network, as this node then wrote the file meta itself.
    sop_class_uid : str
        From the data set.
    modality : str
        Modality, empty where absent.
    content_sha256 : str
        SHA-256 of the encoded data set.
    pixel_sha256 : str or None
        SHA-256 of the decoded pixels; None where there are none or they cannot be decoded.
    blank : bool
        Whether the pixels hold no more than two values (nothing, or nothing inside a padding circle), so that equal
        pixels elsewhere mean nothing.
    position_mm : tuple of float or None
        ImagePositionPatient.
    orientation : tuple of float or None
        ImageOrientationPatient.
    shape : tuple of int or None
        (rows, columns).
    instance_number, slice_location : float or None
        InstanceNumber and SliceLocation.
    scanner : str
        Manufacturer, ManufacturerModelName and ConvolutionKernel, as far as they are there.
    """

    sop_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    content_sha256: str
    meta_sop_uid: str | None = None
    meta_sop_class_uid: str | None = None
    modality: str = ""
    pixel_sha256: str | None = None
    blank: bool = False
    position_mm: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    shape: tuple[int, int] | None = None
    instance_number: float | None = None
    slice_location: float | None = None
    scanner: str = ""


@dataclass(frozen=True, slots=True)
class AssembledSeries:
    """A series, as far as it could be assembled.

    Attributes
    ----------
    study_uid, series_uid : str
        Which series.
    instances : tuple of InstanceFacts
        All of its instances.
    volume : Volume or None
        Present exactly if `refusal` is None.
    refusal : str or None
        Why no volume could be made, in one sentence.
    files : dict of str to str
        Where each SOPInstanceUID was read from, for people.
    notes : tuple of str
        What had to be assumed or was left out of the volume, a sentence each.
    """

    study_uid: str
    series_uid: str
    instances: tuple[InstanceFacts, ...]
    volume: Volume | None = None
    refusal: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    out_of_scope: bool = False
    notes: tuple[str, ...] = ()
