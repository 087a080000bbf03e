import csv
import os

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pacs_guard.errors import ConfigurationError
from training.__main__ import main
from training.datasets import read_ctgan, read_index, read_series
from training.index import summary_lines, write_table
from training.lidc import read_nodules


@pytest.fixture(autouse=True)
def nothing_is_kept_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("training.console.CACHE", tmp_path / "cache")


XML = """<?xml version="1.0"?>
<LidcReadMessage xmlns="http://www.nih.gov">
 <readingSession>{first}</readingSession>
 <readingSession>{second}</readingSession>
</LidcReadMessage>"""


def nodule(uid, points, inclusion="TRUE"):
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    return (
        f"<unblindedReadNodule><noduleID>1</noduleID><roi><imageSOP_UID>{uid}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi></unblindedReadNodule>"
    )


def write_slice(path, value, **changes):
    """Write a CT slice of 4 x 6 pixels; equal values give equal bytes."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID = f"1.2.{value}", "1.3", "1.4"
    ds.Modality, ds.InstanceNumber, ds.SliceThickness, ds.PixelSpacing = "CT", value, "2.5", [0.5, 0.5]
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 4, 6, 16, 16, 15
    ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    ds.PixelData = np.full((4, 6), value, np.int16).tobytes()
    for name, changed in changes.items():
        setattr(ds, name, changed)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture
def ctgan(tmp_path):
    """A partial download: one scan whole, one with a slice missing, one clean, one clean here and altered there."""
    folder = tmp_path / "ctgan"
    scans = {
        "EXP1_blind/10": [5, 44, 45, 46, 100],
        "EXP1_blind/11": [7],
        "EXP1_blind/12": [1, 2, 10],
        "EXP1_blind/13": [9],
        "EXP2_open/13": [9],
    }
    for scan, numbers in scans.items():
        (folder / "CT_Scans" / scan).mkdir(parents=True)
        for number in numbers:
            write_slice(folder / "CT_Scans" / scan / f"{number}.dcm", number, AccessionNumber=scan.replace("/", " "))
    (folder / "labels_exp1.csv").write_text(
        "type,uuid,slice,x,y\nFB,10,5,30,40\nFM,11,7,1,2\nFM,11,8,1,2\nTB,12,0,0,0\nTM,13,9,3,4\nFB,14,3,1,1\n"
    )
    (folder / "labels_exp2.csv").write_text("type,uuid,z,x,y\nFB,13,9,3,4\n")
    return folder


def test_labels_tell_which_slices_are_altered_and_which_are_clean(ctgan):
    rows = read_ctgan(ctgan).rows
    assert {(row.experiment, row.patient, row.slice, row.x, row.y, row.kind) for row in rows} == {
        ("EXP1_blind", "10", 5, 30, 40, "FB"),
        ("EXP1_blind", "10", 45, None, None, "clean"),  # 40 slices from the altered one
        ("EXP1_blind", "10", 46, None, None, "clean"),
        ("EXP1_blind", "10", 100, None, None, "clean"),
        ("EXP1_blind", "11", 7, 1, 2, "FM"),
        ("EXP1_blind", "12", 1, None, None, "clean"),
        ("EXP1_blind", "12", 2, None, None, "clean"),
        ("EXP1_blind", "12", 10, None, None, "clean"),
        ("EXP1_blind", "13", 9, 3, 4, "TM"),
        ("EXP2_open", "13", 9, 3, 4, "FB"),  # the same patient, altered there
    }


def test_a_site_is_altered_on_every_slice_within_10_mm_of_the_labelled_one(tmp_path):
    for number in (15, 16, 17, 20, 24, 25):
        write_slice(tmp_path / "CT_Scans" / "EXP1_blind" / "1" / f"{number}.dcm", number)
    (tmp_path / "labels_exp1.csv").write_text("type,uuid,slice,x,y\nFM,1,20,3,2\nTM,1,16,1,1\n")
    rows = [(row.slice, row.x, row.y, row.kind, row.depth_mm) for row in read_ctgan(tmp_path).rows]
    assert rows == [
        (20, 3, 2, "FM", 0.0),
        (16, 1, 1, "TM", 0.0),
        *[(number, 3, 2, "FM", (number - 20) * 2.5) for number in (16, 17, 24)],  # 2.5 mm a slice: 16 to 24
    ]


def test_the_same_place_labelled_on_two_slices_is_one_place_on_each(tmp_path):
    for number in (20, 21):
        write_slice(tmp_path / "CT_Scans" / "EXP1_blind" / "1" / f"{number}.dcm", number)
    (tmp_path / "labels_exp1.csv").write_text("type,uuid,slice,x,y\nFB,1,20,3,2\nFB,1,21,33,2\nFB,1,21,100,2\n")
    rows = [(row.slice, row.x, row.depth_mm) for row in read_ctgan(tmp_path).rows]
    # 30 pixels are 15 mm, the same place; 97 are another, altered on slice 20 too
    assert rows == [(20, 3, 0.0), (21, 33, 0.0), (21, 100, 0.0), (20, 100, -2.5)]


def test_a_slice_that_is_cut_off_or_none_is_a_line_and_the_rest_goes_on(ctgan):
    scan = ctgan / "CT_Scans" / "EXP1_blind" / "10"
    whole = (scan / "5.dcm").read_bytes()
    (scan / "5.dcm").write_bytes(whole[:-8])
    (scan / "45.dcm").write_bytes(b"<html>not found</html>")
    write_slice(scan / "46.dcm", 46, Modality="DX")
    found = read_ctgan(ctgan)
    assert [row.slice for row in found.rows if row.patient == "10"] == [100]
    said = [line.split("EXP1_blind/10/")[1] for line in found.problems if "EXP1_blind/10/" in line]
    assert sorted(said) == [
        "45.dcm: is no DICOM file",
        "46.dcm: its Modality is DX, not CT",
        "5.dcm: ends before its 4 x 6 pixels do; download it again",
    ]


def test_what_was_read_is_kept_until_a_file_is_changed_added_or_removed(ctgan, tmp_path, monkeypatch):
    first = read_index(tmp_path, tmp_path / "kept")
    scan = ctgan / "CT_Scans" / "EXP1_blind" / "12"

    def seen():
        read = []
        monkeypatch.setattr("training.datasets._read_scan", lambda scan, _: read.append(scan.name) or read_of(scan, _))
        found = read_index(tmp_path, tmp_path / "kept")
        monkeypatch.setattr("training.datasets._read_scan", read_of)
        return read, found

    from training.datasets import _read_scan as read_of  # noqa: PLC0415  # the real one

    assert seen() == ([], first)
    write_slice(scan / "3.dcm", 3)
    read, found = seen()
    assert (read, len(found.rows)) == (["12"], len(first.rows) + 1)
    (scan / "3.dcm").unlink()
    assert seen() == (["12"], first)
    time_ns = (scan / "2.dcm").stat().st_mtime_ns
    write_slice(scan / "2.dcm", 7)  # as long as before
    os.utime(scan / "2.dcm", ns=(time_ns, time_ns + 1))
    read, found = seen()
    assert read == ["12"]
    assert found.digest() != first.digest()
    for kept in (tmp_path / "kept" / "index").iterdir():
        kept.write_text("{")  # cut off
    assert seen()[1] == found


def test_any_folder_of_series_is_one_patient_for_each_folder(tmp_path):
    for patient in ("p1", "p2"):
        write_slice(tmp_path / patient / "deep" / "a.dcm", 1 if patient == "p1" else 2)
    write_slice(tmp_path / "loose.dcm", 3)
    found = read_index(tmp_path)
    assert {(row.source, row.patient, row.slice) for row in found.rows} == {
        ("p1", "clean:p1", 1),
        ("p2", "clean:p2", 2),
    }
    assert any("1 files lie beside the patients' folders" in line for line in found.problems)


def test_lidc_nodules_come_with_agreement_and_size_in_pixels_and_mm(tmp_path):
    folder = tmp_path / "LIDC-IDRI" / "LIDC-IDRI-0001" / "study" / "series"
    write_slice(folder / "1-001.dcm", 1)
    write_slice(folder / "1-002.dcm", 2)
    square = [(0, 0), (4, 0), (4, 4), (0, 4)]
    (folder / "069.xml").write_text(XML.format(first=nodule("1.2.1", square), second=nodule("1.2.1", square)))
    found = read_index(tmp_path)
    (row,) = [row for row in found.rows if row.kind == "nodule"]
    assert (row.source, row.patient, row.series) == ("LIDC-IDRI", "clean:LIDC-IDRI-0001", "1.3")
    assert (row.x, row.y, row.readers, row.diameter_px, row.diameter_mm) == (2, 2, 2, 4.0, 2.0)
    assert sum(row.kind == "clean" for row in found.rows) == 2


def test_an_outline_that_touches_two_makes_them_one_nodule(tmp_path):
    one, other = [(10, 10), (20, 20)], [(40, 40), (50, 50)]
    long = [(0, 0), (60, 60)]
    path = tmp_path / "marks.xml"
    path.write_text(XML.format(first=nodule("1.2", one) + nodule("1.2", other), second=nodule("1.2", long)))
    (found,) = read_nodules(path)
    assert found.readers == 2


def test_an_outline_without_numbers_is_a_clear_error(tmp_path):
    path = tmp_path / "marks.xml"
    path.write_text(XML.format(first=nodule("1.2", [("a", 1)]), second=""))
    with pytest.raises(ConfigurationError, match="has no numbers"):
        read_nodules(path)


def test_what_is_missing_is_one_line_for_each_scan(ctgan):
    problems = read_ctgan(ctgan).problems
    assert len(problems) == 2
    assert problems[0].endswith("EXP1_blind/11: 1 labelled slices present, missing 8")
    assert problems[1].endswith("EXP1_blind/14: 0 labelled slices present, missing 3")


def test_a_malformed_label_row_is_a_line_and_the_others_are_read(ctgan):
    (ctgan / "labels_exp2.csv").write_text("type,uuid,slice,x,y\nFB,13,nine,3,4\n")
    found = read_ctgan(ctgan)
    assert any("labels_exp2.csv, line 2: expected type,uuid,slice,x,y" in line for line in found.problems)
    assert len(found.rows) == 9  # the run goes on


def test_the_data_hash_follows_the_bytes_and_not_the_place(ctgan, tmp_path):
    before = read_index(tmp_path).digest()
    (tmp_path / "ctgan").rename(tmp_path / "moved")
    assert read_ctgan(tmp_path / "moved").digest() == before
    (tmp_path / "moved" / "CT_Scans" / "EXP1_blind" / "11" / "7.dcm").unlink()
    assert read_ctgan(tmp_path / "moved").digest() != before


def test_the_table_is_written_and_counted(ctgan, tmp_path, capsys):
    assert main(["index", "--data", str(tmp_path), "--table", str(tmp_path / "index.csv")]) == 0
    said = capsys.readouterr()
    assert "clean is missing" in said.err
    assert "ctgan: FB: 2 rows, 2 slices, 2 patients" in said.out
    with (tmp_path / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 10
    assert rows[0]["class"] == "FB"
    assert len(rows[0]["sha256"]) == 64
    write_table(read_index(tmp_path), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "index.csv").read_text()
    assert main(["summary", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == summary_lines(read_index(tmp_path))


def test_files_that_are_no_slices_are_said_and_the_rest_goes_on(tmp_path):
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "broken.dcm").write_bytes(b"nothing")
    (tmp_path / "patient" / "broken.xml").write_text("<LidcReadMessage")
    found = read_series(tmp_path)
    assert not found.rows
    assert any("broken.dcm: is no DICOM file" in line for line in found.problems)
    assert any("broken.xml: is no readable XML" in line for line in found.problems)


def test_marks_of_radiologists_that_overlap_are_one_nodule(tmp_path):
    square = [(100, 50), (110, 50), (110, 60), (100, 60)]
    moved = [(x + 4, y) for x, y in square]
    far = [(300, 200)]
    path = tmp_path / "marks.xml"
    path.write_text(XML.format(first=nodule("1.2", square) + nodule("1.3", far), second=nodule("1.2", moved)))
    one, other = read_nodules(path)
    assert one.readers == 2
    assert (one.marks["1.2"].x, one.marks["1.2"].y, one.marks["1.2"].extent) == pytest.approx((107.0, 55.0, 10.0))
    assert other.readers == 1
    assert other.marks["1.3"].extent == 0


def test_holes_and_other_xml_are_no_nodules(tmp_path):
    path = tmp_path / "marks.xml"
    path.write_text(XML.format(first=nodule("1.2", [(1, 1)], "FALSE"), second=""))
    assert read_nodules(path) == []
    path.write_text("<other/>")
    assert read_nodules(path) == []
