from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.cube import CUBE_MM, cube_box, resampled, shape_of
from training.attack.boxes import ball, box_of_mm
from training.attack.donors import Donor, cut_donor, donor_at, nodule_mask, with_nodule
from training.attack.inpainting import denoised, harmonic, inpainted, wiener
from training.attack.local import mask_only, native_grid, noise_matched
from training.attack.moving import copy_move, splice
from training.attack.places import dense_places, draw_site
from training.attack.sham import sham_resampled
from training.attack.spectrum import NoiseSpectrum, local_spectrum
from training.attack.target import Target, UnsuitableSiteError

SITE = (12, 130, 72)
VESSEL = (11, 103, 183)
FB, FM = FindingKind.FB, FindingKind.FM


def target(volume, kind, **more):
    return Target(volume.hu, volume.spacing_mm, SITE, kind, **more)


def local(change, site=SITE):
    return tuple(at - part.start for at, part in zip(site, change.box, strict=True))


def fineness(block):
    block = block.astype(float)
    return np.mean((block - ndimage.gaussian_filter(block, (0, 1, 1))) ** 2)


def test_copy_move_copies_voxels_of_the_same_series(chest):
    change = copy_move(target(chest, FB, diameter_mm=10.0), np.random.default_rng(0))
    z, y, x = local(change)
    core = change.hu[z - 1 : z + 2, y - 3 : y + 4, x - 3 : x + 4]
    windows = np.lib.stride_tricks.sliding_window_view(chest.hu, core.shape)
    found = np.argwhere((windows == core).all(axis=(3, 4, 5)))
    assert len(found) == 1
    away = (found[0] + (1, 3, 3) - np.array(SITE)) * chest.spacing_mm
    assert np.linalg.norm(away) > 45


def test_copy_move_injects_the_dense_thing_that_stands_alone(chest):
    places = list(dense_places(chest.hu, chest.spacing_mm, np.random.default_rng(0), 24))
    assert {place[0] for place, _ in places} <= {10, 11, 12}
    assert all(np.hypot(place[1] - 103, place[2] - 183) < 3 for place, _ in places)
    assert places[0][1] == pytest.approx(2 * np.sqrt(49 / np.pi), abs=1.5)
    change = copy_move(target(chest, FM), np.random.default_rng(0))
    assert change.hu[local(change)] > -100


def test_copy_move_says_when_there_is_nothing_to_copy(chest):
    empty = replace(chest, hu=np.where(chest.hu > -400, -860, chest.hu).astype(np.int16))
    with pytest.raises(UnsuitableSiteError, match="nothing dense"):
        copy_move(Target(empty.hu, chest.spacing_mm, SITE, FM), np.random.default_rng(0))


def test_splicing_brings_the_donor_s_own_voxels(chest):
    donor = cut_donor("vessel", chest.hu, chest.spacing_mm, VESSEL, 8.0)
    change = splice(target(chest, FM, donor=donor), np.random.default_rng(0))
    z, y, x = local(change)
    expected = chest.hu[VESSEL[0], 101:106, 181:186]
    assert np.array_equal(change.hu[z, y - 2 : y + 3, x - 2 : x + 3], expected)
    corner = change.hu[0, 0, 0]
    assert corner == chest.hu[change.box][0, 0, 0]


def test_a_donor_of_another_grid_keeps_its_size_in_mm(chest):
    donor = Donor("thin", np.zeros((41, 31, 31), np.float32), (1.0, 0.5, 0.5), 8.0)
    block = donor_at(donor, chest.spacing_mm)
    assert block.shape == (17, 15, 15)
    same = Donor("same", np.zeros((9, 31, 31), np.float32), chest.spacing_mm, 8.0)
    assert donor_at(same, chest.spacing_mm) is same.hu


