from __future__ import annotations

import hashlib
import shutil
import subprocess
import warnings

import numpy as np
import pytest
from highdicom.sr import srread
from PIL import Image
from pydicom import dcmread

from pacs_guard.deliver.results.codes import KINDS, SEVERITIES
from pacs_guard.deliver.results.objects import make_objects
from pacs_guard.deliver.results.report import DESCRIPTION, graphic
from pacs_guard.domain.verdict import FindingKind, Severity
from pacs_guard.errors import PermanentDeliveryError
from tests.unit.deliver.results.conftest import SERIES, STUDY, finding, instance, notice, write_study

COMPREHENSIVE_SR, SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.7"


def made(study):
    return make_objects(study.result, study.data_dir, study.spool_dir, node="PACSGUARD")


def report_of(study):
    made(study)
    return dcmread(study.evidence / "report.dcm")


def items(dataset, meaning):
    """Every content item of that concept name, wherever it stands."""
    found = []
    for item in dataset.get("ContentSequence", []):
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            found.append(item)
        found += items(item, meaning)
    return found


def test_the_objects_are_as_the_queue_is_told(study):
    objects = made(study)
    assert [one.path for one in objects] == ["evidence/7-3-abc/report.dcm", "evidence/7-3-abc/picture-1.dcm"]
    assert [one.sop_class_uid for one in objects] == [COMPREHENSIVE_SR, SECONDARY_CAPTURE]
    for one in objects:
        content = (study.data_dir / one.path).read_bytes()
        assert len(content) == one.offset + one.length
        assert hashlib.sha256(content[one.offset :]).hexdigest() == one.key.sha256
        dataset = dcmread(study.data_dir / one.path)
        assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == one.key.sop_uid
        assert dataset.file_meta.TransferSyntaxUID == one.transfer_syntax_uid == "1.2.840.10008.1.2.1"


def test_each_kind_is_a_series_of_its_own_in_the_same_study_of_the_same_patient(study):
    objects = [dcmread(study.data_dir / one.path) for one in made(study)]
    assert {str(one.StudyInstanceUID) for one in objects} == {STUDY}
    series = [str(one.SeriesInstanceUID) for one in objects]
    assert len({*series, SERIES}) == 3
    assert all(uid.startswith("2.25.") for uid in [*series, *(str(one.SOPInstanceUID) for one in objects)])
    for one in objects:
        assert (str(one.PatientName), one.PatientID, one.PatientSex) == ("Müller^Änne", "P-17", "F")
        assert (one.PatientBirthDate, one.StudyDate, one.AccessionNumber) == ("19600102", "20260102", "A-1")
        assert (one.SpecificCharacterSet, one.StudyDescription) == ("ISO_IR 192", "Thorax")
        assert one.SeriesDescription == DESCRIPTION
        assert len(DESCRIPTION) <= 64
        assert one.Manufacturer == "PACS Guard"


def test_the_report_names_kind_score_severity_algorithm_and_reason(study):
    report = report_of(study)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    groups = items(report, "Measurement Group")
    assert len(groups) == 2
    first, second = groups
    assert items(first, "Finding")[0].ConceptCodeSequence[0].CodeValue == "FM"
    score = items(first, "Detector score, larger is more suspicious")[0].MeasuredValueSequence[0]
    assert score.NumericValue == 7.25
    assert items(first, "Algorithm Name")[0].TextValue == "forensic"
    assert items(first, "Algorithm Version")[0].TextValue == "1.4.0"
    assert items(first, "Comment")[0].TextValue == finding()["sentence"]
    assert items(first, "Severity of the finding")[0].ConceptCodeSequence[0].CodeValue == "suspect"
    assert items(second, "Finding")[0].ConceptCodeSequence[0].CodeValue == "integrity"
    assert items(second, "Comment")[0].TextValue == "Größe differs"
    assert not items(second, "Image Region")
    assert "no diagnosis" in items(report, "Comment")[-1].TextValue
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99PACSGUARD"
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def test_every_kind_and_severity_that_a_detector_may_report_has_a_code():
    assert set(KINDS) == set(FindingKind)
    assert set(SEVERITIES) == set(Severity)
    assert all(len(code.meaning) <= 64 and len(code.value) <= 16 for code in [*KINDS.values(), *SEVERITIES.values()])


