import numpy as np
import pytest
from PIL import Image

import training.cancers
from pacs_guard.detect.classifier import Classifier
from pacs_guard.detect.cues import FEATURE_NAMES
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.domain.volume import Volume
from pacs_guard.errors import ConfigurationError
from training.cancers import cancer_figures, crop_in_8_bits, read_cancers
from training.examples import measure
from training.sources import Case, Label


def with_ball(chest, x, y, seed, *, foreign):
    """Return a slice with a dense ball, with the scanner's noise or with another."""
    rng = np.random.default_rng(seed)
    part = chest.part(seed % 20, seed % 20 + 1)
    rows, columns = np.mgrid[:260, :260]
    ball = np.hypot(rows - y, columns - x) < 11
    hu = part.hu[0].astype(float)
    hu[ball] += 890
    if foreign:
        hu[ball] = 30 + 30 * rng.standard_normal(int(ball.sum()))
    uids = (f"1.{seed}",)
    return Volume(
        np.rint(hu).astype(np.int16)[None], None, part.spacing_mm, part.orientation, part.positions_mm, uids, "1", "2"
    )


def test_pictures_and_crops_of_the_same_pixels_are_the_same(tmp_path):
    hu = np.random.default_rng(0).integers(-1200, 600, (200, 220)).astype(np.int16)
    part = np.clip(hu[68:132, 48:112], -1000, 400).astype(float)
    Image.fromarray(np.floor((part + 1000) / 1400 * 255).astype(np.uint8)).save(tmp_path / "77_12_80_100.png")
    ((patient, read),) = read_cancers(tmp_path)
    assert patient == "77"
    assert np.array_equal(read, crop_in_8_bits(hu, 80, 100))
    assert np.abs(read - part).max() <= 6


def test_a_picture_of_another_size_is_refused(tmp_path):
    Image.new("L", (32, 64)).save(tmp_path / "1_1_1_1.png")
    with pytest.raises(ConfigurationError, match="expected 64 x 64 pixels of 8 bits"):
        read_cancers(tmp_path)


def test_without_pictures_there_is_no_figure(tmp_path):
    assert cancer_figures(tmp_path / "absent", [], [], seed=0, networks=1) == []


def test_injections_with_foreign_noise_are_told_from_real_cancers_with_the_scanners(tmp_path, chest, monkeypatch):
    trained_on = []

    def fitted(features, answers, **_):
        """Take the place of a fit that would need more than six crops: white is suspicious."""
        trained_on.append((len(features), int(answers.sum())))
        names = FEATURE_NAMES[FindingKind.FM]
        weights = np.zeros((len(names), 1), np.float32)
        weights[names.index("dense corner energy 7 mm")] = 1.0
        layers = ((weights, np.zeros(1, np.float32)),)
        return Classifier(np.zeros(len(names), np.float32), np.ones(len(names), np.float32), 50, (layers,))

    monkeypatch.setattr(training.cancers, "FOLDS", 2)
    monkeypatch.setattr(training.cancers, "fit_classifier", fitted)
    cases, drawn = [], []
    for number in range(6):
        x, y = 46 + number % 3, 120 + 3 * number  # with some of the wall in the crop
        foreign = with_ball(chest, x, y, number, foreign=True)
        cases.append(Case("ctgan", str(number), str(number), foreign, (Label(FindingKind.FM, x, y),)))
        own = with_ball(chest, x, y, number + 8, foreign=False)
        drawn.append(Case("sham", f"clean:{number}", str(number), own, hard=((x, y),)))
        hu = crop_in_8_bits(with_ball(chest, x, y, number + 30, foreign=False).hu[0], x, y)
        grey = np.rint((hu.astype(float) + 1000) / 1400 * 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"9{number}_1_{x}_{y}.png")
    figures = cancer_figures(tmp_path, list(measure(cases)), list(measure(drawn)), seed=0, networks=1)
    assert figures[0].name == "FM against real cancers in 8 bits, AUC"
    assert figures[0].n == "6 injections, 6 places of 6 patients, 0 without soft tissue"
    assert figures[0].value > 0.75
    assert len(trained_on) == 2
    assert all(0 < positive < rows for rows, positive in trained_on)
    assert [figure.n.split(",")[1] for figure in figures] == [" 6 places of 6 patients"] * 2
