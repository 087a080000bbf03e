import numpy as np
import pytest

from pacs_guard.detect.conformal import CleanScores
from training.calibration import (
    calibration_sections,
    left_out_alarms,
    left_out_shares,
    operating_point,
    safe_margin,
    slice_point,
)


def test_the_operating_point_is_over_every_clean_patient():
    clean = [-1.0, 0.0, 2.0]
    assert operating_point(clean, 0.5) > 2.0
    assert operating_point([-9.0, -8.0], 0.5) == 0.0


def test_how_low_the_lowest_clean_patients_are_does_not_raise_the_point():
    assert operating_point([-9.0, -1.0, 0.0, 0.5, 1.0], 1.0) == operating_point([-2.0, -1.0, 0.0, 0.5, 1.0], 1.0)
    assert (
        operating_point([-1.0, -1.0, 0.0, 0.5, 3.0], 1.0)
        > 3.0 + operating_point([-1.0, -1.0, 0.0, 0.5, 1.0], 1.0) - 1.0
    )


def test_left_out_alarms_are_counted_against_the_point_of_the_others():
    assert left_out_alarms([0.0, 0.1, 0.2, 9.0], 0.5) == 1
    assert left_out_alarms([0.0, 1.0, 2.0, 2.5], 0.25) == 1
    assert left_out_alarms([0.0, 1.0, 2.0, 2.5], 0.75) == 0
    assert safe_margin([0.0, 1.0, 2.0, 2.5]) == 1.0


def test_a_margin_chosen_without_the_patient_left_out_can_be_too_small_for_it():
    clean = [0.0, 1.0, 2.0, 2.5, 4.0]
    assert left_out_alarms(clean, safe_margin(clean)) == 0
    assert left_out_alarms(clean) == 1


def test_the_slice_point_lets_the_wanted_share_of_slices_through_with_patients_counting_once():
    many, single = list(np.linspace(0.1, 20.0, 200)), [5.0]
    # one slice of the many weighs 1/400, the single one 1/2
    assert 19.9 < slice_point([many, single], 0.0025) <= 20.0
    assert 19.8 < slice_point([many, single], 0.005) <= 19.9
    assert 5.0 < slice_point([many[:20], single], 0.4) <= 5.001


def test_no_slice_that_must_not_be_flagged_reaches_the_point():
    rng = np.random.default_rng(1)
    patients = [rng.normal(2.0, 1.0, n) for n in (120, 2, 2, 60)]
    point = slice_point(patients, 0.01)
    assert np.mean([(one >= point).mean() for one in patients]) <= 0.01
    assert np.mean([(one >= point - 0.3).mean() for one in patients]) > 0.01


def test_the_slice_point_has_a_floor():
    assert slice_point([[-9.0], [-8.0]]) == 0.0


def test_a_patient_left_out_is_held_to_the_others_points():
    quiet = [{"patient": str(i), "fb": [0.0, 0.1], "fm": [0.0, 0.2]} for i in range(3)]
    loud = {"patient": "loud", "fb": [9.0, 0.0], "fm": [0.0, 0.0]}
    assert left_out_shares([*quiet, loud]) == [0.0, 0.0, 0.0, 0.5]


@pytest.fixture
def clean():
    rng = np.random.default_rng(2)
    series = [{"patient": str(i), "fb": [float(i)], "fm": [float(-i)]} for i in range(4)]
    slices = [
        {"patient": str(i), "fb": rng.normal(size=n).tolist(), "fm": rng.normal(size=n).tolist()}
        for i, n in enumerate((80, 2, 40))
    ]
    return {"series": series, "slice": slices}


def test_the_smallest_p_value_follows_from_the_patients(clean):
    points, calibration = calibration_sections(clean)
    assert calibration["series"]["n"] == 4
    assert calibration["series"]["smallest_p_value"] == 0.2
    assert calibration["series"]["any"] == [[0.0], [1.0], [2.0], [3.0]]
    assert points["series"]["fb"] > 3.0
    assert calibration["slice"]["smallest_p_value"] == 0.25
    assert CleanScores.from_section(calibration["slice"]).p_value("any", 99.0) == 0.25


def test_the_table_is_small_and_its_p_values_are_never_under_those_of_all_slices(clean):
    _, calibration = calibration_sections(clean)
    section = calibration["slice"]
    assert section["slices"] == [80, 2, 40]
    assert all(len(one) == len(section["levels"]) < 10 for one in section["fb"])
    table = CleanScores.from_section(section)
    for score in np.linspace(-3, 3, 25):
        exact = sum(float(np.mean(np.array(one["fb"]) >= score)) for one in clean["slice"])
        assert table.p_value("fb", score) >= (1 + exact) / 4 - 1e-9


def test_both_heads_together_keep_to_twice_the_share_of_one(clean):
    _, calibration = calibration_sections(clean)
    section = calibration["slice"]
    assert section["share_flagged"] <= 2 * section["share_aimed_at_each_head"]
    assert 0 <= section["left_out_share_interval"][0] <= section["left_out_share_flagged"]
