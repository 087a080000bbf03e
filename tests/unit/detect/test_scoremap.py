import numpy as np
import pytest

from pacs_guard.detect.features import Raster, Sites
from pacs_guard.detect.scoremap import NOTHING, agreement, highest, peaks, slice_map

RASTER = Raster((4, 4), (0.5, 0.5), (40, 50), (3.0, 3.0))


def test_equal_scores_stay_what_they_are_up_to_the_border_of_the_lung():
    rows, columns = (part.ravel() for part in np.mgrid[10:20, 10:30])
    spread = slice_map(Sites(columns, rows, np.zeros((200, 1))), np.full(200, 2.0, np.float32), RASTER, 5.0)
    assert spread[10:20, 10:30] == pytest.approx(2.0, abs=1e-3)
    assert (spread[:10] == NOTHING).all()


def test_a_lone_high_site_counts_less_than_a_patch_of_them():
    rows, columns = (part.ravel() for part in np.mgrid[5:35, 5:45])
    scores = np.full((40, 50), -2.0, np.float32)
    scores[10, 10] = 6.0
    scores[22:27, 30:35] = 4.0
    spread = slice_map(Sites(columns, rows, np.zeros((1200, 1))), scores[rows, columns], RASTER, 5.0)
    peak = highest(spread[None])
    assert (peak.row, peak.column) == (24, 32)
    assert spread[10, 10] < 0


def test_neighbouring_slices_must_agree():
    maps = np.full((11, 5, 5), -3.0, np.float32)
    maps[5, 1, 1] = 6.0
    maps[3:8, 3, 3] = 4.0
    agreed = agreement(maps, 2.5)
    assert agreed[5, 1, 1] < agreed[5, 3, 3]
    assert agreed[5, 3, 3] == pytest.approx(4.0, abs=0.9)


def test_one_slice_has_none_to_agree_with():
    maps = np.full((1, 5, 5), 1.5, np.float32)
    assert np.array_equal(agreement(maps, 2.5), maps)


def test_what_is_no_site_stays_none():
    maps = np.full((5, 4, 4), 1.0, np.float32)
    maps[:, 0, 0] = NOTHING
    maps[2, 1, 1] = NOTHING
    agreed = agreement(maps, 2.5)
    assert (agreed[:, 0, 0] == NOTHING).all()
    assert agreed[2, 1, 1] == NOTHING
    assert agreed[2, 2, 2] == pytest.approx(1.0)


def test_peaks_are_apart_ordered_and_over_the_threshold():
    maps = np.full((20, 60, 60), -3.0, np.float32)
    maps[5, 10, 10], maps[5, 11, 11], maps[6, 50, 50], maps[15, 10, 10] = 5.0, 4.9, 3.0, 1.0
    found = peaks(maps, (2.5, 3.0, 3.0), 2.0)
    assert [(peak.index, peak.row, peak.column) for peak in found] == [(5, 10, 10), (6, 50, 50)]
    assert peaks(maps, (2.5, 3.0, 3.0), 6.0) == []
    assert len(peaks(maps, (2.5, 3.0, 3.0), -4.0, most=3)) == 3
