"""Both engines of a bundle's network, on a tiny network made here."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pacs_guard.detect import networks
from pacs_guard.detect.bundle import save_bundle
from pacs_guard.detect.networks import NETWORK, ONNX, KerasEngine, Network, OnnxEngine, check_pictures
from pacs_guard.detect.preprocess import network_input
from pacs_guard.errors import BundleError, DetectorError

SHAPE = (12, 14)
NAME = "densenet121"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network, and its bundle with both files."""
    import keras  # noqa: PLC0415  # takes seconds

    from training.networkfiles import network_files  # noqa: PLC0415  # needs keras

    keras.utils.set_random_seed(0)
    given = keras.Input((*SHAPE, 3))
    maps = keras.layers.Conv2D(6, 3, activation="relu", name="maps")(given)
    model = keras.Model(given, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps)))
    files, facts = network_files(NAME, model)
    return model, write(tmp_path_factory.mktemp("network") / "b", files, facts)


def write(folder, files, facts):
    sections = {"operating_point": {}, "calibration": {}, "training_data": [], "figures": []}
    head = {"name": "m", "version": "1", "detector": "slice-classifier"}
    return save_bundle(folder, head | sections | {"preprocessing": {"shape": list(SHAPE), **facts}}, files)


def changed(bundle, folder, *, without=(), **facts):
    files = {file: bundle.read(file) for file in bundle.section("files") if file not in without}
    return write(folder, files, bundle.section("preprocessing") | facts)


def pictures(count):
    return np.random.default_rng(0).random((count, *SHAPE)).astype(np.float32)


def expected(model, given):
    log_odds = np.asarray(model(network_input(NAME, given), training=False), float)
    return log_odds - np.log(np.exp(log_odds).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("without", [(), (ONNX,)])
def test_each_engine_gives_keras_scores(made, tmp_path, without):
    model, bundle = made
    network = Network(changed(bundle, tmp_path / "b", without=without))
    assert isinstance(network._engine, KerasEngine if without else OnnxEngine)
    given = pictures(37)
    np.testing.assert_allclose(network.scores(given), expected(model, given), atol=1e-5)
    assert network.model.get_layer(network.layer).name == "maps"


def test_a_gpu_is_used_where_tensorflow_finds_one(made, monkeypatch):
    _, bundle = made
    monkeypatch.setattr(networks, "gpu_device", lambda: True)
    assert isinstance(Network(bundle)._engine, OnnxEngine)  # TensorFlow sees none on this host
    accelerator = replace(networks.set_up_accelerator(), gpus=("GPU:0",))
    monkeypatch.setattr(networks, "set_up_accelerator", lambda: accelerator)
    assert isinstance(Network(bundle)._engine, KerasEngine)


def test_an_engine_that_answers_otherwise_than_keras_did_is_refused(made, tmp_path):
    _, bundle = made
    check = np.array(bundle.section("preprocessing", "check"))
    Network(changed(bundle, tmp_path / "a", check=(check + 5e-4).tolist()))
    with pytest.raises(BundleError, match=r"OnnxEngine gives .* when the bundle was made"):
        Network(changed(bundle, tmp_path / "b", check=(check + np.array([0.0, 4e-3])).tolist()))
    with pytest.raises(BundleError, match="KerasEngine gives"):
        Network(changed(bundle, tmp_path / "c", without=(ONNX,), check=[[0.0, np.inf]] * 2))


def test_a_missing_engine_or_damaged_network_is_a_sentence(made, tmp_path, monkeypatch):
    _, bundle = made
    with pytest.raises(DetectorError, match="no network that ONNX Runtime reads"):
        OnnxEngine(b"nothing", lambda given: given, 1)
    facts = bundle.section("preprocessing")
    with pytest.raises(BundleError, match="no network that Keras reads"):
        Network(write(tmp_path / "b", {NETWORK: b"nothing"}, facts))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DetectorError, match="ONNX Runtime cannot be loaded"):
        Network(bundle)


def test_what_fails_within_the_engine_is_a_sentence(made):
    _, bundle = made
    with pytest.raises(DetectorError, match=r"ONNX Runtime failed on a picture of shape \(5, 6\)"):
        Network(bundle).scores(np.zeros((2, 5, 6), np.float32))


@pytest.mark.parametrize("without", [(), (ONNX,)])
def test_however_many_pictures_only_some_are_prepared_at_a_time(made, tmp_path, monkeypatch, without):
    _, bundle = made
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    sizes = []

    def counted(name, given):
        sizes.append(len(given))
        return network_input(name, given)

    monkeypatch.setattr(networks, "network_input", counted)
    network = Network(changed(bundle, tmp_path / "b", without=without))
    assert network.scores(pictures(100)).shape == (100, 2)
    assert max(sizes) == (16 if without else 1)


def test_a_worker_without_gpu_needs_no_tensorflow(made):
    _, bundle = made
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from pacs_guard.detect.bundle import load_bundle; from pacs_guard.detect.slicemodels import read_model\n"
        "model = read_model(load_bundle(Path(sys.argv[1])))\n"
        "print(model.scores(np.zeros((3, 12, 14), np.float32)).shape)\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle.path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[-3:-1] == ["(3, 2)", "[]"]


def test_the_fixed_pictures_are_fixed():
    made = check_pictures((3, 4))
    assert made.shape == (2, 3, 4)
    assert made[0, 1, 2] == np.float32((1 * 1 + 2 * 3) / 96)
    assert made[1, 2, 3] == np.float32(((2 * 31 + 3 * 33) % 97) / 96)
    assert made.min() >= 0
    assert made.max() <= 1
