from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.simulate import Nodule, make_phantom, suggest_site
from pacs_guard.simulate.noise import KERNELS, NoiseModel


def small(**options):
    return make_phantom(**({"slices": 6, "size": 96, "slice_mm": 5.0} | options))


def test_the_same_seed_gives_the_same_pixels_and_new_uids():
    one, other = small(seed=1), small(seed=1)
    assert np.array_equal(one.hu, other.hu)
    assert set(one.sop_uids).isdisjoint(other.sop_uids)
    assert one.series_uid != other.series_uid
    assert not np.array_equal(one.hu, small(seed=2).hu)


def test_tissues_have_their_hounsfield_units(phantom):
    middle = phantom.hu[12]
    smooth = ndimage.gaussian_filter(middle.astype(float), 2)
    assert smooth[:8].mean() == pytest.approx(-1000, abs=15)  # air
    lung = smooth[(smooth > -950) & (smooth < -700)]
    assert -900 < np.median(lung) < -840
    assert 0.1 < lung.size / middle.size < 0.3
    assert np.sum((smooth > 30) & (smooth < 80)) > 2000  # muscle
    assert np.sum((smooth > -130) & (smooth < -80)) > 1000  # fat
    assert np.sum(middle > 300) > 100  # bone


def test_noise_is_correlated_in_plane_and_hardly_between_slices():
    model = NoiseModel((128, 128), (0.7, 0.7), KERNELS["standard"])
    rng = np.random.default_rng(0)
    one, other = model.noise(rng), model.noise(rng)
    assert one.std() == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(one[:, 1:].ravel(), one[:, :-1].ravel())[0, 1] > 0.2
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_noise_power_rises_like_a_ramp_and_rolls_off():
    model = NoiseModel((256, 256), (0.7, 0.7), KERNELS["standard"])
    power = np.abs(np.fft.fft2(model.noise(np.random.default_rng(1)))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256, 0.7), np.fft.fftfreq(256, 0.7)))
    low, peak, high = (power[(frequency > a) & (frequency < b)].mean() for a, b in ((0, 0.05), (0.3, 0.4), (0.65, 0.7)))
    assert low < 0.25 * peak
    assert high < 0.35 * peak


def test_a_sharper_kernel_gives_finer_noise():
    fine, standard, coarse = (
        np.diff(NoiseModel((128, 128), (0.7, 0.7), KERNELS[kernel]).noise(np.random.default_rng(3)), axis=1).std()
        for kernel in ("sharp", "standard", "soft")
    )
    assert fine > 1.1 * standard > 1.2 * coarse


def test_a_nodule_of_its_own_can_be_had():
    site = suggest_site(make_phantom(slices=24, size=128, slice_mm=5.0, seed=5), "FM")
    plain, ill = (
        make_phantom(slices=24, size=128, slice_mm=5.0, seed=5, nodules=nodules)
        for nodules in ((), (Nodule(site, diameter_mm=15),))
    )
    assert plain.hu[site] < -700
    assert ill.hu[site] > -200


def test_an_unknown_kernel_and_a_site_outside_are_refused():
    with pytest.raises(ValueError, match="kernel is 'bone'"):
        small(kernel="bone")
    with pytest.raises(ValueError, match="outside the volume"):
        small(nodules=[Nodule((99, 0, 0))])
