import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.whole import whole_traces


@pytest.fixture
def chests(chest):
    return np.stack([chest.slice(seed) for seed in range(4)])


def through_another_grid(hu, spacing=0.9, order=3):
    small = [ndimage.zoom(one.astype(np.float32), spacing, order=order) for one in hu]
    factors = [np.array(hu.shape[1:]) / np.array(one.shape) for one in small]
    back = [ndimage.zoom(one, factor, order=order) for one, factor in zip(small, factors, strict=True)]
    return np.rint(np.stack(back)).astype(np.int16)


def test_a_scanner_s_own_pixels_show_nothing(chests):
    assert whole_traces(chests) == []


def test_a_series_that_went_through_eight_bits_is_told(chests):
    eight = np.rint(np.clip((chests + 1000) / 1400, 0, 1) * 255)
    (trace,) = whole_traces(np.rint(eight / 255 * 1400 - 1000).astype(np.int16))
    assert trace.name == "levels"
    assert trace.measured < 0.25
    assert "18 %" in trace.sentence


def test_a_series_that_was_resampled_and_back_is_told_with_the_period(chests):
    (trace,) = whole_traces(through_another_grid(chests, spacing=0.7))
    assert trace.name == "interpolated"
    assert "every 3.3" in trace.sentence
