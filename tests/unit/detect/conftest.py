"""Small synthetic chests with a scanner's noise, and a bundle whose one rule is known."""

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.bundle import load_bundle, pack_arrays, save_bundle
from pacs_guard.detect.classifier import Classifier
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.detect.forensic import HEADS, WEIGHTS
from pacs_guard.domain.volume import AssembledSeries, Volume

SPACING = 0.9
SIZE = 320
WHITE_LUNG = {"FB": "lung whiteness 16 mm", "FM": "dense whiteness 10 mm"}


def coloured_noise(rng, shape, sigma=18.0):
    """Return noise whose neighbours resemble one another, as a scanner's kernel makes it."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 0.9)
    return sigma * noise / noise.std()


def make_slice(seed=0, altered=None, nodule=None, spacing=SPACING, size=SIZE):
    """Return a chest slice; `altered` and `nodule` are (column, row) of white noise, and of a dense disc under it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] * spacing
    middle = size * spacing / 2
    hu = np.full((size, size), -1000.0)
    hu[((x - middle) / 135) ** 2 + ((y - middle) / 100) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((x - middle - side * 62) / 48) ** 2 + ((y - middle) / 75) ** 2 < 1] = -850
    noise = coloured_noise(rng, hu.shape)
    for place, radius in ((nodule, 9.0), (altered, 15.0)):
        if place is None:
            continue
        inside = np.hypot(x - place[0] * spacing, y - place[1] * spacing) < radius
        if place is nodule:
            hu[inside] = 30
        noise[inside] = 18.0 * rng.standard_normal(int(inside.sum()))
    return np.rint(hu + noise).astype(np.int16)


def make_volume(slices, spacing=SPACING, slice_mm=2.5):
    """Return a volume of slices, axial, starting at (-100, -50, 10) mm."""
    count = len(slices)
    positions = np.array([[-100.0, -50.0, 10.0 + slice_mm * i] for i in range(count)])
    uids = tuple(f"1.2.3.{i + 1}" for i in range(count))
    orientation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    return Volume(np.stack(slices), None, (slice_mm, spacing, spacing), orientation, positions, uids, "1.2", "1.2.3")


def make_series(slices, **geometry):
    volume = make_volume(slices, **geometry)
    return AssembledSeries(volume.study_uid, volume.series_uid, (), volume)


@pytest.fixture
def rule_bundle(tmp_path):
    """A bundle whose heads answer 10 x (whiteness - 0.5) and nothing else."""
    arrays, names = {}, {}
    for kind in HEADS:
        features = FEATURE_NAMES[kind]
        weights = np.zeros((len(features), 1), np.float32)
        weights[features.index(WHITE_LUNG[kind])] = 10.0
        layers = ((weights, np.array([-5.0], np.float32)),)
        none, one = np.zeros(len(features), np.float32), np.ones(len(features), np.float32)
        arrays |= Classifier(none, one, 50.0, (layers,)).arrays(kind)
        names[kind] = list(features)
    of_either = {"fb": 1.0, "fm": 1.0}
    clean = {"n": 3, "levels": [1.0], **{table: [[-4.0], [-3.0], [0.5]] for table in ("fb", "fm", "any")}}
    manifest = {
        "name": "rule",
        "version": "1",
        "detector": "forensic",
        "preprocessing": {"features": names, "score_line": {"FB": [1.0, 0.0], "FM": [1.0, 0.0]}},
        "operating_point": {"series": of_either, "slice": of_either},
        "calibration": {"series": clean, "slice": clean},
        "training_data": [],
        "figures": [],
    }
    return load_bundle(save_bundle(tmp_path / "rule", manifest, {WEIGHTS: pack_arrays(arrays)}).path)


@pytest.fixture
def chest():
    """The functions that make slices and series."""

    class Chest:
        slice = staticmethod(make_slice)
        volume = staticmethod(make_volume)
        series = staticmethod(make_series)
        spacing = SPACING
        size = SIZE

    return Chest
