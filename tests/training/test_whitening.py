import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.domain.volume import Volume
from training.whitening import noise_spectrum, white_slice, whitened


def grain(rng, shape, sigma):
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return (noise / noise.std()).astype(np.float32)


def neighbours(white):
    return float(np.corrcoef(white[:, :-1].ravel(), white[:, 1:].ravel())[0, 1])


@pytest.mark.parametrize(("sigma", "strength"), [(0.6, 60.0), (0.9, 18.0), (1.2, 8.0)])
def test_noise_of_any_kernel_and_dose_becomes_white_and_of_unit_strength(sigma, strength):
    image = -850 + strength * grain(np.random.default_rng(0), (200, 180), sigma)
    lung = np.ones(image.shape, np.float32)
    residual = (image - ndimage.gaussian_filter(image, 3.0)).astype(np.float32)
    white = whitened(image, lung, noise_spectrum(residual, lung))[20:-20, 20:-20]
    # what a smooth kernel leaves of the finest pattern is under the floor: it stays a little grainy
    assert abs(neighbours(white)) < max(0.25, 0.75 * neighbours(residual))
    assert white.std() == pytest.approx(1.0, rel=0.1)


def test_what_has_another_grain_stays_other_than_white():
    rng = np.random.default_rng(0)
    image = -850 + 18 * grain(rng, (240, 240), 0.9)
    image[100:140, 100:140] = -850 + 18 * rng.standard_normal((40, 40))
    lung = np.ones(image.shape, np.float32)
    residual = (image - ndimage.gaussian_filter(image, 3.0)).astype(np.float32)
    white = whitened(image.astype(np.float32), lung, noise_spectrum(residual, lung))
    assert white[104:136, 104:136].std() > 1.5 * white[20:90, 20:90].std()


def test_too_little_lung_has_no_spectrum():
    lung = np.zeros((100, 100), np.float32)
    lung[:40, :40] = 1
    assert noise_spectrum(np.zeros((100, 100), np.float32), lung) is None


def test_a_slice_has_the_noise_of_its_neighbours_and_patches_that_may_reach_outside(chest):
    first, middle = white_slice(chest, 0), white_slice(chest, 5)
    assert not first.residual[..., 0].any()
    assert all(middle.residual[..., channel].any() for channel in range(3))
    assert middle.tissues.any(axis=(0, 1)).tolist() == [True, True]
    row, column = middle.origin[0] + 50, middle.origin[1] + 60
    residual, tissues = middle.patch(row, column, 9)
    assert np.array_equal(residual, middle.residual[46:55, 56:65])
    assert np.array_equal(tissues, middle.tissues[46:55, 56:65])
    corner, _ = middle.patch(*middle.origin, 9)
    assert not corner[:4].any()
    assert np.array_equal(corner[4:, 4:], middle.residual[:5, :5])


def test_without_lung_there_is_nothing_to_whiten():
    volume = Volume(
        np.full((1, 64, 64), 40, np.int16), None, (1.0,) * 3, (1.0,) * 6, np.zeros((1, 3)), ("1",), "1", "2"
    )
    assert white_slice(volume, 0) is None
