import numpy as np
import pytest
from PIL import Image

from pacs_guard.detect.explain import draw_finding
from pacs_guard.detect.features import Raster
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.domain.verdict import Box, Finding, FindingKind

PLACE = (90, 160)
OUTLINE = (255, 210, 0)


def draw(chest, folder, box, spacing=0.9):
    volume = chest.volume([chest.slice(altered=PLACE)], spacing=spacing)
    raster = Raster.of(volume.hu.shape[1:], volume.spacing_mm[1:])
    scores = np.full(raster.shape, NOTHING, np.float32)
    scores[20:60, 20:60] = 3.0
    finding = Finding(FindingKind.FB, "forensic", "altered", x=PLACE[0], y=PLACE[1], box=box)
    name = draw_finding(volume, 0, finding, scores, raster, folder)
    with Image.open(folder / name) as picture:
        return name, dict(picture.info), np.asarray(picture.convert("RGB"))


def test_the_place_is_outlined_in_all_three_panels(chest, tmp_path):
    _, _, pixels = draw(chest, tmp_path, Box(72, 142, 108, 178))
    outlined = np.flatnonzero((pixels == OUTLINE).all(axis=2).sum(axis=0) > 20)
    assert len(np.flatnonzero(np.diff(outlined) > 200)) == 2
    left = outlined[0] - 8
    assert left == pytest.approx(72 / chest.size * 512, abs=3)


def test_the_noise_is_red_inside_and_dark_outside(chest, tmp_path):
    _, _, pixels = draw(chest, tmp_path, Box(72, 142, 108, 178))
    factor = 512 / chest.size
    x, y = 8 + 520 + int(90 * factor), 22 + int(160 * factor)
    inside = pixels[y - 8 : y + 8, x - 8 : x + 8].mean(axis=(0, 1))
    assert inside[0] > inside[2] + 40


def test_name_and_metadata_tell_nothing_of_the_patient(chest, tmp_path):
    name, info, _ = draw(chest, tmp_path, Box(72, 142, 108, 178))
    assert name == "forensic-FB-slice0001-x90-y160.png"
    assert info == {}


def test_a_box_at_the_border_is_drawn(chest, tmp_path):
    _, _, pixels = draw(chest, tmp_path, Box(0, 0, 20, 20))
    assert (pixels == OUTLINE).all(axis=2).any()
