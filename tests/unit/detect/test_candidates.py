import numpy as np
import pytest

from pacs_guard.detect.candidates import (
    BLOBS_MOST,
    GRID_MOST,
    Blob,
    find_blobs,
    lung_grid,
    merge_blobs,
    series_candidates,
    slice_candidates,
)
from pacs_guard.detect.lungs import lung_mask
from pacs_guard.detect.preprocess import lung_crop


def test_a_grid_covers_the_lungs_and_their_borders():
    mask = np.zeros((100, 200), bool)
    mask[20:60, 40:150] = True  # 80 mm x 110 mm
    points = lung_grid(mask, (2.0, 1.0))
    near = np.zeros_like(mask)
    near[18:62, 35:155] = True
    assert near[points[:, 1], points[:, 0]].all()
    y, x = np.nonzero(mask)
    apart = np.hypot((y[:, None] - points[:, 1]) * 2.0, x[:, None] - points[:, 0]).min(axis=1)
    assert apart.max() <= 16 / np.sqrt(2) + 6  # at the end of the grid a little more than half a diagonal


def test_a_grid_has_so_many_points_at_most_and_none_without_lung():
    full = np.ones((512, 512), bool)
    assert GRID_MOST // 2 < len(lung_grid(full, (0.7, 0.7))) <= GRID_MOST
    assert len(lung_grid(np.zeros((64, 64), bool), (0.7, 0.7))) == 0


@pytest.mark.parametrize("place", [(90, 160), (232, 150), (56, 160)])  # column, row; the last on the pleura
def test_a_nodule_is_the_most_prominent_blob(chest, place):
    hu = chest.slice(1, nodule=place)
    spacing = (chest.spacing, chest.spacing)
    best = find_blobs(hu, lung_mask(hu, spacing), spacing)[0]
    assert np.hypot(best.x - place[0], best.y - place[1]) * chest.spacing < 5
    assert best.radius_mm in (6.5, 10.0)  # it is 9 mm
    assert best.contrast > 200


def test_there_are_so_many_blobs_at_most(chest):
    hu = chest.slice(0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        y, x = rng.integers(60, 250, 2)
        hu[y : y + 6, x : x + 6] = 50
    mask = np.ones(hu.shape, bool)
    assert len(find_blobs(hu, mask, (0.9, 0.9))) == BLOBS_MOST
    assert find_blobs(hu, np.zeros_like(mask), (0.9, 0.9)) == []


def test_a_blob_on_neighbouring_slices_is_one_where_it_stands_out_most():
    def blob(x, contrast):
        return Blob(x, 50.0, 4.0, contrast)

    slices = [[blob(10, 100)], [blob(12, 300), blob(80, 90)], [blob(13, 200)], [], [blob(13, 150)]]
    assert merge_blobs(slices, (1.0, 1.0, 1.0)) == [(1, blob(12, 300)), (1, blob(80, 90)), (4, blob(13, 150))]
    # 3 pixels of 2 mm are another place
    assert len(merge_blobs([[blob(10, 100)], [blob(13, 100)]], (1.0, 2.0, 2.0))) == 2


def test_a_series_is_looked_at_every_5_mm_and_where_a_nodule_is(chest):
    place = (90, 160)
    slices = [chest.slice(i, nodule=place if i == 3 else None) for i in range(5)]
    found = series_candidates(np.stack(slices), (2.5, chest.spacing, chest.spacing))
    assert {one.index for one in found if one.index % 2 == 0} == {0, 2, 4}
    assert any(one.index == 3 and np.hypot(one.x - place[0], one.y - place[1]) < 6 for one in found)
    assert [one.index for one in found] == sorted(one.index for one in found)


def test_a_slice_without_lung_has_no_candidates(chest):
    assert slice_candidates(np.full((128, 128), 40, np.int16), (0.9, 0.9)) == []
    assert 0 < len(slice_candidates(chest.slice(0), (0.9, 0.9))) <= GRID_MOST + BLOBS_MOST


@pytest.mark.parametrize("radius_mm", [7, 11, 15])
def test_a_tumour_that_grows_from_the_pleura_is_looked_at_and_inside_the_crop(chest, radius_mm):
    hu = chest.slice(2)
    y, x = np.mgrid[: chest.size, : chest.size] * chest.spacing
    place = (144 - 62 - 48 + 0.4 * radius_mm, 144.0)  # mm; it bites into the lung
    tumour = (np.hypot(x - place[0], y - place[1]) < radius_mm) & (hu < -500)
    hu[tumour] = 40
    found = slice_candidates(hu, (chest.spacing, chest.spacing))
    middle = np.argwhere(tumour).mean(axis=0)
    apart = min(np.hypot(one.y - middle[0], one.x - middle[1]) for one in found) * chest.spacing
    assert apart <= 16 / np.sqrt(2) + 1
    crop = lung_crop(hu, (chest.spacing, chest.spacing))
    rows, columns = np.nonzero(tumour)
    assert abs(rows - crop.y).max() < crop.scale * crop.shape[0] / 2
    assert abs(columns - crop.x).max() < crop.scale * crop.shape[1] / 2
