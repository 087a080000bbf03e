"""From slices to a bundle that the node's own registry loads and runs."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pacs_guard.detect.bundle import load_bundle, save_bundle
from pacs_guard.detect.preprocess import site_crop
from pacs_guard.detect.registry import load_detector
from pacs_guard.domain.volume import AssembledSeries, Volume
from pacs_guard.errors import ConfigurationError
from training import samples
from training.classifier_card import CARD
from training.classifiers import TITLES, Weights
from training.experiments import Plan
from training.export import export
from training.index import Index, IndexRow
from training.settings import Experiment, Form, ProtocolName, Size

PATIENTS, SIDE, SPACING, SHAPE = 14, 160, 1.6, (40, 52)
GRIDS = {
    "svm": {"C": [1.0]},
    "forest": {"n_estimators": [10]},
    "tree": {"max_depth": [3]},
    "network": {"alpha": [0.1]},
}
SIZE = Size("tiny", 0, dict.fromkeys(Form, SHAPE), 2, 1, 20, GRIDS)
WHOLE = Experiment("whole", "Whole", Form.DELOCALISED, ("untampered", "tampered"), False, "none", {})
LOCAL = Experiment("local", "Local", Form.LOCALISED, ("untampered", "tampered"), False, "none", {})
THREE = Experiment("three", "Three", Form.DELOCALISED, ("untampered", "FB", "FM"), False, "none", {})
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


def volume(seeds, altered=False):
    """Return a volume of chests; those altered have denser lungs."""
    y, x = np.mgrid[:SIDE, :SIDE] * SPACING
    slices = []
    for seed in seeds:
        hu = np.full((SIDE, SIDE), -1000.0)
        hu[((x - 128) / 120) ** 2 + ((y - 128) / 100) ** 2 < 1] = 40
        for side in (-1, 1):
            hu[((x - 128 - side * 55) / 42) ** 2 + ((y - 128) / 75) ** 2 < 1] = -650 if altered else -850
        slices.append(hu + 20 * np.random.default_rng(seed).standard_normal(hu.shape))
    places = np.array([[0.0, 0.0, float(i)] for i in range(len(slices))])
    uids = tuple(f"1.{i}" for i in range(len(slices)))
    return Volume(
        np.stack(slices).astype(np.int16), None, (1, SPACING, SPACING), (1, 0, 0, 0, 1, 0), places, uids, "1", "2"
    )


@pytest.fixture
def index(monkeypatch):
    def read(path):
        name = path.stem
        return volume([sum(map(ord, name))], altered=name.startswith("altered"))

    monkeypatch.setattr(samples, "read_slice", read)
    rows = [IndexRow("ctgan", f"{p}", "E", f"{p}", 9, 4, 4, "FB", f"a{p}", f"altered{p}.dcm") for p in range(PATIENTS)]
    rows += [
        IndexRow("clean", f"clean:{p}", "", f"{p}", 9, None, None, "clean", f"c{p}", f"clean{p}.dcm")
        for p in range(PATIENTS)
    ]
    return Index(tuple(rows), ())


@pytest.fixture
def sites(index, monkeypatch):
    """The same slices; the place of an altered one is in its denser lung, the untampered place in a clean one's."""
    x, y = round((128 - 55) / SPACING), round(128 / SPACING)
    altered = [replace(row, x=x, y=y) for row in index.rows if row.kind == "FB"]

    def same_slice(given, shape, rng):
        for row in given.rows:
            if row.kind == "FB":
                yield samples._sample(
                    replace(row, file=f"quiet{row.patient}.dcm"), "untampered", site_crop(x, y, shape)
                )

    monkeypatch.setattr(samples, "_same_slice", same_slice)
    return Index((*altered, *(row for row in index.rows if row.kind == "clean")), ())


@pytest.fixture
def tiny_base(monkeypatch):
    import keras  # noqa: PLC0415  # takes seconds

    def build(*, include_top, weights, input_shape, pooling):
        given = keras.Input(input_shape)
        maps = keras.layers.Conv2D(6, 3, activation="relu", name="maps")(given)
        return keras.Model(given, keras.layers.GlobalAveragePooling2D()(maps))

    monkeypatch.setattr(keras.applications, "DenseNet121", build)


def bundle_of(name, index, folder, experiment=WHOLE):
    plan = Plan((experiment,), (ProtocolName.GROUPED,), (name,), SIZE, Weights("none"))
    return export(plan, index, folder / "bundle", folder / "cache")


