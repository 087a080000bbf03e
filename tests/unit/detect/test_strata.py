from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.strata import STRATA, stratum_of
from pacs_guard.domain.volume import Volume


def _series(sigma: float, distance_mm: float, hu: float = 40.0, count: int = 3) -> Volume:
    noise = np.random.default_rng(1).standard_normal((count, 96, 96))
    noise = ndimage.gaussian_filter(noise, (0, sigma, sigma))
    pixels = np.rint(hu + 20 * noise / noise.std()).astype(np.int16)
    positions = np.array([[0.0, 0.0, distance_mm * i] for i in range(count)])
    uids = tuple(f"1.{i + 1}" for i in range(count))
    return Volume(pixels, None, (distance_mm, 0.8, 0.8), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), positions, uids, "1", "2")


@pytest.mark.parametrize(
    ("sigma", "distance_mm", "expected"),
    [(0.2, 1.0, "sharp, thin"), (0.2, 5.0, "sharp, thick"), (1.0, 0.6, "smooth, thin"), (1.0, 2.5, "smooth, thick")],
)
def test_it_is_told_by_grain_and_distance(sigma: float, distance_mm: float, expected: str) -> None:
    assert stratum_of(_series(sigma, distance_mm)) == expected
    assert expected in STRATA


def test_one_slice_is_enough_and_air_is_not() -> None:
    assert stratum_of(_series(1.0, 5.0, count=1)) == "smooth, thick"
    assert stratum_of(_series(1.0, 5.0, hu=-900.0)) is None
