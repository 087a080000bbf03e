import os
from pathlib import Path

import numpy as np
import pytest

from pacs_guard.detect.preprocess import ORIGINAL, Transform, Window
from pacs_guard.domain.volume import Volume
from pacs_guard.errors import ConfigurationError
from training import samples
from training.datasets import read_ctgan
from training.index import Index, IndexRow
from training.samples import AWAY_PIXELS, Sample, choose_samples, make_pictures
from training.settings import Form, ProtocolName

DATA = Path(os.environ.get("PACS_GUARD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SHAPE = (32, 32)
SPACING = 0.8
SIZE = 320


def chest():
    y, x = np.mgrid[:SIZE, :SIZE] * SPACING
    hu = np.full((SIZE, SIZE), -1000.0)
    hu[((x - 128) / 120) ** 2 + ((y - 128) / 100) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[((x - 128 - side * 55) / 42) ** 2 + ((y - 128) / 75) ** 2 < 1] = -850
    return hu.astype(np.int16)


@pytest.fixture
def slices(monkeypatch):
    """Every file is the same chest, but those called empty."""
    read = []

    def volume(path):
        read.append(str(path))
        hu = np.full((SIZE, SIZE), 40, np.int16) if "empty" in str(path) else chest()
        place = np.zeros((1, 3))
        return Volume(hu[None], None, (1.0, SPACING, SPACING), (1, 0, 0, 0, 1, 0), place, ("1",), "2", "3")

    monkeypatch.setattr(samples, "read_slice", volume)
    return read


def row(kind, patient, number, x=None, y=None, source="ctgan", name="f"):
    return IndexRow(
        source, patient, "E", patient, number, x, y, kind, f"{patient}{number}", f"{name}-{patient}-{number}"
    )


@pytest.fixture
def index():
    altered = [row("FB", "1", 10, 80, 160), row("FM", "1", 20, 240, 150), row("FM", "2", 5, 230, 140)]
    clean = [row("clean", "clean:a", n, source="a") for n in range(20)]
    clean += [row("clean", "clean:b", n, source="b", name="empty") for n in range(5)]
    clean += [row("clean", "clean:c", 1, source="c"), row("nodule", "clean:a", 3, 90, 100, source="a")]
    return Index((*altered, *clean), ())


def test_grouped_localised_negatives_lie_in_the_same_slices_and_away_from_all_that_is_altered(index, slices):
    found, _ = choose_samples(index, Form.LOCALISED, ProtocolName.GROUPED, SHAPE, 0)
    untampered = [one for one in found if one.kind == "untampered"]
    assert {one.file for one in untampered} <= {one.file for one in found if one.kind != "untampered"}
    for one in untampered:
        near = [r for r in index.rows if r.kind in ("FB", "FM") and r.patient == one.patient]
        assert all(np.hypot(one.crop.x - r.x, one.crop.y - r.y) >= AWAY_PIXELS - 1 for r in near)
        assert chest()[round(one.crop.y), round(one.crop.x)] < -500


def test_paper_localised_negatives_are_real_nodules_first(index, slices):
    found, notes = choose_samples(index, Form.LOCALISED, ProtocolName.PAPER, SHAPE, 0)
    untampered = [one for one in found if one.kind == "untampered"]
    assert (round(untampered[0].crop.x + 0.5), round(untampered[0].crop.y + 0.5)) == (90, 100)
    assert len(untampered) == 3
    assert any("other sources" in note for note in notes)


def test_whole_slices_without_lung_are_passed_over_and_patients_take_turns(index, slices):
    found, _ = choose_samples(index, Form.DELOCALISED, ProtocolName.GROUPED, SHAPE, 0)
    assert sorted(one.patient for one in found if one.kind == "untampered") == ["clean:a", "clean:a", "clean:c"]


def test_clean_slices_of_the_same_source_come_first(index, slices):
    own = tuple(row("clean", "9", n) for n in range(10))
    found, notes = choose_samples(Index((*index.rows, *own), ()), Form.RAW, ProtocolName.GROUPED, SHAPE, 0)
    assert {one.patient for one in found if one.kind == "untampered"} == {"9"}
    assert not any("other sources" in note for note in notes)


def test_a_slice_that_cannot_be_made_is_noted_and_the_run_goes_on(index, slices, monkeypatch):
    made = samples._volume

    def volume(file):
        if file == broken.file:
            raise ConfigurationError([f"{file}: no slice could be made of it"])
        return made(file)

    broken = index.rows[0]
    monkeypatch.setattr(samples, "_volume", volume)
    for form in (Form.LOCALISED, Form.DELOCALISED):
        found, notes = choose_samples(index, form, ProtocolName.GROUPED, SHAPE, 0)
        assert broken.file not in {one.file for one in found}
        assert any(f"1 labelled slices cannot be read and were left out, such as {broken.file}" in n for n in notes)


def test_without_anything_untampered_there_is_one_clear_error(index, slices):
    altered = Index(tuple(r for r in index.rows if r.kind == "FB"), ())
    with pytest.raises(ConfigurationError, match="found 1 tampered and 0 untampered"):
        choose_samples(altered, Form.RAW, ProtocolName.GROUPED, SHAPE, 0)


@pytest.mark.real_data
@pytest.mark.skipif(not (DATA / "ctgan").is_dir(), reason=f"no labelled slices in {DATA}")
def test_real_altered_slices_have_an_untampered_place_and_lungs():
    rows = [r for r in read_ctgan(DATA / "ctgan").rows if r.kind in ("FB", "FM")][:6]
    found = list(samples._same_slice(Index(tuple(rows), ()), (128, 128), np.random.default_rng(0)))
    assert len(found) == 6
    whole = list(samples._tampered(Index(tuple(rows), ()), Form.DELOCALISED, (266, 340)))
    assert len(whole) == len({r.file for r in rows})
    assert all(1.0 <= one.crop.scale < 1.5 for one in whole)


def test_answers_follow_the_experiment_s_classes():
    made = Sample("FM", "1", "ctgan", "f", "h", None)
    assert made.answer(("untampered", "tampered")) == 1
    assert made.answer(("untampered", "FB", "FM")) == 2


def test_pictures_are_made_once_and_paper_mode_goes_through_jpeg(index, slices, tmp_path):
    found, _ = choose_samples(index, Form.LOCALISED, ProtocolName.GROUPED, SHAPE, 0)
    transforms = [ORIGINAL, Transform(flip_x=True)]
    made, key = make_pictures(found, transforms, ProtocolName.GROUPED, tmp_path)
    assert made.shape == (len(found), 2, *SHAPE)
    np.testing.assert_array_equal(made[:, 1], made[:, 0, :, ::-1])
    x, y = 80, 160
    expected = Window().apply(chest())[y - 16 : y + 16, x - 16 : x + 16]
    np.testing.assert_allclose(np.asarray(made[0, 0], float), expected, atol=1e-3)
    count = len(slices)
    _, same = make_pictures(found, transforms, ProtocolName.GROUPED, tmp_path)
    assert (same, len(slices)) == (key, count)
    jpeg, other = make_pictures(found, transforms, ProtocolName.PAPER, tmp_path)
    assert other != key
    assert not np.array_equal(jpeg, made)
