import numpy as np
import pytest

from pacs_guard.detect.features import (
    Raster,
    dense_feature_names,
    lung_feature_names,
    measure_slice,
    noise_map,
)
from pacs_guard.detect.texture import BANDS, filtered, log_strength

PLACE = (90, 160)


def at(sites, raster, place, names, name):
    """Return a feature at the site nearest to a place, and its median over the slice."""
    distance = np.hypot(
        raster.offset[1] + sites.columns * raster.pitch[1] - place[0],
        raster.offset[0] + sites.rows * raster.pitch[0] - place[1],
    )
    column = sites.features[:, names.index(name)]
    return column[distance.argmin()], np.median(column)


def test_white_noise_in_lung_stands_out_against_the_rest_of_the_slice(chest):
    hu = chest.slice(altered=PLACE)
    measured, raster = measure_slice(hu, (0.9, 0.9)), Raster.of(hu.shape, (0.9, 0.9))
    corner, usual = at(measured.lung, raster, PLACE, lung_feature_names(), "lung corner 16 mm")
    grain, _ = at(measured.lung, raster, PLACE, lung_feature_names(), "lung dog1.2 16 mm")
    assert corner > 0.7
    assert abs(usual) < 0.1
    assert grain < corner - 0.7


def test_white_noise_in_a_nodule_stands_out_against_other_soft_tissue(chest):
    hu = chest.slice(nodule=PLACE)
    measured, raster = measure_slice(hu, (0.9, 0.9)), Raster.of(hu.shape, (0.9, 0.9))
    corner, usual = at(measured.dense, raster, PLACE, dense_feature_names(), "dense corner 6 mm")
    assert corner > 0.7
    assert abs(usual) < 0.15


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 12), (2.0, 0), (0.6, -9)])
def test_neither_dose_nor_calibration_matters(chest, scale, offset):
    hu = chest.slice(altered=PLACE)
    plain = np.where(hu < -950, -1000, np.where(hu < -400, -850, 40))
    other = np.rint(plain + scale * (hu - plain) + offset).astype(np.int16)
    raster, found = Raster.of(hu.shape, (0.9, 0.9)), []
    for one in (hu, other):
        sites = measure_slice(one, (0.9, 0.9)).lung
        found.append(at(sites, raster, PLACE, lung_feature_names(), "lung whiteness 16 mm")[0])
    assert found[1] == pytest.approx(found[0], abs=0.12)


@pytest.mark.parametrize(("spacing", "size"), [(0.5, 576), (0.7, 412), (1.3, 222)])
def test_sites_are_some_millimetres_apart_at_any_spacing(chest, spacing, size):
    hu = chest.slice(spacing=spacing, size=size)
    measured, raster = measure_slice(hu, (spacing, spacing)), Raster.of(hu.shape, (spacing, spacing))
    assert all(2.0 <= apart <= 4.5 for apart in raster.spacing_mm)
    assert measured.lung.features.shape == (len(measured.lung.rows), len(lung_feature_names()))
    assert measured.dense.features.shape == (len(measured.dense.rows), len(dense_feature_names()))
    assert np.isfinite(measured.lung.features).all()
    assert np.isfinite(measured.dense.features).all()


def test_sites_lie_where_the_raster_says(chest):
    hu = chest.slice()
    measured, raster = measure_slice(hu, (0.9, 0.9)), Raster.of(hu.shape, (0.9, 0.9))
    rows = np.rint([raster.y(row) for row in measured.lung.rows]).astype(int)
    columns = np.rint([raster.x(column) for column in measured.lung.columns]).astype(int)
    assert (hu[rows, columns] < -600).mean() > 0.95
    assert measured.lung.rows.max() < raster.shape[0]
    assert measured.lung.columns.max() < raster.shape[1]


def test_neighbouring_slices_share_their_raster_whatever_their_lungs(chest):
    whole, half = chest.slice(), chest.slice()
    half[:130] = 40
    one, other = measure_slice(whole, (0.9, 0.9)).lung, measure_slice(half, (0.9, 0.9)).lung
    below = {(r, c) for r, c in zip(other.rows, other.columns, strict=True) if r > 60}
    assert below <= set(zip(one.rows, one.columns, strict=True))


def test_a_slice_without_lung_is_not_measured():
    assert measure_slice(np.full((200, 200), 40, np.int16), (0.9, 0.9)) is None


def test_pixels_without_any_noise_give_finite_features(chest):
    hu = chest.slice()
    hu[:] = np.where(hu < -950, -1000, np.where(hu < -400, -850, 40))
    measured = measure_slice(hu, (0.9, 0.9))
    assert np.isfinite(measured.lung.features).all()


def test_the_noise_map_is_warm_where_noise_was_altered_and_empty_away_from_the_lungs(chest):
    shown = noise_map(chest.slice(altered=PLACE), (0.9, 0.9))
    column, row = PLACE
    assert shown[row - 5 : row + 6, column - 5 : column + 6].mean() > 0.7
    assert abs(np.nanmedian(shown)) < 0.2
    assert np.isnan(shown[5, 5])


def test_bands_go_from_fine_to_coarse():
    rng = np.random.default_rng(0)
    bands = log_strength(filtered(rng.normal(0, 20, (64, 64)).astype(np.float32))).mean(axis=(1, 2))
    assert len(bands) == len(BANDS)
    assert bands[0] == bands.max()
    assert bands[-1] == bands.min()