def check(bundle, evidence):
    """Run the bundle on a clean and an altered series, as the worker does."""
    detector = load_detector(bundle.path)
    clean = detector.assess(AssembledSeries("1", "2", (), volume([901, 902])), evidence)
    altered = detector.assess(AssembledSeries("1", "2", (), volume([903, 904], altered=True)), evidence)
    assert len(altered.slices) == 2
    return clean, altered


@pytest.mark.parametrize("name", ["svm", "forest", "tree"])
def test_a_conventional_classifier_runs_in_the_node_from_plain_arrays(name, index, tmp_path):
    bundle = bundle_of(name, index, tmp_path)
    clean, altered = check(bundle, None)
    assert altered.score > clean.score
    assert altered.findings
    assert not clean.findings
    assert altered.findings[0].p_value == pytest.approx(1 / (PATIENTS + 1))
    assert {path.suffix for path in bundle.path.iterdir()} == {".json", ".npz", ".md"}


def test_a_network_runs_in_the_node_and_its_finding_carries_its_grad_cam(index, tmp_path, tiny_base):
    bundle = bundle_of("densenet121", index, tmp_path)
    clean, altered = check(bundle, tmp_path / "evidence")
    assert altered.score > clean.score
    (finding,) = altered.findings
    with Image.open(tmp_path / "evidence" / finding.picture) as picture:
        assert picture.size == (2 * SHAPE[1], SHAPE[0])
    card = bundle.read(CARD).decode()
    assert "RANDOM BASE" in card
    assert "28 clean" not in card


def test_the_card_says_n_interval_protocol_and_limits(index, tmp_path):
    bundle = load_bundle(bundle_of("tree", index, tmp_path).path)
    (figure,) = bundle.manifest["figures"]
    assert figure["n"] == "14 altered, 14 untampered slices of 28 patients"
    assert figure["low"] <= figure["value"] <= figure["high"]
    card = bundle.read(CARD).decode()
    assert "No p-value under 0.0667" in card
    assert "come from other sources" in card
    assert "no medical device" in card


@pytest.mark.parametrize("name", ["svm", "forest", "tree", "densenet121"])
def test_a_localised_classifier_runs_in_the_node_at_candidate_sites(name, sites, tmp_path, tiny_base):
    bundle = bundle_of(name, sites, tmp_path, LOCAL)
    clean, altered = check(bundle, None)
    assert not clean.findings  # of a patient whom nothing was set by
    manifest = bundle.manifest | {"operating_point": {"slice": altered.score}}
    eager = save_bundle(tmp_path / "eager", manifest, {file: bundle.read(file) for file in manifest["files"]})
    _, altered = check(eager, tmp_path / "evidence")
    finding = altered.findings[0]
    assert finding.score == altered.score == max(one.score_fb for one in altered.slices)
    assert finding.box.x0 <= finding.x < finding.box.x1 <= SIDE
    assert "places of the lungs were looked at" in finding.sentence
    assert (finding.picture is not None) is (name == "densenet121")
    card = bundle.read(CARD).decode()
    assert "known sites of the same slices" in card
    assert f"above all of {PATIENTS} clean patients" in card
    assert "had seen no slice of theirs" in card


def test_three_classes_run_in_the_node_and_name_the_kind(index, tmp_path):
    rows = [replace(row, kind="FM" if row.kind == "FB" and int(row.patient) % 2 else row.kind) for row in index.rows]
    bundle = bundle_of("forest", Index(tuple(rows), ()), tmp_path, THREE)
    _, altered = check(bundle, None)
    assert np.isfinite(altered.score)
    assert all(np.isfinite([one.score_fb, one.score_fm]).all() for one in altered.slices)


def test_a_localised_bundle_without_clean_patients_is_refused(sites, tmp_path):
    altered = Index(tuple(row for row in sites.rows if row.kind != "clean"), ())
    with pytest.raises(ConfigurationError, match="needs 2 clean patients; found 0"):
        bundle_of("tree", altered, tmp_path, LOCAL)


def test_an_experiment_about_whole_slices_is_not_for_the_node(index, tmp_path):
    raw = Experiment("raw", "Raw", Form.RAW, ("untampered", "tampered"), False, "none", {})
    with pytest.raises(ConfigurationError, match="the node runs localised and delocalised ones"):
        bundle_of("tree", index, tmp_path, raw)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TITLES if name not in ("svm", "forest", "tree")])
def test_each_of_the_five_networks_runs_in_the_node(name, index, tmp_path):
    bundle = bundle_of(name, index, tmp_path)
    _, altered = check(bundle, tmp_path / "evidence")
    assert np.isfinite(altered.score)
    assert all(np.isfinite(one.score_fb) for one in altered.slices)
