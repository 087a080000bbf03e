import numpy as np
import pytest

from pacs_guard.detect.preprocess import (
    LUNG_SHAPE,
    Crop,
    Transform,
    Window,
    block_mean,
    export_jpeg,
    lung_crop,
    sample,
    site_crop,
    whole_crop,
)


@pytest.fixture
def numbered():
    """A picture whose every pixel has its own value."""
    return np.arange(40 * 50, dtype=np.float32).reshape(40, 50)


def test_a_window_maps_its_ends_to_0_and_1_and_clips_padding():
    hu = np.array([[-3024, -1000, -300, 400, 2000]], np.int16)
    assert Window().apply(hu).tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]


def test_sixteen_bits_are_kept_where_jpeg_keeps_eight():
    ramp = np.tile(Window().apply(np.arange(-1000, 400, dtype=np.int16)), (16, 1))
    assert len(np.unique(ramp)) == 1400
    stored = export_jpeg(ramp)
    assert len(np.unique(stored)) <= 256
    assert np.abs(stored - ramp).max() < 0.02


def test_a_site_lies_at_the_middle_of_a_plain_cut(numbered):
    cut = sample(numbered, site_crop(20, 15, (8, 6)))
    np.testing.assert_array_equal(cut, numbered[11:19, 17:23])
    assert cut[4, 3] == numbered[15, 20]


def test_a_site_in_the_corner_stays_in_the_middle_and_mirrors_what_is_missing(numbered):
    cut = sample(numbered, site_crop(0, 0, (8, 8)))
    assert cut[4, 4] == numbered[0, 0]
    assert cut[4, 3] == numbered[0, 1]
    assert cut[2, 4] == numbered[2, 0]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (Transform(flip_x=True), lambda cut: cut[:, ::-1]),
        (Transform(flip_y=True), lambda cut: cut[::-1]),
        (Transform(flip_x=True, flip_y=True), lambda cut: cut[::-1, ::-1]),
        (Transform(degrees=90.0), lambda cut: np.rot90(cut, k=-1)),
        (Transform(degrees=180.0), lambda cut: np.rot90(cut, k=2)),
        (Transform(degrees=270.0), lambda cut: np.rot90(cut, k=1)),
    ],
)
def test_flips_and_right_angles_are_exact(numbered, transform, expected):
    crop = site_crop(20, 20, (9, 9))
    np.testing.assert_allclose(sample(numbered, crop, transform), expected(sample(numbered, crop)), rtol=1e-6)


def test_a_shift_moves_the_content_and_fills_from_the_slice(numbered):
    crop = site_crop(20, 20, (8, 8))
    moved = sample(numbered, crop, Transform(dx=4, dy=-4))
    np.testing.assert_array_equal(moved, numbered[20:28, 12:20])


@pytest.mark.parametrize("degrees", [6.0, 45.0, 354.0])
def test_a_turn_leaves_no_corner_empty_even_at_the_edge(degrees):
    turned = sample(np.full((40, 50), 0.7, np.float32), site_crop(1, 38, (16, 16)), Transform(degrees=degrees))
    np.testing.assert_allclose(turned, 0.7, atol=1e-6)


def test_a_turn_moves_a_point_clockwise_by_its_angle():
    picture = np.zeros((101, 101), np.float32)
    picture[50, 70] = 1.0  # to the right of the middle
    turned = sample(picture, site_crop(50, 50, (101, 101)), Transform(degrees=30.0))
    row, column = np.unravel_index(turned.argmax(), turned.shape)
    assert (row, column) == (round(50 + 20 * np.sin(np.pi / 6)), round(50 + 20 * np.cos(np.pi / 6)))


def test_a_whole_slice_made_smaller_keeps_its_mean_and_shows_no_pattern():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (64, 32))
    small = sample(stripes, whole_crop((64, 64), 4.0))
    assert small.shape == (16, 16)
    np.testing.assert_allclose(small, 0.5, atol=0.05)


def test_block_means_are_means():
    assert block_mean(np.array([[1, 3, 9], [5, 7, 9], [9, 9, 9]], np.float32), 2).tolist() == [[4.0]]


def test_lungs_that_fit_are_a_plain_cut_around_both(chest):
    hu = chest.slice(0)
    crop = lung_crop(hu, (chest.spacing, chest.spacing))
    assert crop.shape == LUNG_SHAPE
    assert crop.scale == 1.0
    cut = sample(hu.astype(np.float32), crop)
    assert np.isin(cut, hu).all()  # nothing was interpolated
    lungs = np.argwhere(hu < -700)
    inside = lungs[(abs(lungs[:, 0] - 160) < 90) & (abs(lungs[:, 1] - 160) < 130)]
    assert abs(inside[:, 0].mean() - crop.y) < 3
    assert abs(inside[:, 1].mean() - crop.x) < 3


def test_lungs_that_do_not_fit_are_made_smaller_and_stay_whole(chest):
    hu = chest.slice(0)
    crop = lung_crop(hu, (chest.spacing, chest.spacing), (66, 85))
    width = 2 * (62 + 48) / chest.spacing
    assert crop.shape == (66, 85)
    assert crop.scale * 85 >= width
    assert crop.scale * 85 < width * 1.35


def test_a_slice_without_lung_has_no_lung_crop():
    assert lung_crop(np.full((128, 128), 40, np.int16), (0.7, 0.7)) is None
    assert lung_crop(np.full((128, 128), -1000, np.int16), (0.7, 0.7)) is None


def test_a_crop_says_how_much_smaller_it_is():
    assert whole_crop((512, 512), 4.0) == Crop(255.5, 255.5, (128, 128), 4.0)
