import numpy as np
import pytest

from pacs_guard.detect.features import Raster, Sites, SliceMeasurements
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import Volume
from training.examples import MeasuredSlice, nodules_of, training_rows
from training.sources import Case, Label

RASTER = Raster((3, 3), (1.0, 1.0), (30, 30), (3.0, 3.0))


def measured(index=0, slices=1, **known):
    """Return a slice whose features are the rows and columns of its sites."""
    rows, columns = (grid.ravel() for grid in np.mgrid[:30, :30])
    hu = np.zeros((slices, 90, 90), np.int16)
    uids = tuple(f"1.{i}" for i in range(slices))
    volume = Volume(hu, None, (1.0,) * 3, (1.0,) * 6, np.zeros((slices, 3)), uids, "1", "2")
    sites = Sites(columns, rows, np.stack([rows, columns], axis=1).astype(np.float32))
    case = Case("clean", "clean:a", "a", volume, **known)
    return MeasuredSlice(case, index, RASTER, SliceMeasurements(sites, sites))


def near(features, x, y):
    return np.hypot(1 + 3 * features[:, 1] - x, 1 + 3 * features[:, 0] - y) < 8


@pytest.mark.parametrize("known", [{"nodules": {1: ((40.5, 50.5),)}}, {"hard": ((40, 50),)}])
def test_every_site_on_a_nodule_that_is_none_of_an_attack_is_trained_on(known):
    one = measured(1, 4, **known)
    (place,) = nodules_of(one)
    features, answers = training_rows([one], FindingKind.FM, seed=0)
    whole = one.sites.dense.features
    assert near(features, *place).sum() == near(whole, *place).sum()
    assert len(features) < 0.8 * len(whole)
    assert not answers.any()


def test_of_clean_series_every_other_slice_is_enough():
    slices = [measured(index, 4) for index in range(4)]
    features, _ = training_rows(slices, FindingKind.FB, seed=0)
    assert 0.6 * 1800 < len(features) < 0.8 * 1800


def test_sites_on_an_altered_place_are_positives_and_those_around_it_are_left_out():
    one = measured(labels=(Label(FindingKind.FB, 46, 46),))
    features, answers = training_rows([one], FindingKind.FB, seed=0)
    assert near(features[answers], 46, 46).all()
    assert (np.hypot(1 + 3 * features[:, 1] - 46, 1 + 3 * features[:, 0] - 46)[~answers] >= 28).all()
    _, others = training_rows([one], FindingKind.FM, seed=0)
    assert not others.any()
