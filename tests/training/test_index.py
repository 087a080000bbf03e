import csv

import pytest

from pacs_guard.errors import ConfigurationError
from training.__main__ import main
from training.index import read_clean, read_ctgan, read_index, summary_lines, write_table
from training.lidc import read_nodules

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
            (folder / "CT_Scans" / scan / f"{number}.dcm").write_bytes(f"{scan}{number}".encode())
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


def test_what_is_missing_is_one_line_for_each_scan(ctgan):
    problems = read_ctgan(ctgan).problems
    assert len(problems) == 2
    assert problems[0].endswith("EXP1_blind/11: 1 labelled slices present, missing 8")
    assert problems[1].endswith("EXP1_blind/14: 0 labelled slices present, missing 3")


def test_a_malformed_label_row_names_its_line(ctgan):
    (ctgan / "labels_exp2.csv").write_text("type,uuid,slice,x,y\nFB,13,nine,3,4\n")
    with pytest.raises(ConfigurationError, match=r"labels_exp2.csv, line 2: expected type,uuid,slice,x,y"):
        read_ctgan(ctgan)


def test_the_data_hash_follows_the_bytes_and_not_the_place(ctgan, tmp_path):
    before = read_index(tmp_path).digest()
    (tmp_path / "ctgan").rename(tmp_path / "moved")
    assert read_ctgan(tmp_path / "moved").digest() == before
    (tmp_path / "moved" / "CT_Scans" / "EXP1_blind" / "11" / "7.dcm").write_bytes(b"other")
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
    found = read_clean(tmp_path)
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
