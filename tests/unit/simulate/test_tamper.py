from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.simulate import inject_nodule, remove_nodule, suggest_site


def around(volume, site, half_mm):
    return tuple(
        slice(max(0, i - int(half_mm / s)), i + int(half_mm / s) + 1)
        for i, s in zip(site, volume.spacing_mm, strict=True)
    )


def residual_energy(block):
    block = block.astype(float)
    return np.mean((block - ndimage.gaussian_filter(block, (0, 1, 1))) ** 2)


def test_a_removal_leaves_smooth_lung(phantom):
    site = suggest_site(phantom, "FB")
    tampered = remove_nodule(phantom, site)
    core = around(phantom, site, 5)
    assert phantom.hu[core].max() > -300
    assert tampered.hu[core].max() < -600
    assert -950 < tampered.hu[core].mean() < -750


def test_an_injection_adds_a_dense_nodule(phantom):
    site = suggest_site(phantom, "FM")
    tampered = inject_nodule(phantom, site, diameter_mm=14)
    core = around(phantom, site, 2)
    assert phantom.hu[core].mean() < -750
    assert tampered.hu[core].mean() > -150


@pytest.mark.parametrize(("change", "kind"), [(remove_nodule, "FB"), (inject_nodule, "FM")])
def test_nothing_changes_far_from_the_site(phantom, change, kind):
    site = suggest_site(phantom, kind)
    before = phantom.hu.copy()
    changed = np.argwhere(change(phantom, site).hu != before)
    assert len(changed)
    assert np.array_equal(phantom.hu, before)
    reach = np.abs(changed - np.array(site))[:, 1:].max() * phantom.spacing_mm[1]
    assert reach <= 1.3 * 32


def test_the_filled_region_has_less_fine_texture_than_before(phantom):
    site = suggest_site(phantom, "FM")
    ring = around(phantom, site, 8)
    assert residual_energy(remove_nodule(phantom, site).hu[ring]) < 0.8 * residual_energy(phantom.hu[ring])


def test_uids_are_always_new(phantom):
    site = suggest_site(phantom, "FM")
    fresh = remove_nodule(phantom, site)
    assert set(fresh.sop_uids).isdisjoint(phantom.sop_uids)
    assert {fresh.study_uid, fresh.series_uid}.isdisjoint({phantom.study_uid, phantom.series_uid})


def test_gaussian_noise_is_another_touch_up(phantom):
    site = suggest_site(phantom, "FM")
    assert not np.array_equal(remove_nodule(phantom, site).hu, remove_nodule(phantom, site, noise="gaussian").hu)


def test_a_site_outside_or_a_nodule_too_large_is_refused(phantom):
    with pytest.raises(ValueError, match="outside the volume"):
        remove_nodule(phantom, (999, 0, 0))
    with pytest.raises(ValueError, match="at most 18"):
        inject_nodule(phantom, (1, 1, 1), diameter_mm=30)


def test_sites_lie_deep_in_the_lung_and_differ_by_seed(phantom):
    sites = {suggest_site(phantom, "FM", seed) for seed in range(5)}
    assert len(sites) > 1
    assert all(phantom.hu[around(phantom, site, 2)].mean() < -700 for site in sites)


def test_a_volume_without_lung_has_no_site(phantom):
    with pytest.raises(ValueError, match="no lung"):
        suggest_site(replace(phantom, hu=np.full_like(phantom.hu, 40)), "FM")
