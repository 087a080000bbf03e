import numpy as np
import pytest

from pacs_guard.detect.bundle import pack_arrays, save_bundle
from pacs_guard.detect.registry import load_detector
from pacs_guard.detect.slicemodels import WEIGHTS
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import BundleError

SHAPE = (66, 85)
WINDOW = (-1000.0, 400.0)
BRIGHT = (0.0 - WINDOW[0]) / (WINDOW[1] - WINDOW[0])


def rule(folder, classes=("untampered", "tampered"), **changes):
    """Write a tree that calls a slice altered where the middle pixel is brighter than water."""
    share = np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]])
    if len(classes) == 3:
        share = np.array([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [0.1, 0.2, 0.7]])
    middle = SHAPE[0] // 2 * SHAPE[1] + SHAPE[1] // 2
    arrays = {
        "step": np.array(1),
        "roots": np.array([0]),
        "left": np.array([1, -1, -1]),
        "right": np.array([2, -1, -1]),
        "feature": np.array([middle, -2, -2]),
        "threshold": np.array([BRIGHT - 0.1, -2.0, -2.0]),
        "share": share,
    }
    manifest = {
        "name": "middle",
        "version": "3",
        "detector": "slice-classifier",
        "preprocessing": {
            "form": "delocalised",
            "shape": list(SHAPE),
            "window_hu": list(WINDOW),
            "classes": list(classes),
            "model": "trees",
            **changes,
        },
        "operating_point": {"slice": 1.0},
        "calibration": {"clean_patients": [-2.0, -1.0, 3.0]},
        "training_data": [],
        "figures": [],
    }
    return save_bundle(folder, manifest, {WEIGHTS: pack_arrays(arrays)}).path


@pytest.fixture
def lungs(chest):
    """A slice whose middle, the mediastinum, is soft tissue, and one where it was made air."""
    bright = chest.slice(0)
    dark = bright.copy()
    dark[140:180, 150:170] = -300
    return dark, bright


def test_the_highest_slice_speaks_for_the_series(tmp_path, chest, lungs):
    dark, bright = lungs
    detector = load_detector(rule(tmp_path / "b"))
    series = chest.series([dark, bright, dark])
    result = detector.assess(series)
    assert (detector.name, detector.version) == ("middle", "3")
    assert result.score == pytest.approx(np.log(0.9 / 0.1))
    assert [round(one.score_fb, 3) for one in result.slices] == [-2.197, 2.197, -2.197]
    (finding,) = result.findings
    assert finding.sop_uid == series.volume.sop_uids[1]
    assert "Slice 2 of 3" in finding.sentence
    assert "not told apart" in finding.sentence
    assert finding.p_value == result.p_value == (1 + 1) / (1 + 3)
    assert finding.box.x0 < 160 < finding.box.x1


def test_under_the_operating_point_there_is_no_finding(tmp_path, chest, lungs):
    result = load_detector(rule(tmp_path / "b")).assess(chest.series([lungs[0]]))
    assert result.findings == ()
    assert result.score == pytest.approx(np.log(0.1 / 0.9))


def test_three_classes_name_the_kind(tmp_path, chest, lungs):
    detector = load_detector(rule(tmp_path / "b", classes=("untampered", "FB", "FM")))
    (finding,) = detector.assess(chest.series([lungs[1]])).findings
    assert finding.kind is FindingKind.FM
    assert finding.score == pytest.approx(np.log(0.7 / 0.1))


def test_without_lung_or_volume_it_is_undetermined(tmp_path, chest):
    detector = load_detector(rule(tmp_path / "b"))
    empty = np.full((chest.size, chest.size), 40, np.int16)
    assert "no lung in any of the 2 slices" in detector.assess(chest.series([empty, empty])).undetermined
    assert detector.assess(AssembledSeries("1", "2", (), refusal="a gap")).undetermined == "a gap"


def test_bundles_for_known_sites_are_refused(tmp_path):
    with pytest.raises(BundleError, match="localised pictures"):
        load_detector(rule(tmp_path / "b", form="localised"))
