import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.moved import LEAST_BLOCKS, find_twins

SPACING = (2.5, 0.8, 0.8)


@pytest.fixture(scope="module")
def lung():
    rng = np.random.default_rng(3)
    texture = ndimage.gaussian_filter(rng.standard_normal((12, 200, 240)), (0.0, 0.7, 0.7))
    return np.rint(-850 + 30 * texture / texture.std()).astype(np.int16)


def ball(shape, middle, radius_mm):
    places = np.indices(shape)
    away = [(along - at) * mm for along, at, mm in zip(places, middle, SPACING, strict=True)]
    return np.sqrt(np.square(away).sum(axis=0)) <= radius_mm


def moved(hu, source, target, radius_mm=9.0, plus=0):
    """Copy a ball from one place to another, with something added."""
    shifted = np.roll(hu, [to - at for at, to in zip(source, target, strict=True)], axis=(0, 1, 2))
    return np.where(ball(hu.shape, target, radius_mm), shifted + np.int16(plus), hu)


@pytest.mark.parametrize("plus", [0, 35])
def test_lung_that_was_copied_over_other_lung_is_found_at_both_places(lung, plus):
    twins = find_twins(moved(lung, (3, 60, 50), (8, 150, 181), plus=plus), SPACING)
    assert twins.blocks > 5 * LEAST_BLOCKS
    for found, place in zip(twins.places, ((3, 60, 50), (8, 150, 181)), strict=True):
        assert found == pytest.approx(place, abs=3)


def test_noise_that_never_repeats_has_no_twins(lung):
    assert find_twins(lung, SPACING) is None


def test_noise_on_top_of_the_copy_hides_it(lung):
    hu = moved(lung, (3, 60, 50), (8, 150, 181))
    noise = np.random.default_rng(0).integers(-3, 4, hu.shape).astype(np.int16)
    assert find_twins(hu + noise, SPACING) is None


def test_a_slice_that_is_stored_twice_is_no_copied_tissue(lung):
    twice = np.concatenate([lung, lung[4:5]])
    assert find_twins(twice, SPACING) is None


def test_what_was_copied_a_few_millimetres_further_is_no_twin(lung):
    still = np.where(np.arange(240) > 120, lung[:, :, :1], lung)  # rows that do not change along columns
    assert find_twins(still.astype(np.int16), SPACING) is None


def test_a_series_without_lung_has_none():
    assert find_twins(np.full((9, 64, 64), 40, np.int16), SPACING) is None
