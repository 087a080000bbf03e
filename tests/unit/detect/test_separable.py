from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.separable import box, filtered_both, gaussian, twice_a_box

_SHAPE = (131, 97)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(3, *_SHAPE)).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.8, 4.8, 40.0])
def test_a_gaussian_is_scipys_to_the_border(pictures: np.ndarray, sigma: float) -> None:
    ours = filtered_both(pictures[0], *(gaussian(length, sigma) for length in _SHAPE))
    assert np.allclose(ours, ndimage.gaussian_filter(pictures[0], sigma, truncate=3.0), atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 13])
def test_a_box_is_scipys_to_the_border(pictures: np.ndarray, size: int) -> None:
    ours = filtered_both(pictures[0], *(box(length, size) for length in _SHAPE))
    assert np.allclose(ours, ndimage.uniform_filter(pictures[0], size), atol=1e-5)


@pytest.mark.parametrize("size", [1, 5, 25, 201])
def test_two_boxes_treat_channels_alone_and_end_at_the_border(pictures: np.ndarray, size: int) -> None:
    sizes = (1, size, 3)
    once = ndimage.uniform_filter(pictures, sizes, mode="constant")
    ours = filtered_both(pictures, twice_a_box(_SHAPE[0], size), twice_a_box(_SHAPE[1], 3))
    assert np.allclose(ours, ndimage.uniform_filter(once, sizes, mode="constant"), atol=1e-5)


def test_double_precision_is_kept(pictures: np.ndarray) -> None:
    precise = pictures[0].astype(np.float64)
    ours = filtered_both(precise, *(gaussian(length, 2.0, np.float64) for length in _SHAPE))
    assert ours.dtype == np.float64
    assert np.allclose(ours, ndimage.gaussian_filter(precise, 2.0, truncate=3.0), atol=1e-12)


def test_a_part_of_a_picture_is_filtered_as_a_copy_of_it(pictures: np.ndarray) -> None:
    part = pictures[:, 3:90:2, 10:80].transpose(0, 2, 1)
    bands = [gaussian(length, 1.2) for length in part.shape[1:]]
    assert np.array_equal(filtered_both(part, *bands), filtered_both(part.copy(), *bands))
