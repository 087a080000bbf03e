import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.classifier import Classifier
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.detect.forensic import HEADS, Head
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import Volume
from training import trial
from training.attack import ATTACKS, Attack
from training.attack.boxes import box_of_mm
from training.attack.copies import NOT_TRAINED_ON
from training.attack.target import patch
from training.sources import Case, Label
from training.trial import FAMILIES, Trial, held_to, run_trials, trial_figures

POINT = {"fb": 3.0, "fm": 3.0}
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


def white(target, rng):
    """Put white noise into 30 mm around the site."""
    box = box_of_mm(target.hu.shape, target.spacing_mm, target.site, 30.0)
    return patch(box, -850 + 18 * rng.standard_normal(target.hu[box].shape))


def test_white_noise_scores_higher_than_resampling_alone(volume, monkeypatch):
    monkeypatch.setitem(ATTACKS, "white", Attack("white", (FindingKind.FB,), "White noise.", white))
    monkeypatch.setattr(trial, "ATTACKS", {name: ATTACKS[name] for name in ("white", "sham-resample")})
    case = Case("clean", "clean:a", "a", volume)
    trials = list(run_trials([case], {"clean:a": whiteness_heads()}, seed=0))
    assert [(one.attack, one.kind, one.group, one.copied) for one in trials] == [
        ("white", FindingKind.FB, "clean:a", False),
        ("sham-resample", None, "clean:a", False),
    ]
    altered, resampled = (one.scores[FindingKind.FB] for one in trials)
    assert altered > resampled + 1


def test_tampered_cases_are_no_material_for_trials(volume):
    tampered = Case("ctgan", "a", "a", volume, (Label(FindingKind.FB, 60, 130),))
    assert list(run_trials([tampered], {}, seed=0)) == []


def test_figures_count_either_head_and_say_that_the_edits_are_simulated():
    quiet, loud = dict.fromkeys(HEADS, -5.0), {FindingKind.FB: -5.0, FindingKind.FM: 4.0}
    trials = [Trial("native", FindingKind.FM, f"clean:{i % 2}", loud if i < 3 else quiet) for i in range(4)]
    every, _, figure, highest = trial_figures(held_to(trials, POINT, {"fb": 4.5, "fm": 4.5}))
    assert (every.name, figure.name) == ("series, FM, all attacks", "series, FM, native")
    assert figure.value == every.value == 0.75
    assert highest.value == 0.0
    assert figure.n == "3 of 4 copies of series of 2 patients"
    assert "SIMULATED" in figure.protocol
    assert figure.protocol.endswith("at the series point")
    assert "over every clean series" in highest.protocol


def test_copies_that_all_fared_alike_still_have_an_interval():
    quiet = dict.fromkeys(HEADS, -5.0)
    trials = [Trial("sham-ball", None, f"clean:{i % 5}", quiet) for i in range(10)]
    figure = trial_figures(held_to(trials, POINT, POINT))[-1]
    assert (figure.value, figure.low) == (0.0, 0.0)
    assert figure.high == pytest.approx(0.522, abs=0.001)  # exact bound, none of 5


def test_noise_that_was_found_twice_counts_as_found():
    quiet = dict.fromkeys(HEADS, -5.0)
    trials = [Trial("ctgan", FindingKind.FB, f"clean:{i}", quiet, copied=i == 0) for i in range(2)]
    figure = trial_figures(held_to(trials, POINT, POINT))[-1]
    assert figure.name == "series, FB, ctgan"
    assert figure.value == 0.5


def test_every_attack_that_is_trained_on_belongs_to_one_family_that_is_left_out_together():
    trained_on = {name for name, one in ATTACKS.items() if not one.sham} - NOT_TRAINED_ON
    assert sorted(name for family in FAMILIES for name in family) == sorted(trained_on | {"ctgan-june"})


def test_tissue_that_was_copied_counts_as_found_at_either_place(volume):
    quiet = {kind: Head(head.classifier, 0.0, -9.0) for kind, head in whiteness_heads().items()}
    case = Case("clean", "clean:a", "a", volume)
    trials = run_trials([case], {"clean:a": quiet}, seed=0, attacks={"copy-move"})
    assert next(one for one in trials if one.kind is FindingKind.FB).copied
