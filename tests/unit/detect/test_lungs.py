import numpy as np
import pytest

from pacs_guard.detect.lungs import lung_mask, lung_masks


def chest(spacing=0.7, size=512, nodule=False, airway_hu=-990):
    """Return a slice with body, two lungs, a trachea and a table, and where the lungs are."""
    y, x = np.mgrid[:size, :size] * spacing
    middle = size * spacing / 2

    def ellipse(cx, cy, a, b):
        return ((x - middle - cx) / a) ** 2 + ((y - middle - cy) / b) ** 2 < 1

    hu = np.full((size, size), -1000, np.int16)
    hu[ellipse(0, 0, 160, 110)] = 40
    lungs = ellipse(-70, 0, 50, 75) | ellipse(70, 0, 50, 75)
    hu[lungs] = -850
    trachea = ellipse(0, -10, 8, 8)
    hu[trachea] = airway_hu
    hu[(np.abs(y - middle - 130) < 3) & (np.abs(x - middle) < 150)] = -100
    if nodule:
        hu[ellipse(-114, 0, 7, 7) & lungs] = 30
    return hu, lungs, trachea


def grid():
    return np.mgrid[:512, :512] * 0.7 - 512 * 0.7 / 2


def disc(middle, diameter):
    y, x = grid()
    return np.hypot(x - middle[0], y - middle[1]) < diameter / 2


def overlap(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize(("spacing", "size"), [(0.5, 700), (0.7, 512), (0.97, 380), (1.4, 256)])
def test_lungs_are_found_at_any_spacing(spacing, size):
    hu, lungs, _ = chest(spacing, size)
    assert overlap(lung_mask(hu, (spacing, spacing)), lungs) > 0.93


def test_anisotropic_pixels_are_fine():
    hu, lungs, _ = chest()
    assert overlap(lung_mask(hu[::2], (1.4, 0.7)), lungs[::2]) > 0.93


def test_trachea_table_and_room_are_left_out():
    hu, _, trachea = chest()
    mask = lung_mask(hu, (0.7, 0.7))
    assert mask[trachea].mean() < 0.2
    assert not mask[:40].any()
    assert not mask[-60:].any()


def test_a_nodule_on_the_pleura_is_inside():
    hu, lungs, _ = chest(nodule=True)
    nodule = lungs & (hu > 0)
    assert lung_mask(hu, (0.7, 0.7))[nodule].mean() > 0.8


@pytest.mark.parametrize("diameter", [12, 20, 30])
@pytest.mark.parametrize("middle", [(-70, 0), (-80, 20), (70, -20)])
def test_a_nodule_of_any_size_in_the_lung_is_inside(middle, diameter):
    hu, lungs, _ = chest()
    nodule = disc(middle, diameter)
    hu[nodule] = 30
    mask = lung_mask(hu, (0.7, 0.7))
    assert mask[nodule].all()
    assert overlap(mask, lungs) > 0.93


@pytest.mark.parametrize("diameter", [12, 20, 30])
@pytest.mark.parametrize("middle", [(-112, 0), (112, 10), (-112, 30), (25, 0)])
def test_most_of_a_tumour_that_grows_from_the_pleura_is_inside_and_the_wall_is_not(middle, diameter):
    hu, lungs, _ = chest()
    tumour = disc(middle, diameter) & lungs
    hu[tumour] = 30
    mask = lung_mask(hu, (0.7, 0.7))
    assert mask[tumour].mean() > 0.6
    assert overlap(mask, lungs) > 0.93


def test_a_rib_that_bites_into_the_lung_and_what_is_larger_than_a_nodule_stay_outside():
    hu, lungs, _ = chest()
    rib = disc((-112, 0), 20) & lungs
    hu[rib] = 600
    heart = disc((25, 20), 70) & lungs
    hu[heart] = 40
    mask = lung_mask(hu, (0.7, 0.7))
    assert mask[rib].mean() < 0.3
    assert mask[heart].mean() < 0.3


@pytest.mark.parametrize("airway_hu", [-1000, -960, -915])
def test_an_airway_enclosed_by_touching_lungs_is_left_out(airway_hu):
    hu, _, trachea = chest(airway_hu=airway_hu)
    y, x = grid()
    hu[(abs(x) < 25) & (abs(abs(y) - 30) < 6)] = -850
    assert lung_mask(hu, (0.7, 0.7))[trachea].mean() < 0.3


@pytest.mark.parametrize("value", [-1024, 40, 3071])
def test_a_slice_without_lung_has_none(value):
    assert not lung_mask(np.full((128, 128), value, np.int16), (1.0, 1.0)).any()


def test_air_around_a_body_is_no_lung():
    hu, lungs, trachea = chest()
    hu[lungs | trachea] = 40
    assert not lung_mask(hu, (0.7, 0.7)).any()


def test_both_lungs_are_found_where_they_touch_and_where_one_is_small():
    hu, lungs, _ = chest()
    y, x = grid()
    touching = (abs(x) < 25) & (abs(y - 30) < 6)
    hu[touching] = -850
    mask = lung_mask(hu, (0.7, 0.7))
    assert overlap(mask, lungs | touching) > 0.9
    hu, _, _ = chest()
    hu[x > 0] = np.where(hu[x > 0] < -500, 40, hu[x > 0])
    small = (x - 70) ** 2 + y**2 < 12**2
    hu[small] = -850
    mask = lung_mask(hu, (0.7, 0.7))
    assert mask[small].mean() > 0.9
    assert mask[(x < -60) & (x > -80) & (abs(y) < 40)].all()


def test_arms_beside_the_body_are_no_lung():
    hu, lungs, _ = chest()
    y, x = grid()
    for side in (-1, 1):
        arm = ((x - side * 171) / 7) ** 2 + ((y - 60) / 40) ** 2 < 1
        hu[arm] = 30
    mask = lung_mask(hu, (0.7, 0.7))
    assert overlap(mask, lungs) > 0.93
    assert not mask[abs(x) > 135].any()


@pytest.mark.parametrize("padding", [-3024, -2048, -1024])
def test_a_padding_circle_changes_nothing(padding):
    hu, lungs, _ = chest()
    y, x = grid()
    outside = np.hypot(x, y) > 175
    hu[outside] = padding
    mask = lung_mask(hu, (0.7, 0.7))
    assert overlap(mask, lungs) > 0.93
    assert not mask[outside].any()


def test_a_volume_gives_one_mask_a_slice():
    hu, _, _ = chest(1.4, 256)
    masks = lung_masks(np.stack([hu, np.full_like(hu, 40)]), (2.0, 1.4, 1.4))
    assert masks.shape == (2, 256, 256)
    assert masks[0].any()
    assert not masks[1].any()
