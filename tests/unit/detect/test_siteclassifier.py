import numpy as np
import pytest

from pacs_guard.detect.bundle import pack_arrays, save_bundle
from pacs_guard.detect.registry import load_detector
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.detect.slicemodels import WEIGHTS
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import BundleError

SHAPE = (16, 16)
PLACE, OTHER = (90, 160), (232, 150)  # one in each lung


def rule(folder, form="localised"):
    """Write a tree that says FM where the middle of a site has nearly water's density, and not much more."""
    water = 1000.0 / 1400.0
    arrays = {
        "step": np.array(1),
        "roots": np.array([0]),
        "left": np.array([1, -1, 3, -1, -1]),
        "right": np.array([2, -1, 4, -1, -1]),
        "feature": np.array([8 * 16 + 8, -2, 8 * 16 + 8, -2, -2]),
        "threshold": np.array([water - 0.05, -2.0, water + 0.2, -2.0, -2.0]),
        "share": np.array([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.9, 0.05, 0.05]]),
    }
    manifest = {
        "name": "sites",
        "version": "1",
        "detector": "site-classifier",
        "preprocessing": {
            "form": form,
            "shape": list(SHAPE),
            "window_hu": [-1000.0, 400.0],
            "classes": ["untampered", "FB", "FM"],
            "model": "trees",
        },
        "operating_point": {"slice": 1.0},
        "calibration": {"clean_patients": [-2.0, -1.0, 3.0]},
        "training_data": [],
        "figures": [],
    }
    return save_bundle(folder, manifest, {WEIGHTS: pack_arrays(arrays)}).path


def quiet(chest, *nodules, level=-850):
    """A slice of which all but the nodules is as thin as lung, so that only they have water's density."""
    hu = chest.slice(0)
    y, x = np.mgrid[: chest.size, : chest.size]
    hu[hu > -500] = 900  # a body far denser than a nodule
    for column, row in nodules:
        hu[np.hypot(x - column, y - row) * chest.spacing < 8] = level
    return hu


@pytest.fixture
def detector(tmp_path):
    return load_detector(rule(tmp_path / "b"))


def test_a_finding_lies_at_its_candidate_and_findings_are_a_cube_apart(detector, chest):
    slices = [quiet(chest), quiet(chest, PLACE, OTHER, level=20), quiet(chest)]
    series = chest.series(slices)
    result = detector.assess(series)
    places = {(round(one.x / 20), round(one.y / 20)) for one in result.findings}
    assert places == {(round(x / 20), round(y / 20)) for x, y in (PLACE, OTHER)}
    for one in result.findings:
        assert one.kind is FindingKind.FM
        assert one.score == result.score == pytest.approx(np.log(0.7 / 0.1))
        assert one.sop_uid == series.volume.sop_uids[1]
        assert one.box.x1 - one.box.x0 == pytest.approx(32 / chest.spacing, abs=2)
        assert one.position_mm[0] == pytest.approx(-100 + one.x * chest.spacing)
        assert one.p_value == result.p_value == (1 + 1) / (1 + 3)
    assert [one.score_fm > 1 for one in result.slices] == [False, True, False]


def test_without_a_nodule_there_is_no_finding_and_every_judged_slice_has_its_highest_site(detector, chest):
    result = detector.assess(chest.series([quiet(chest)] * 4))
    assert result.findings == ()
    assert result.score == pytest.approx(np.log(0.05 / 0.9))
    scores = [one.score_fm for one in result.slices]
    assert scores[0] == scores[2] == pytest.approx(result.score)  # 5 mm apart
    assert NOTHING in scores[1::2] or scores[1] == pytest.approx(result.score)


def test_without_lung_or_volume_it_is_undetermined(detector, chest):
    empty = np.full((chest.size, chest.size), 40, np.int16)
    assert "no lung in any of the 2 slices" in detector.assess(chest.series([empty, empty])).undetermined
    assert detector.assess(AssembledSeries("1", "2", (), refusal="a gap")).undetermined == "a gap"


def test_a_bundle_for_whole_slices_is_refused(tmp_path):
    with pytest.raises(BundleError, match="expected localised ones"):
        load_detector(rule(tmp_path / "b", form="delocalised"))
