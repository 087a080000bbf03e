"""A bundle's operating point, set anew on series that a hospital knows to be clean."""

import numpy as np
import pydicom
import pytest

from pacs_guard.detect.bundle import load_bundle, pack_arrays, save_bundle
from pacs_guard.detect.detector import DetectorResult
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import ConfigurationError
from pacs_guard.simulate import make_phantom, write_series
from training import classifier_calibration
from training.classifier_calibration import calibrated, clean_series, recalibrate_classifier
from training.classifier_card import CARD


@pytest.fixture
def bundle(tmp_path):
    manifest = {
        "name": "mine",
        "version": "1.9",
        "detector": "slice-classifier",
        "preprocessing": {"form": "delocalised"},
        "operating_point": {"slice": 0.2},
        "calibration": {"clean_patients": [8.0]},
        "training_data": [{"name": "a", "use": "b", "licence": "c"}],
        "figures": [{"name": "AUC", "value": 0.7, "low": 0.6, "high": 0.8, "n": "9 slices", "protocol": "grouped"}],
        "notes": [],
    }
    files = {"weights.npz": pack_arrays({"a": np.arange(3)}), CARD: b"old"}
    return save_bundle(tmp_path / "bundle", manifest, files)


class Scores:
    """Gives the scores that it was told, one a series."""

    def __init__(self, values):
        self.values = iter(values)

    def assess(self, series, evidence=None):
        value = next(self.values)
        return DetectorResult(undetermined="no lung") if value is None else DetectorResult(score=value)


@pytest.fixture
def series(monkeypatch):
    """Three patients, one with two series."""

    def clean(folder, problems):
        for patient, scanner in (("a", "X 1"), ("a", "X 1"), ("b", "X 1"), ("c", "Y 2"), ("d", "Y 2")):
            yield patient, scanner, AssembledSeries("1", patient, ())

    monkeypatch.setattr(classifier_calibration, "clean_series", clean)
    monkeypatch.setattr(classifier_calibration, "load_detector", lambda _: Scores([0.1, 0.7, -0.4, 0.3, None]))


def test_the_highest_series_of_each_patient_sets_the_point(bundle, series, tmp_path):
    after, problems = recalibrate_classifier(bundle, tmp_path, tmp_path / "after", version="1.10")
    assert problems == ["series d: no lung"]
    clean = after.manifest["calibration"]
    assert clean["clean_patients"] == [-0.4, 0.3, 0.7]
    assert clean["smallest_p_value"] == 0.25
    assert clean["scanners"] == {"X 1": 3, "Y 2": 1}
    margin = after.manifest["operating_point"]["margin_deviations"]
    spread = np.sqrt((0.0**2 + 0.4**2) / 2)  # of those at or above the median
    assert after.manifest["operating_point"]["slice"] == pytest.approx(0.7 + margin * spread, abs=1e-3)
    assert (after.name, after.version) == ("mine", "1.10")
    assert after.read("weights.npz") == bundle.read("weights.npz")
    card = after.read(CARD).decode()
    assert "4 whole series of own scanners" in card
    assert "not whole series" not in card
    assert load_bundle(bundle.path).read(CARD) == b"old"  # the old version stays as it is


def test_a_few_patients_do_not_lower_the_point(bundle, series, tmp_path):
    strict = save_bundle(
        tmp_path / "strict",
        bundle.manifest | {"operating_point": {"slice": 9.0}},
        {file: bundle.read(file) for file in bundle.manifest["files"]},
    )
    after, _ = recalibrate_classifier(strict, tmp_path, tmp_path / "after", version="2")
    assert after.manifest["operating_point"]["slice"] == 9.0


def test_one_patient_is_too_few():
    with pytest.raises(ConfigurationError, match="needs 2 clean patients; found 1"):
        calibrated({"a": 1.0}, "series")


def test_series_of_one_patient_count_as_one_patient_whatever_the_study(tmp_path):
    for seed, patient in ((1, "p"), (2, "p"), (3, "q")):
        for path in write_series(make_phantom(slices=3, size=64, slice_mm=5.0, seed=seed), tmp_path / str(seed)):
            ds = pydicom.dcmread(path)
            ds.PatientID, ds.Manufacturer, ds.ManufacturerModelName, ds.ConvolutionKernel = patient, "M", "N", "K"
            ds.save_as(path)
    (tmp_path / "broken.dcm").write_bytes(b"none")
    problems = []
    found = list(clean_series(tmp_path, problems))
    assert len(found) == 3
    assert len({patient for patient, _, _ in found}) == 2
    assert not any(patient in {"p", "q"} for patient, _, _ in found)
    assert {scanner for _, scanner, _ in found} == {"M N K"}
    assert any("broken.dcm" in line for line in problems)
