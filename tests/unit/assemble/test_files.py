from __future__ import annotations

import hashlib
import io

import pytest
from pydicom.filewriter import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from pacs_guard.assemble import find_instances, read_instance


def without_meta(ds, *, implicit):
    buffer = io.BytesIO()
    del ds.file_meta
    ds.preamble = None
    dcmwrite(buffer, ds, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def only(folder):
    instances, problems = find_instances([folder])
    assert len(instances) == 1
    return instances[0], problems


def test_the_hash_is_of_the_data_set_without_file_meta(tmp_path, image, save):
    folder = save(tmp_path / "s", [image()])
    found, problems = only(folder)
    content = (folder / "000.dcm").read_bytes()
    assert found.offset + found.length == len(content)
    assert content[found.offset : found.offset + 4] == b"\x08\x00\x08\x00"  # ImageType is its first element
    assert found.key.sha256 == hashlib.sha256(content[found.offset :]).hexdigest()
    assert problems == []


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_and_meta_is_read(tmp_path, image, implicit):
    content = without_meta(image(), implicit=implicit)
    (tmp_path / "bare").write_bytes(content)
    found, problems = only(tmp_path)
    assert found.offset == 0
    assert problems == []
    assert read_instance(found, tmp_path).refusal is None


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_are_read(tmp_path, image, save, syntax):
    ds = image()
    ds.file_meta.TransferSyntaxUID = syntax
    found, _ = only(save(tmp_path / "s", [ds]))
    assert found.transfer_syntax_uid == syntax
    assert read_instance(found, tmp_path).refusal is None


def test_absent_uids_are_made_up_the_same_each_time_and_said(tmp_path, image, save):
    folder = save(tmp_path / "s", [image(StudyInstanceUID=None, SeriesInstanceUID=None) for _ in range(2)])
    instances, problems = find_instances([folder])
    assert len({found.key.series_uid for found in instances}) == 1
    assert instances[0].key.study_uid != instances[0].key.series_uid
    assert instances == find_instances([folder])[0]
    assert "has no StudyInstanceUID, SeriesInstanceUID" in problems[0]


def test_what_is_no_dicom_is_counted_and_what_should_be_is_named(tmp_path, image, save):
    folder = save(tmp_path / "s", [image()])
    (folder / "labels.csv").write_text("type,uuid\n")
    (folder / "README.md").write_text("hello\n")
    (folder / "broken.dcm").write_bytes(b"not DICOM at all")
    (folder / "empty.dcm").write_bytes(b"")
    found, problems = only(folder)
    assert found.path.endswith("000.dcm")
    assert sum("is no DICOM file" in line for line in problems) == 2
    assert problems[-1] == "2 files that are no DICOM instances were skipped (.csv 1, .md 1)"


def test_a_path_that_does_not_exist_is_a_problem(tmp_path):
    assert find_instances([tmp_path / "absent"]) == ([], [f"{tmp_path / 'absent'}: does not exist"])


def test_a_truncated_file_is_refused_not_raised(tmp_path, image, save):
    folder = save(tmp_path / "s", [image()])
    path = folder / "000.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    found, _ = only(folder)
    read = read_instance(found, tmp_path)
    assert read.planes == ()
    assert "cannot be" in read.refusal


def test_an_element_of_an_unknown_vr_counts_as_absent(tmp_path, image, save):
    path = save(tmp_path / "s", [image()]) / "000.dcm"
    path.write_bytes(path.read_bytes().replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00QI"))
    found, problems = only(tmp_path)
    assert found.key.series_uid.startswith("2.25.")
    assert "has no SeriesInstanceUID" in problems[0]
