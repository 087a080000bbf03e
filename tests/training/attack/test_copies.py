import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import Volume
from training.attack import ATTACKS, shams, simulated
from training.attack.copies import NOT_TRAINED_ON
from training.examples import IGNORED_MM, POSITIVE_MM, measure, rows_of
from training.sources import Case, Label

SPACING = 1.0


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :300] - 150.0
    hu = np.full((24, 300, 300), -1000.0)
    hu[:, (x / 135) ** 2 + (y / 100) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[:, ((x - side * 62) / 48) ** 2 + (y / 75) ** 2 < 1] = -850
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0.3, 0.9, 0.9))
    hu = np.rint(hu + 18 * noise / noise.std()).astype(np.int16)
    positions = np.array([[0.0, 0.0, 2.5 * i] for i in range(24)])
    uids = tuple(f"1.{i + 1}" for i in range(24))
    volume = Volume(hu, None, (2.5, SPACING, SPACING), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), positions, uids, "1", "2")
    return Case("clean", "clean:a", "a", volume)


@pytest.fixture(scope="module")
def copies(series):
    return list(simulated([series], seed=0, copies=1))


def test_every_attack_that_leaves_a_texture_is_trained_on_as_removal_and_as_injection(copies):
    known = {one.name for one in ATTACKS.values() if not one.sham} - NOT_TRAINED_ON
    for kind in (FindingKind.FB, FindingKind.FM):
        assert {copy.attack for copy in copies if copy.target.kind is kind} == known


def test_altered_copies_differ_only_around_their_label_and_keep_their_patient(series, copies):
    for copy in copies:
        assert copy.group == series.group
        index = round(copy.volume.positions_mm[0, 2] / 2.5)
        rows, columns = np.nonzero(copy.volume.hu[0] != series.volume.hu[index])
        assert rows.size > 10
        assert np.hypot(rows - copy.target.y, columns - copy.target.x).max() < 45


def test_the_same_seed_gives_the_same_copies(series, copies):
    again = simulated([series], seed=0, copies=1)
    assert all(np.array_equal(next(again).volume.hu, copy.volume.hu) for copy in copies[:3])


def test_only_what_was_altered_is_a_positive(series):
    near = Label(FindingKind.FB, 90, 150, radius_mm=4.0)
    measured = next(measure([Case("simulated", "a", "a", series.volume, (near,))]))
    chosen, positive = rows_of(measured, FindingKind.FB)
    assert 0 < measured.distance_mm(measured.head(FindingKind.FB), 90, 150)[chosen[positive]].max() < 4.0


def test_tampered_cases_and_single_slices_are_not_altered_again(series):
    tampered = Case("ctgan", "a", "a", series.volume, (Label(FindingKind.FB, 90, 150),))
    assert list(simulated([tampered], seed=0)) == []


def test_shams_are_dense_and_keep_the_scanner_s_noise(series):
    sham = next(iter(shams([series], seed=0)))
    assert len(sham.hard) == 3
    for x, y in sham.hard:
        patch = sham.volume.hu[0, y - 1 : y + 2, x - 1 : x + 2].astype(float)
        assert patch.mean() > -120
    difference = sham.volume.hu[0].astype(float) - series.volume.hu[0]
    changed = np.abs(difference) > 400
    inside = ndimage.binary_erosion(changed, iterations=4)  # away from the edge
    native = np.abs(ndimage.laplace(series.volume.hu[0].astype(float)))[inside].mean()
    assert np.abs(ndimage.laplace(difference))[inside].mean() < 0.5 * native


def test_shams_keep_away_from_labels(series):
    label = Label(FindingKind.FB, 90, 150)
    tampered = Case("ctgan", "a", "a", series.volume, (label,))
    for sham in shams([tampered], seed=0):
        assert all(np.hypot(x - label.x, y - label.y) > 45 for x, y in sham.hard)


def test_sites_near_a_label_are_positives_or_left_out(series):
    label = Label(FindingKind.FB, 90, 150)
    measured = next(measure([Case("ctgan", "a", "a", series.volume, (label,))]))
    chosen, positive = rows_of(measured, FindingKind.FB)
    distance = measured.distance_mm(measured.head(FindingKind.FB), label.x, label.y)
    assert (distance[chosen[positive]] < POSITIVE_MM[FindingKind.FB]).all()
    assert (distance[chosen[~positive]] >= IGNORED_MM).all()
    assert positive.sum() > 5


def test_a_label_on_a_neighbouring_slice_gives_no_positives_but_no_negatives_either(series):
    label = Label(FindingKind.FB, 90, 150, depth_mm=10.0)
    measured = next(measure([Case("ctgan", "a", "a", series.volume, (label,))]))
    chosen, positive = rows_of(measured, FindingKind.FB)
    assert not positive.any()
    assert measured.distance_mm(measured.head(FindingKind.FB), 90, 150)[chosen].min() >= IGNORED_MM
