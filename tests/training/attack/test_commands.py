import inspect
import json

import pydicom
import pytest

from pacs_guard.simulate import write_series
from training.__main__ import main
from training.attack.export import write_altered


@pytest.fixture(scope="module")
def written(chest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_series(chest.part(0, 14), folder)
    return folder


def test_list_names_every_attack_with_its_kinds(capsys):
    assert main(["attack", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("ctgan ")
    assert "FB FM" in lines[0]
    assert "SHAM" in lines[-1]


def test_apply_writes_images_that_always_say_what_they_are(written, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["attack", "apply", "--series", str(written), "--attack", "mask-only", "--kind", "FB", "--out", str(out)]
    assert main(command) == 0
    before = {pydicom.dcmread(path).SOPInstanceUID for path in written.glob("*.dcm")}
    images = [pydicom.dcmread(path) for path in sorted(out.glob("*.dcm"))]
    assert len(images) == 14
    for ds in images:
        assert ds.SOPInstanceUID not in before
        assert ds.ImageType[0] == "DERIVED"
        assert ds.QualityControlImage == "YES"
        assert ds.PatientName == "SIMULATED^PHANTOM"
        assert ds.SeriesDescription == ds.StudyDescription == "SIMULATED mask-only FB"
        assert ds.DerivationDescription.startswith("SIMULATED: altered on purpose")
    sheet = json.loads((out / "labels.json").read_text())
    (label,) = sheet["labels"]
    assert sheet["simulated"] is True
    assert label["type"] == "FB"
    assert label["uuid"] == images[0].SeriesInstanceUID
    assert 1 <= label["slice"] <= 14
    assert f"slice {label['slice']}, x {label['x']}, y {label['y']}" in capsys.readouterr().out
    z, y, x = (sheet["changed"][axis] for axis in ("slices", "rows", "columns"))
    assert z[0] < label["slice"] <= z[1]
    assert y[0] <= label["y"] < y[1]
    assert x[0] <= label["x"] < x[1]


def test_no_argument_of_the_writer_leaves_a_marking_out(chest, tmp_path):
    assert set(inspect.signature(write_altered).parameters) == {"altered", "folder", "seed", "generator"}
    blank = {"description": "", "derivation": ""}
    fixed = {"transfer_syntax_uid", "acquired"}  # neither is a marking
    assert set(inspect.signature(write_series).parameters) == {"volume", "folder", *blank, *fixed}
    (path,) = write_series(chest.part(0, 1), tmp_path, **blank)
    ds = pydicom.dcmread(path)
    marked = (
        ds.StudyDescription,
        ds.SeriesDescription,
        ds.DerivationDescription,
        ds.ImageComments,
        str(ds.PatientName),
    )
    assert all(text.startswith("SIMULATED") for text in marked)
    assert (ds.ImageType[0], ds.QualityControlImage) == ("DERIVED", "YES")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--attack", "nothing", "--kind", "FB"], "attack is 'nothing'; expected one of ctgan"),
        (["--attack", "splice", "--kind", "FB"], "kind is FB; splice does FM"),
        (["--attack", "ctgan"], "kind is None; ctgan does FB, FM"),
        (["--attack", "ctgan", "--kind", "FM", "--generator", "absent"], "removal.npz is missing"),
    ],
)
def test_what_cannot_be_done_is_said(written, tmp_path, capsys, arguments, says):
    assert main(["attack", "apply", "--series", str(written), "--out", str(tmp_path), *arguments]) == 1
    assert says in capsys.readouterr().err


def test_a_folder_without_a_series_is_refused(tmp_path, capsys):
    assert main(["attack", "apply", "--series", str(tmp_path), "--attack", "ctgan", "--kind", "FB", "--out", "x"]) == 1
    assert "0 series were found; expected one" in capsys.readouterr().err
