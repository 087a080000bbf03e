import numpy as np
import pytest

from pacs_guard.detect.cues import cues_at, extent_of, sentence_of
from pacs_guard.detect.features import Raster, measure_slice
from pacs_guard.detect.scoremap import NOTHING, Peak
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import DetectorError

PLACE = (90, 160)


def test_white_noise_is_said_to_lack_grain_and_to_have_too_fine_a_pattern(chest):
    hu = chest.slice(altered=PLACE)
    sites, raster = measure_slice(hu, (0.9, 0.9)).lung, Raster.of(hu.shape, (0.9, 0.9))
    nearest = np.hypot(
        raster.offset[1] + sites.columns * raster.pitch[1] - PLACE[0],
        raster.offset[0] + sites.rows * raster.pitch[0] - PLACE[1],
    ).argmin()
    peak = Peak(5.0, 0, int(sites.rows[nearest]), int(sites.columns[nearest]))
    cues = cues_at(chest.volume([hu]), FindingKind.FB, peak)
    assert cues["finest_ratio"] > 1.5
    assert cues["finest_deviations"] > 3
    assert cues["grain_ratio"] < cues["finest_ratio"] / 1.5
    sentence = sentence_of(FindingKind.FB, "here", cues)
    assert f"finest pattern is {100 * cues['finest_ratio']:.0f} % ({cues['finest_deviations']:.1f} deviations too" in (
        sentence
    )


def test_a_slice_without_lung_has_no_cues(chest):
    volume = chest.volume([np.full((200, 200), 40, np.int16)])
    with pytest.raises(DetectorError, match="has none now"):
        cues_at(volume, FindingKind.FM, Peak(1.0, 0, 1, 1))


def test_the_extent_is_that_of_the_piece_around_the_peak():
    maps = np.full((9, 30, 30), NOTHING, np.float32)
    maps[2:7, 10:15, 10:14] = 4.0
    maps[4, 12, 12] = 6.0
    maps[4, 12, 20] = 6.0  # a place of its own
    maps[8, 12, 12] = 6.0
    extent = extent_of(maps, Peak(6.0, 4, 12, 12), (2.0, 3.0, 3.0))
    assert extent == {"extent_z_mm": 10.0, "extent_y_mm": 15.0, "extent_x_mm": 12.0, "slices": 5.0}
