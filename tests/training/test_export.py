"""From slices to a bundle that the node's own registry loads and runs."""

import numpy as np
import pytest
from PIL import Image

from pacs_guard.detect.bundle import load_bundle
from pacs_guard.detect.registry import load_detector
from pacs_guard.domain.volume import AssembledSeries, Volume
from pacs_guard.errors import ConfigurationError
from training import samples
from training.classifiers import TITLES, Weights
from training.experiments import Plan
from training.export import CARD, export
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
def tiny_base(monkeypatch):
    import keras  # noqa: PLC0415  # takes seconds

    def build(*, include_top, weights, input_shape, pooling):
        given = keras.Input(input_shape)
        maps = keras.layers.Conv2D(6, 3, activation="relu", name="maps")(given)
        return keras.Model(given, keras.layers.GlobalAveragePooling2D()(maps))

    monkeypatch.setattr(keras.applications, "DenseNet121", build)


def bundle_of(name, index, folder):
    plan = Plan((WHOLE,), (ProtocolName.GROUPED,), (name,), SIZE, Weights("none"))
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


def test_an_experiment_about_known_sites_is_not_for_the_node(index, tmp_path):
    local = Experiment("local", "Local", Form.LOCALISED, ("untampered", "tampered"), False, "none", {})
    plan = Plan((local,), (ProtocolName.GROUPED,), ("tree",), SIZE, Weights("none"))
    with pytest.raises(ConfigurationError, match="only delocalised experiments can run in the node"):
        export(plan, index, tmp_path / "bundle", tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TITLES if name not in ("svm", "forest", "tree")])
def test_each_of_the_five_networks_runs_in_the_node(name, index, tmp_path):
    bundle = bundle_of(name, index, tmp_path)
    _, altered = check(bundle, tmp_path / "evidence")
    assert np.isfinite(altered.score)
    assert all(np.isfinite(one.score_fb) for one in altered.slices)
