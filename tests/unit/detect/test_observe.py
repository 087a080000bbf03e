from dataclasses import replace

import numpy as np
import pytest

from pacs_guard.detect.bundle import find_bundle, load_bundle
from pacs_guard.detect.observe import calibrated_scores, noise_of, observe
from pacs_guard.domain.drift import Measure, shares_of
from pacs_guard.domain.verdict import SeriesResult, SliceScore, Verdict
from pacs_guard.domain.volume import InstanceFacts
from tests.unit.detect.conftest import coloured_noise


def result(scores):
    slices = tuple(SliceScore(f"1.{i}", float(i), score, score - 1, 0.0, 0.0) for i, score in enumerate(scores))
    return SeriesResult("1", Verdict.CLEAN, "", score=max(scores, default=None), slices=slices)


def facts(scanner):
    return InstanceFacts("1.0", "1", "1", "1.2", "ab", scanner=scanner)


def test_white_noise_has_no_grain_and_its_strength_is_measured(chest):
    rng = np.random.default_rng(1)
    for strength in (10.0, 40.0):
        measured, grain = noise_of(rng.normal(40.0, strength, (256, 256)).astype(np.float32))
        assert measured == pytest.approx(strength, rel=0.1)
        assert grain == pytest.approx(0.0, abs=0.12)
    smooth = (40.0 + coloured_noise(rng, (256, 256))).astype(np.float32)
    assert noise_of(smooth)[1] > 0.3


def test_air_and_flat_pictures_have_no_noise_to_measure():
    assert noise_of(np.full((64, 64), -1000.0, np.float32)) is None
    assert noise_of(np.full((64, 64), 40.0, np.float32)) is None


def test_a_series_adds_one_for_each_measure_under_its_scanner(chest):
    series = replace(chest.series([chest.slice(i) for i in range(8)]), instances=(facts("Maker CT 7 B70f"),))
    found = {one.measure: one for one in observe(series, result([-4.5] * 6 + [2.5] * 2))}
    assert {one.scanner for one in found.values()} == {"Maker CT 7 B70f"}
    assert found[Measure.SCORE].shares == shares_of(Measure.SCORE, [-4.5] * 6 + [2.5] * 2)
    assert set(found) == set(Measure)
    for one in found.values():
        assert sum(one.shares) == pytest.approx(1.0)


def test_short_series_and_those_without_scores_add_nothing(chest):
    few = chest.series([chest.slice(0)])
    assert observe(few, result([1.0])) == ()
    assert observe(replace(few, volume=None), result([])) == ()


def test_the_shipped_bundles_clean_scores_are_a_reference():
    reference = calibrated_scores(load_bundle(find_bundle("forensic")))
    assert reference.series >= 5
    assert sum(reference.counts) == pytest.approx(reference.series)