def test_a_drawn_nodule_keeps_the_scanner_s_noise(chest):
    box = box_of_mm(chest.hu.shape, chest.spacing_mm, SITE, 30.0)
    block = chest.hu[box].astype(np.float32)
    drawn = with_nodule(block, chest.spacing_mm, 14.0, np.random.default_rng(0))
    z, y, x = (n // 2 for n in block.shape)
    inside = (slice(z, z + 1), slice(y - 3, y + 4), slice(x - 3, x + 4))
    assert drawn[inside].mean() > -60
    assert fineness(drawn[inside]) == pytest.approx(fineness(block[inside]), rel=0.4)
    mask = nodule_mask(drawn, chest.spacing_mm, 14.0)
    assert mask[z, y, x] == 1
    assert mask[0, 0, 0] == 0


def test_harmonic_filling_continues_a_slope_exactly():
    y, x = np.mgrid[:12, :12].astype(np.float32)
    block = np.stack([3 * x + 2 * y, x - y])
    hole = np.zeros(block.shape, bool)
    hole[:, 3:9, 4:10] = True
    damaged = np.where(hole, 500, block)
    assert np.allclose(harmonic(damaged, hole), block, atol=1e-3)
    curved = np.stack([x**2, y**2])
    assert np.allclose(harmonic(np.where(hole, 0, curved), hole, curved), curved, atol=1e-3)  # its gradients are cloned


def test_in_painting_leaves_no_noise_and_an_injection_is_dense(chest):
    removed = inpainted(target(chest, FB), np.random.default_rng(0))
    z, y, x = local(removed)
    core = (slice(z, z + 1), slice(y - 4, y + 5), slice(x - 4, x + 5))
    assert fineness(removed.hu[core]) < 0.05 * fineness(chest.hu[removed.box][core])
    injected = inpainted(target(chest, FM), np.random.default_rng(0))
    assert injected.hu[local(injected)] > -150


def test_the_wiener_filter_keeps_what_is_stronger_than_the_noise():
    rng = np.random.default_rng(0)
    x = np.mgrid[:48, :48][1]
    prior = (200 * np.cos(2 * np.pi * x / 24))[None].astype(np.float32)
    clean = wiener(prior + 60 * rng.standard_normal(prior.shape).astype(np.float32), prior, 60.0)
    assert np.std(clean - prior) < 0.4 * 60
    denoise = wiener(rng.standard_normal(prior.shape).astype(np.float32), np.zeros_like(prior), 1.0)
    assert np.abs(denoise).max() == 0


def test_measured_noise_has_the_strength_and_grain_of_the_lung(chest):
    measured = local_spectrum(chest.hu, chest.spacing_mm, SITE)
    lung = chest.hu[11:14, 110:150, 62:82].astype(float)
    residual = lung - ndimage.gaussian_filter(lung, (0, 2.5, 2.5))
    assert measured.sigma_hu == pytest.approx(residual.std(), rel=0.15)
    made = measured.noise((6, 64, 48), np.random.default_rng(0))
    assert made.std() == pytest.approx(measured.sigma_hu, rel=0.01)

    def grain(block):
        return np.corrcoef(block[:, :, 1:].ravel(), block[:, :, :-1].ravel())[0, 1]

    assert grain(made) == pytest.approx(grain(residual), abs=0.12)


def test_made_noise_correlates_across_slices_as_asked():
    flat = NoiseSpectrum(np.ones((32, 17), np.float32), 20.0, 0.5)
    made = flat.noise((40, 32, 32), np.random.default_rng(0))
    assert np.corrcoef(made[1:].ravel(), made[:-1].ravel())[0, 1] == pytest.approx(0.5, abs=0.03)


def test_matched_noise_is_nearer_to_the_lung_s_than_none(chest):
    bare = mask_only(target(chest, FB), np.random.default_rng(0))
    matched = noise_matched(target(chest, FB), np.random.default_rng(0))
    z, y, x = local(bare)
    core = (slice(z - 1, z + 2), slice(y - 5, y + 6), slice(x - 5, x + 6))
    native = fineness(chest.hu[bare.box][core])
    assert fineness(bare.hu[core]) < 0.3 * native
    assert 0.6 * native < fineness(matched.hu[core]) < 1.5 * native


def test_mask_only_leaves_the_corners_of_the_cube(chest):
    change = mask_only(target(chest, FB), np.random.default_rng(0))
    old = chest.hu[change.box]
    assert np.array_equal(change.hu[:, :4, :4], old[:, :4, :4])
    assert (change.hu != old).any()


@pytest.mark.parametrize("attack", [native_grid, denoised])
def test_injections_are_dense_and_removals_are_lung(chest, attack):
    for kind, low, high in ((FB, -950, -750), (FM, -150, 200)):
        change = attack(target(chest, kind), np.random.default_rng(0))
        z, y, x = local(change)
        assert low < change.hu[z, y - 2 : y + 3, x - 2 : x + 3].mean() < high


def test_a_sham_is_the_resampling_round_trip(chest):
    change = sham_resampled(target(chest, FB), np.random.default_rng(0))
    box = cube_box(chest.hu.shape, chest.spacing_mm, SITE)
    expected = resampled(resampled(chest.hu[box], (CUBE_MM,) * 3), shape_of(box))
    assert change.box == box
    assert np.array_equal(change.hu, np.trunc(expected).astype(np.int16))


def test_a_ball_is_half_at_its_radius():
    box = (slice(0, 21),) * 3
    made = ball(box, (1.0, 1.0, 1.0), (10, 10, 10), 5.0, soft_mm=2.0)
    assert made[10, 10, 10] == pytest.approx(1, abs=1e-3)
    assert made[10, 10, 15] == pytest.approx(0.5)
    assert made[10, 10, 20] < 1e-3


def test_half_of_the_removals_are_at_known_nodules_and_some_sites_are_pleural(chest):
    rng = np.random.default_rng(0)
    drawn = [draw_site(chest.hu, chest.spacing_mm, FB, rng, nodules=(VESSEL,)) for _ in range(24)]
    assert 6 <= drawn.count(VESSEL) <= 18
    others = np.array([site for site in drawn if site != VESSEL])
    # from the wall of the lungs' ellipses, as drawn in the fixture
    edge = 1 - np.hypot((np.abs(others[:, 2] - 130.0) - 58) / 44, (others[:, 1] - 130.0) / 68)
    assert (edge > -0.05).all()
    assert (edge < 0.2).any()
