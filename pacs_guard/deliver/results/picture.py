"""The secondary captures: each finding's evidence picture as an image in the patient's study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pacs_guard.deliver.results.codes import SOURCE_IMAGE
from pacs_guard.deliver.results.report import DESCRIPTION, MANUFACTURER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pacs_guard.domain.instance import StoredInstance

SERIES_NUMBER = 9702
_LONGEST_COMMENT = 10240  # of an LT


def picture(
    header: Dataset,
    path: Path,
    finding: Mapping[str, Any],
    source: StoredInstance | None,
    *,
    series_uid: str,
    number: int,
    node: str,
) -> SCImage:
    """Return a finding's picture as a Secondary Capture, 8-bit RGB.

    Parameters
    ----------
    header : Dataset
        Patient and study.
    path : Path
        The picture, anything that Pillow reads.
    finding : mapping
        As in ``evidence.json``.
    source : StoredInstance or None
        The instance that it shows.
    series_uid : str
        Of the series of this study's pictures.
    number : int
        Instance number, from 1.
    node : str
        AE title of the node.
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    capture = SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        series_instance_uid=series_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=node,
        series_description=DESCRIPTION,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    # three panels beside one another have no orientation of their own; type 2C
    capture["PatientOrientation"].value = ""
    capture.Laterality = ""  # as above
    capture.StudyDescription = header.StudyDescription
    capture.BurnedInAnnotation = "NO"  # measurements are drawn in, nothing that names the patient
    capture.ImageComments = f"{DESCRIPTION}. {finding['sentence']}"[:_LONGEST_COMMENT]
    if source is not None:
        capture.SourceImageSequence = [_reference(source)]
    return capture


def _reference(source: StoredInstance) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue = SOURCE_IMAGE.value
    purpose.CodingSchemeDesignator = SOURCE_IMAGE.scheme_designator
    purpose.CodeMeaning = SOURCE_IMAGE.meaning
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.sop_class_uid
    reference.ReferencedSOPInstanceUID = source.key.sop_uid
    reference.PurposeOfReferenceCodeSequence = [purpose]
    return reference
