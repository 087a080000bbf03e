from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pacs_guard.detect.bundle import load_bundle, save_bundle
from pacs_guard.detect.forensic import WEIGHTS, ForensicDetector
from pacs_guard.detect.registry import load_detector
from pacs_guard.domain.verdict import FindingKind, Severity
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import BundleError

PLACE = (90, 160)


def near(one, place=PLACE, pixels=10):
    return np.hypot(one.x - place[0], one.y - place[1]) < pixels


def test_altered_noise_in_one_slice_is_found_and_said(chest, rule_bundle):
    result = ForensicDetector(rule_bundle).assess(chest.series([chest.slice(altered=PLACE)]))
    finding = result.findings[0]
    assert finding.kind is FindingKind.FB
    assert finding.severity is Severity.SUSPECT
    assert near(finding)
    assert finding.sop_uid == "1.2.3.1"
    assert finding.box.x0 < PLACE[0] < finding.box.x1
    assert finding.position_mm == pytest.approx((-100 + 0.9 * finding.x, -50 + 0.9 * finding.y, 10.0))
    assert "Only this one slice" in finding.sentence
    assert f"{100 * finding.cues['finest_ratio']:.0f} %" in finding.sentence
    assert finding.cues["finest_ratio"] > 1.5
    assert (result.slices[0].x, result.slices[0].y) == (finding.x, finding.y)


def test_an_injected_nodule_is_the_other_head_s(chest, rule_bundle):
    result = ForensicDetector(rule_bundle).assess(chest.series([chest.slice(nodule=PLACE)]))
    kinds = {finding.kind for finding in result.findings if near(finding)}
    assert FindingKind.FM in kinds


def test_clean_slices_give_scores_and_no_findings(chest, rule_bundle):
    series = chest.series([chest.slice(seed) for seed in range(3)])
    result = ForensicDetector(rule_bundle).assess(series)
    assert result.findings == ()
    assert [one.sop_uid for one in result.slices] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert [one.z_mm for one in result.slices] == [10.0, 12.5, 15.0]
    assert result.undetermined is None


def test_p_values_count_the_clean_patients_that_score_as_high(chest, rule_bundle):
    detector = ForensicDetector(rule_bundle)
    assert detector.assess(chest.series([chest.slice(altered=PLACE)])).p_value == 0.25
    quiet = detector.assess(chest.series([chest.slice()]))
    assert quiet.p_value == (1 + sum(one >= quiet.score for one in (-4.0, -3.0, 0.5))) / 4


def test_what_one_slice_of_many_shows_alone_is_held_against_its_neighbours(chest, rule_bundle):
    detector = ForensicDetector(rule_bundle)
    alone = [chest.slice(seed, altered=PLACE if seed == 4 else None) for seed in range(9)]
    through = [chest.slice(seed, altered=PLACE if 2 <= seed <= 6 else None) for seed in range(9)]
    one, several = detector.assess(chest.series(alone)), detector.assess(chest.series(through))
    assert several.score > one.score + 1
    assert near(several.findings[0])
    assert len(several.findings) == 1
    assert several.findings[0].sop_uid in {f"1.2.3.{i + 1}" for i in range(2, 7)}


def test_slices_without_lung_score_lowest_among_others(chest, rule_bundle):
    belly = np.full((chest.size, chest.size), 40, np.int16)
    result = ForensicDetector(rule_bundle).assess(chest.series([belly, chest.slice()]))
    assert result.slices[0].score_fb < result.slices[1].score_fb
    assert result.undetermined is None


def test_no_lung_at_all_is_undetermined(chest, rule_bundle):
    result = ForensicDetector(rule_bundle).assess(chest.series([np.full((200, 200), 40, np.int16)]))
    assert "no lung in the one slice" in result.undetermined
    assert result.slices == ()
    assert result.score is None


def test_no_volume_is_undetermined_with_the_refusal(rule_bundle):
    series = AssembledSeries("1", "2", (), None, refusal="not CT")
    assert ForensicDetector(rule_bundle).assess(series).undetermined == "not CT"


