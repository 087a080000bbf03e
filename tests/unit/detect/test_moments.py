import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.cells import Grid
from pacs_guard.detect.moments import moment_names, relative_moments, textures
from pacs_guard.detect.texture import filtered

GRID = Grid((2, 2), (1.4, 1.4), (0, 0), (2, 2))
WINDOWS = (10.0,)


def grain(rng, sigma=0.8):
    noise = ndimage.gaussian_filter(rng.standard_normal((160, 160)), sigma)
    return (20 * noise / noise.std()).astype(np.float32)


def at(image, name, place=(20, 20)):
    """Return a measurement in the middle of the altered part, cells 12 to 28 in both directions."""
    everywhere = np.ones(image.shape, np.float32)
    measured = relative_moments(textures(filtered(image)), everywhere, np.ones((80, 80), bool), GRID, WINDOWS, 0.2)
    assert len(measured) == len(moment_names("lung", WINDOWS))
    return measured[moment_names("lung", WINDOWS).index(f"lung {name} 10 mm")][place]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    image = grain(rng)
    return image, image.copy(), rng


def test_half_the_noise_is_half_the_energy(images):
    usual, altered, _ = images
    altered[24:56, 24:56] *= 0.5
    assert abs(at(usual, "dog0.8 energy")) < 0.3
    assert at(altered, "dog0.8 energy") == pytest.approx(np.log(0.5), abs=0.2)
    assert at(altered, "dog0.8 energy z") < -3


def test_the_brighter_of_two_textures_is_lopsided(images):
    usual, altered, rng = images
    altered[24:56, 24:56] = np.maximum(altered, 3 * grain(rng))[24:56, 24:56]
    assert at(altered, "laplacian asymmetry") > at(usual, "laplacian asymmetry") + 0.05


def test_interpolated_pixels_go_together_and_white_ones_do_not(images):
    usual, smooth, rng = images
    white = usual.copy()
    smooth[24:56, 24:56] = grain(rng, sigma=1.4)[24:56, 24:56]
    white[24:56, 24:56] = 20 * rng.standard_normal((32, 32))
    for lag in ("0 1", "1 0"):
        found = [at(image, f"correlation {lag}") for image in (white, usual, smooth)]
        assert found[0] < found[1] - 0.1
        assert found[2] > found[1] + 0.05


def test_mixed_strengths_have_heavier_tails(images):
    usual, altered, rng = images
    altered[24:56, 24:56] *= np.where(rng.random((4, 4)) < 0.5, 0.3, 1.0).repeat(8, axis=0).repeat(8, axis=1)
    assert at(altered, "dog0.8 tails") > at(usual, "dog0.8 tails") + 0.05
