import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.classifier import Classifier
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.detect.forensic import HEADS, Head
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import Volume
from training.sources import Case, Label
from training.trial import EDITS, Trial, resampled_only, run_trials, trial_figures

WHITE = {FindingKind.FB: "lung whiteness 16 mm", FindingKind.FM: "dense whiteness 10 mm"}


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:260, :260] - 130.0
    hu = np.full((14, 260, 260), -1000.0)
    hu[:, (x / 125) ** 2 + (y / 95) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[:, ((x - side * 58) / 44) ** 2 + (y / 70) ** 2 < 1] = -850
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0.3, 0.9, 0.9))
    hu = np.rint(hu + 18 * noise / noise.std()).astype(np.int16)
    positions = np.array([[0.0, 0.0, 5.0 * i] for i in range(14)])
    uids = tuple(f"1.{i + 1}" for i in range(14))
    return Volume(hu, None, (5.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), positions, uids, "1", "2")


def whiteness_heads():
    heads = {}
    for kind in HEADS:
        names = FEATURE_NAMES[kind]
        weights = np.zeros((len(names), 1), np.float32)
        weights[names.index(WHITE[kind])] = 10.0
        layers = ((weights, np.array([-3.0], np.float32)),)
        heads[kind] = Head(Classifier(np.zeros(len(names), np.float32), np.ones(len(names), np.float32), 50, (layers,)))
    return heads


def test_white_touch_up_noise_scores_higher_than_resampling_alone(volume):
    case = Case("clean", "clean:a", "a", volume)
    trials = list(run_trials([case], {"clean:a": whiteness_heads()}, seed=0))
    assert len(trials) == sum(edit.copies for edit in EDITS)
    highest = {
        edit: np.median([trial.scores[FindingKind.FB] for trial in trials if trial.edit == edit])
        for edit in (EDITS[0], EDITS[-1])
    }
    assert highest[EDITS[0]] > highest[EDITS[-1]] + 1


def test_tampered_cases_are_no_material_for_trials(volume):
    tampered = Case("ctgan", "a", "a", volume, (Label(FindingKind.FB, 60, 130),))
    assert list(run_trials([tampered], {}, seed=0)) == []


def test_resampling_alone_changes_only_the_cube_and_softens_it(volume):
    other = resampled_only(volume, (7, 130, 72))
    changed = other.hu != volume.hu
    rows, columns = np.nonzero(changed[7])
    assert rows.min() >= 114
    assert rows.max() < 147
    assert columns.min() >= 56
    assert columns.max() < 89
    assert not changed[0].any()


def test_figures_count_either_head_and_say_that_the_edits_are_simulated():
    quiet, loud = dict.fromkeys(HEADS, -5.0), {FindingKind.FB: -5.0, FindingKind.FM: 4.0}
    trials = [Trial(EDITS[0], f"clean:{i % 2}", loud if i < 3 else quiet) for i in range(4)]
    (figure,) = trial_figures(trials, {"fb": 3.0, "fm": 3.0}, "at 3")
    assert figure.value == 0.75
    assert figure.n == "3 of 4 copies of series of 2 patients"
    assert "SIMULATED" in figure.protocol
    assert figure.protocol.endswith("at 3")


def test_copies_that_all_fared_alike_still_have_an_interval():
    quiet = dict.fromkeys(HEADS, -5.0)
    trials = [Trial(EDITS[0], f"clean:{i % 5}", quiet) for i in range(10)]
    (figure,) = trial_figures(trials, {"fb": 3.0, "fm": 3.0}, "at 3")
    assert (figure.value, figure.low) == (0.0, 0.0)
    assert figure.high == pytest.approx(0.522, abs=0.001)  # exact bound, none of 5
