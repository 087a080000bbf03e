import os
from pathlib import Path

import pytest

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.__main__ import main
from training.sources import read_all, read_labels, tampered_slices

DATA = Path(os.environ.get("PACS_GUARD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not (DATA / "ctgan").is_dir(), reason=f"no labelled slices in {DATA}")


def test_labels_are_read_under_either_name_of_the_slice_column(tmp_path):
    (tmp_path / "labels_exp1.csv").write_text("type,uuid,slice,x,y\nFB,1,10,20,30\nTB,2,0,0,0\nTM,1,11,5,6\n")
    (tmp_path / "labels_exp2.csv").write_text("type,uuid,z,x,y\nFM,1,7,8,9\n")
    labels = read_labels(tmp_path)
    assert labels == {
        ("EXP1_blind", "1"): [("FB", 10, 20, 30), ("TM", 11, 5, 6)],
        ("EXP2_open", "1"): [("FM", 7, 8, 9)],
    }


def test_missing_slices_are_passed_over(tmp_path):
    (tmp_path / "labels_exp1.csv").write_text("type,uuid,slice,x,y\nFB,1,10,20,30\n")
    assert list(tampered_slices(tmp_path)) == []


def test_a_folder_without_data_is_one_clear_error(tmp_path, capsys):
    with pytest.raises(ConfigurationError, match=r"ctgan is missing"):
        read_all(tmp_path)
    assert main(["index", "--data", str(tmp_path)]) == 1
    assert "expected ctgan, clean, LIDC-IDRI or reviewed in it" in capsys.readouterr().err


def test_the_shipped_bundle_s_card_is_printed(capsys):
    assert main(["summary", "forensic"]) == 0
    assert "## Limits" in capsys.readouterr().out


@pytest.mark.real_data
@needs_data
def test_real_slices_come_with_their_labels():
    case = next(iter(tampered_slices(DATA / "ctgan")))
    assert case.volume.hu.shape == (1, 512, 512)
    assert case.volume.hu.min() >= -1100
    assert case.target.kind in (FindingKind.FB, FindingKind.FM)
    assert 0 < case.volume.spacing_mm[1] < 1.5
