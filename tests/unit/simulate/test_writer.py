from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.simulate import WRITABLE, make_phantom, write_series


@pytest.fixture(scope="module")
def small():
    return make_phantom(slices=3, size=64, slice_mm=5.0)


@pytest.mark.parametrize("syntax", WRITABLE, ids=lambda uid: uid.name.split(" (")[0])
def test_what_is_written_is_read_back_to_the_same_volume(tmp_path, small, syntax):
    paths = write_series(small, tmp_path, transfer_syntax_uid=syntax)
    assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in paths} == {syntax}
    instances, problems = find_instances([tmp_path])
    assert problems == []
    (series,) = assemble_study(instances, Path("/"), from_network=False)
    assert series.refusal is None
    assert np.array_equal(series.volume.hu, small.hu)
    assert series.volume.sop_uids == tuple(str(pydicom.dcmread(path).SOPInstanceUID) for path in paths)
    assert series.volume.spacing_mm == pytest.approx(small.spacing_mm)
    assert np.allclose(series.volume.positions_mm, small.positions_mm, atol=1e-3)


def test_no_uid_of_the_volume_is_written(tmp_path, small):
    known = {small.study_uid, small.series_uid, *small.sop_uids}
    uids = [
        {ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID}
        for ds in map(pydicom.dcmread, write_series(small, tmp_path))
    ]
    assert len(set.union(*uids)) == 5
    assert not known & set.union(*uids)


def test_every_image_says_that_it_is_simulated(tmp_path, small):
    for path in write_series(small, tmp_path, description="a real patient, honestly"):
        ds = pydicom.dcmread(path)
        assert ds.QualityControlImage == "YES"
        assert str(ds.PatientName).startswith("SIMULATED^")
        assert ds.ImageType[0] == "DERIVED"
        for keyword in ("StudyDescription", "SeriesDescription", "ImageComments"):
            assert ds[keyword].value.startswith("SIMULATED")


@pytest.mark.parametrize(
    "keyword",
    [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
        "SeriesNumber",
        "FrameOfReferenceUID",
        "PositionReferenceIndicator",
        "Manufacturer",
        "AcquisitionNumber",
        "KVP",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "RescaleIntercept",
        "RescaleSlope",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ],
)
def test_type_1_and_2_attributes_of_a_ct_image_are_there(tmp_path, small, keyword):
    assert keyword in pydicom.dcmread(write_series(small, tmp_path)[0])


def test_a_syntax_that_cannot_be_written_is_refused(tmp_path, small):
    with pytest.raises(ValueError, match="expected one of Explicit VR Little Endian"):
        write_series(small, tmp_path, transfer_syntax_uid="1.2.840.10008.1.2.4.50")
