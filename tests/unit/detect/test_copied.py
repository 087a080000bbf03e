import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.copied import LEAST_CORRELATION, LEAST_STRENGTH, SOURCE, find_copy

SPACING = (2.5, 0.8, 0.8)


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(3)
    texture = ndimage.gaussian_filter(rng.standard_normal((10, 220, 240)), (0.0, 0.7, 0.7))
    hu = np.rint(-850 + 30 * texture / texture.std()).astype(np.int16)
    hu[:, (0, -1)] = hu[:, :, (0, -1)] = 40  # what is searched lies within a body
    return hu


def copied(noise, row, column, half=18):
    z, y, x = (int(share * length) for share, length in zip(SOURCE, noise.shape, strict=True))
    hu = noise.copy()
    for step in (-2, -1, 0, 1, 2):
        patch = noise[z + step, y - half : y + half, x - half : x + half]
        hu[z + step, row - half : row + half, column - half : column + half] = -860 + 0.7 * (patch + 850)
    return hu


def test_noise_taken_from_the_source_is_found_where_it_was_put(noise):
    copy = find_copy(copied(noise, 150, 170), SPACING)
    assert copy.repeats
    assert copy.correlation > 0.8
    assert copy.index == 5
    assert (copy.row, copy.column) == pytest.approx((150, 170), abs=1)


def test_noise_that_never_repeats_stays_far_under_the_limit(noise):
    copy = find_copy(noise, SPACING)
    assert copy.strength < 0.7 * LEAST_STRENGTH
    assert copy.correlation < 0.7 * LEAST_CORRELATION


def test_the_source_itself_is_no_copy(noise):
    still = np.repeat(noise[5:6], 10, axis=0)
    copy = find_copy(still, SPACING)
    assert np.hypot(copy.row - 94, copy.column - 64) * SPACING[1] > 20
    assert not copy.repeats


def test_few_slices_are_not_searched(noise):
    assert find_copy(noise[:7], SPACING) is None