def test_other_planes_are_undetermined(chest, rule_bundle):
    series = chest.series([chest.slice()])
    coronal = replace(series, volume=replace(series.volume, orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0)))
    assert "not axial" in ForensicDetector(rule_bundle).assess(coronal).undetermined


def test_a_picture_is_written_for_every_finding(chest, rule_bundle, tmp_path):
    folder = tmp_path / "evidence"
    result = ForensicDetector(rule_bundle).assess(chest.series([chest.slice(altered=PLACE)]), folder)
    assert result.findings
    for finding in result.findings:
        with Image.open(folder / finding.picture) as picture:
            assert picture.format == "PNG"
    assert len(list(folder.iterdir())) == len(result.findings)


def test_a_bundle_for_other_features_is_refused(rule_bundle, tmp_path):
    manifest = dict(rule_bundle.manifest)
    manifest["preprocessing"] = {**manifest["preprocessing"], "features": {"FB": ["a"], "FM": ["b"]}}
    other = save_bundle(tmp_path / "other", manifest, {WEIGHTS: rule_bundle.read(WEIGHTS)})
    with pytest.raises(BundleError, match="trained on other features"):
        ForensicDetector(load_bundle(other.path))


def test_a_bundle_without_a_table_of_clean_scores_is_refused(rule_bundle, tmp_path):
    bare = {"series": {"n": 3, "fb": [0.0]}, "slice": {"n": 3, "fb": [0.0]}}
    other = save_bundle(
        tmp_path / "other", {**rule_bundle.manifest, "calibration": bare}, {WEIGHTS: rule_bundle.read(WEIGHTS)}
    )
    with pytest.raises(BundleError, match="no table of clean scores"):
        ForensicDetector(load_bundle(other.path))


@pytest.mark.parametrize("content", ["", None])
def test_a_bundle_without_a_needed_section_is_refused(rule_bundle, tmp_path, content):
    manifest = {**rule_bundle.manifest, "operating_point": {} if content is None else {"series": {}}}
    other = save_bundle(tmp_path / "other", manifest, {WEIGHTS: rule_bundle.read(WEIGHTS)})
    with pytest.raises(BundleError, match="incomplete"):
        ForensicDetector(other)


def test_the_shipped_detector_leaves_a_plain_chest_alone(chest):
    detector = load_detector("forensic")
    result = detector.assess(chest.series([chest.slice(seed) for seed in range(4)]))
    assert result.findings == ()
    assert len(result.slices) == 4


def test_noise_copied_from_the_attack_s_fixed_place_is_a_finding_over_the_series_point(chest, rule_bundle):
    slices = [chest.slice(seed) for seed in range(9)]
    row, column = int(0.43 * chest.size), int(0.27 * chest.size)
    for one in (3, 4, 5):
        slices[one] = slices[one].copy()
        slices[one][150:190, 210:250] = slices[one][row - 20 : row + 20, column - 20 : column + 20]
    result = ForensicDetector(rule_bundle).assess(chest.series(slices))
    copies = [finding for finding in result.findings if "copy_strength" in finding.cues]
    assert [near(one, (230, 170)) for one in copies] == [True]
    assert copies[0].kind is FindingKind.FB
    assert result.score >= copies[0].score > 1.0
    assert "never repeats its noise" in copies[0].sentence


def test_few_grey_levels_are_a_notice_of_the_whole_series_and_no_suspicion(chest, rule_bundle, tmp_path):
    levels = [(chest.slice(seed) // 6 * 6).astype(np.int16) for seed in range(3)]
    result = ForensicDetector(rule_bundle).assess(chest.series(levels), tmp_path)
    notices = [finding for finding in result.findings if finding.kind is FindingKind.WHOLE]
    assert [(one.severity, one.sop_uid, one.picture) for one in notices] == [(Severity.NOTICE, None, None)]
