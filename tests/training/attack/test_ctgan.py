import numpy as np
import pytest

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.cube import BLANK, cube_box, resampled, shape_of
from training.attack.ctgan import ctgan, ctgan_june
from training.attack.generator import Generator, plain_generator, repaired
from training.attack.scale import Scale
from training.attack.target import Target
from training.attack.touchup import blended, copied_noise, gaussian_noise, kernel, touch_box

SITE = (12, 130, 72)
BOTH = (FindingKind.FB, FindingKind.FM)


def identity_for(volume):
    """A generator that renders what was there before the middle was blanked."""
    cube = resampled(volume.hu[cube_box(volume.hu.shape, volume.spacing_mm, SITE)], (32, 32, 32))
    scale = Scale.fitted([cube])
    seen = []

    def fill(blanked, diameter_mm, rng):
        seen.append(blanked)
        return scale.to_network(cube)

    return Generator("identity", dict.fromkeys(BOTH, scale), dict.fromkeys(BOTH, fill)), seen


def test_an_identity_generator_leaves_the_resampling_round_trip_under_the_touch_up(chest):
    generator, seen = identity_for(chest)
    change = ctgan(
        Target(chest.hu, chest.spacing_mm, SITE, FindingKind.FB, generator=generator), np.random.default_rng(0)
    )
    cube = cube_box(chest.hu.shape, chest.spacing_mm, SITE)
    assert shape_of(cube) == (13, 32, 32)
    assert touch_box(chest.hu.shape, SITE, cube) == change.box
    assert shape_of(change.box) == (24, 41, 41)  # 1.3 x 32, as high as the series is
    new = chest.hu.astype(np.float32)
    new[cube] = np.maximum(resampled(resampled(chest.hu[cube], (32, 32, 32)), (13, 32, 32)), -1000)
    old = chest.hu[change.box].astype(np.float32)
    weight = kernel(41, 41, 0.1)
    expected = weight * (new[change.box] + copied_noise(chest.hu, (24, 41, 41))) + (1 - weight) * old
    assert np.abs(change.hu - np.trunc(expected)).max() <= 1
    assert (seen[0][BLANK] == 0).all()
    assert (seen[0][0] != 0).any()


def test_the_earlier_version_resamples_every_slice(chest):
    generator, _ = identity_for(chest)
    fine = (2.5, 0.7, 0.7)  # as if: 182 x 182 voxels of 1 mm in-plane
    change = ctgan_june(Target(chest.hu, fine, SITE, FindingKind.FB, generator=generator), np.random.default_rng(0))
    assert change.hu.shape == chest.hu.shape
    far = chest.hu[:, 100:160, 170:210].astype(float)
    there = change.hu[:, 100:160, 170:210].astype(float)
    assert (far != there).mean(axis=(1, 2)).min() > 0.7
    assert np.abs(far - there).mean() < 20


def test_gaussian_noise_has_the_strength_that_is_asked_for():
    noise = gaussian_noise((20, 40, 40), 30.0, 1, np.random.default_rng(0))
    assert noise.std() == pytest.approx(30, rel=0.02)
    coarse = gaussian_noise((20, 40, 40), 30.0, 2.0, np.random.default_rng(0))
    assert coarse.shape == (20, 40, 40)
    neighbours = np.corrcoef(coarse[:, :, 1:].ravel(), coarse[:, :, :-1].ravel())[0, 1]
    assert neighbours > 0.5


def test_the_kernel_is_a_paraboloid_when_narrow_and_the_same_in_every_slice():
    plane = kernel(41, 41, 0.1)
    assert (plane[20, 20], plane[0, 0]) == (1, 0)
    assert plane[20, 0] == pytest.approx(0.5, abs=0.01)  # 1 - r^2 / 2 where r is 1 at the middle of a face
    old, new = np.zeros((3, 41, 41), np.float32), np.full((3, 41, 41), 100, np.float32)
    result = blended(old, new, np.zeros_like(new), FindingKind.FB)
    assert np.allclose(result, 100 * plane)


def test_an_injection_only_brightens_and_only_where_it_is_dense():
    old = np.full((1, 3, 3), -850, np.float32)
    new = np.full((1, 3, 3), -1000, np.float32)
    new[0, 1, 1] = 0
    result = blended(old, new, np.zeros_like(new), FindingKind.FM)
    assert result[0, 1, 1] == pytest.approx(-850 / (1 + np.exp(10)), abs=1)  # sigmoid(700 / 70) of the new
    assert (np.delete(result.ravel(), 4) == -850).all()


def test_copied_noise_is_that_of_one_place_without_its_tissue(chest):
    noise = copied_noise(chest.hu, (4, 8, 8))
    block = chest.hu[10:14, 107:115, 66:74].astype(float)  # around (0.50 Nz, 0.43 Ny, 0.27 Nx) = (12, 111, 70)
    assert (block < -800).all()
    assert np.allclose(noise, block - block.mean(), atol=0.01)


def test_voxels_over_2000_hu_become_the_mean_around_them():
    cube = np.full((8, 8, 8), 100, np.float32)
    cube[4, 4, 4] = 2600
    fixed = repaired(cube)
    assert fixed[4, 4, 4] == pytest.approx((124 * 100 + 2600) / 125)
    assert (np.delete(fixed.ravel(), 4 * 64 + 4 * 8 + 4) == 100).all()


def test_plain_injection_is_dense_and_plain_removal_is_not(chest):
    site = (11, 103, 183)  # the vessel
    made = {
        kind: ctgan(Target(chest.hu, chest.spacing_mm, site, kind), np.random.default_rng(1), noise="gaussian")
        for kind in BOTH
    }
    middle = {}
    for kind, change in made.items():
        z, y, x = (at - part.start for at, part in zip(site, change.box, strict=True))
        middle[kind] = change.hu[z, y - 2 : y + 3, x - 2 : x + 3].mean()
    assert chest.hu[11, 101:106, 181:186].mean() > 0
    assert middle[FindingKind.FB] < -700
    assert middle[FindingKind.FM] > -150
    assert "untrained" in plain_generator(chest.hu, chest.spacing_mm, site).name