def test_the_place_is_on_the_instance_in_pixel_corners(study):
    [region] = items(report_of(study), "Image Region")
    assert region.GraphicType == "POLYLINE"
    assert region.GraphicData == [16, 24, 32, 24, 32, 40, 16, 40, 16, 24]
    [reference] = region.ContentSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == f"{SERIES}.2"


def test_a_point_is_the_centre_of_its_pixel():
    assert graphic(finding(box=None, x=0.0, y=0.0))[1] == [(0.5, 0.5)]


def test_every_assessed_instance_is_evidence(study):
    [evidence] = report_of(study).CurrentRequestedProcedureEvidenceSequence
    [series] = evidence.ReferencedSeriesSequence
    assert sorted(one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence) == [
        f"{SERIES}.{number}" for number in (1, 2, 3)
    ]


def test_the_picture_is_the_evidence_picture_bit_for_bit(study):
    made(study)
    capture = dcmread(study.evidence / "picture-1.dcm")
    expected = np.asarray(Image.open(study.evidence / "series-1" / "finding.png"))
    np.testing.assert_array_equal(capture.pixel_array, expected)
    assert (capture.PhotometricInterpretation, capture.BitsAllocated, capture.Modality) == ("RGB", 8, "OT")
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == f"{SERIES}.2"
    assert finding()["sentence"] in capture.ImageComments
    assert DESCRIPTION in capture.ImageComments


def test_another_program_reads_the_report_by_its_template(study):
    made(study)
    report = srread(study.evidence / "report.dcm")
    [group] = report.content.get_planar_roi_measurement_groups()
    [measurement, _] = group.get_measurements()
    assert measurement.value == 7.25
    assert group.roi.value.tolist() == [[16, 24], [32, 24], [32, 40], [16, 40], [16, 24]]


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientBirthDate": "01.02.1960", "StudyDate": "tomorrow", "StudyTime": "99"},
        {"PatientSex": "female"},
        {"PatientID": "x" * 200, "PatientName": "a=b=c=d^^^^^^^^"},
        {"PatientID": ["a", "b"], "StudyID": "", "AccessionNumber": None},
        {"SpecificCharacterSet": "ISO_IR 999"},
    ],
)
def test_a_header_that_was_tampered_with_does_not_keep_the_evidence_back(tmp_path, attributes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = write_study(tmp_path / "data", [instance(1), instance(2, **attributes)], [finding()])
    (study.spool_dir / "1.dcm").write_bytes(b"no DICOM at all")
    report = report_of(study)
    assert report.StudyInstanceUID == STUDY
    assert items(report, "Image Region")


def test_headers_without_anything_of_the_patient_are_enough(tmp_path):
    bare = instance(1)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber"):
        delattr(bare, keyword)
    study = write_study(tmp_path / "data", [bare], [notice()])
    assert report_of(study).PatientID == ""


def test_without_a_readable_instance_there_are_no_objects(study):
    for file in study.spool_dir.iterdir():
        file.unlink()
    with pytest.raises(PermanentDeliveryError, match="no instance of the study can be read any more"):
        made(study)


def program(name):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


@pytest.mark.peer
@program("dsrdump")
def test_dcmtk_reads_the_report_without_a_complaint(study):
    made(study)
    dump = subprocess.run(
        ["dsrdump", "+Pl", str(study.evidence / "report.dcm")], capture_output=True, text=True, check=False
    )
    # a limit of the program, not a fault of the report
    complaints = [line for line in dump.stderr.splitlines() if "VR checker does not support" not in line]
    assert (dump.returncode, complaints) == (0, [])
    assert "Comprehensive SR Document" in dump.stdout
    assert "SCOORD" in dump.stdout
    assert "POLYLINE,16/24,32/24,32/40,16/40,16/24" in dump.stdout


@pytest.mark.peer
@program("dciodvfy")
@pytest.mark.parametrize("name", ["report.dcm", "picture-1.dcm"])
def test_dciodvfy_finds_no_error(study, name):
    made(study)
    check = subprocess.run(["dciodvfy", str(study.evidence / name)], capture_output=True, text=True, check=False)
    assert [line for line in check.stderr.splitlines() if line.startswith("Error")] == []
