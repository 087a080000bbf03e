from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.shapes import chosen, grown, holes, without_holes


def _blobs(seed: int, shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 3.0) > 0.08


@pytest.mark.parametrize("spacing", [(1.4, 1.4), (1.0, 2.3), (0.7, 0.9)])
@pytest.mark.parametrize("radius", [0.5, 4.0, 24.0, 500.0])
def test_it_grows_as_far_as_the_distance_transform_says(spacing: tuple[float, float], radius: float) -> None:
    mask = _blobs(1) & _blobs(2)
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius
    assert np.array_equal(grown(mask, spacing, radius), expected)


def test_nothing_stays_nothing() -> None:
    assert not grown(np.zeros((20, 30), bool), (1.0, 1.0), 8.0).any()


def test_holes_are_what_scipy_fills() -> None:
    mask = ~_blobs(3)
    filled = ndimage.binary_fill_holes(mask)
    assert (filled & ~mask).any()
    assert np.array_equal(without_holes(mask), filled)
    assert np.array_equal(chosen(*holes(mask)), filled & ~mask)
