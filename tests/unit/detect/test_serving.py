from __future__ import annotations

import sys

import numpy as np
import pytest

from pacs_guard.detect.serving import Accelerator, compiled_outputs, set_up_accelerator
from pacs_guard.errors import DetectorError


class _Configuration:
    """What TensorFlow's configuration would be told."""

    def __init__(self, gpus):
        self.gpus, self.grown = gpus, []
        self.experimental = self

    def list_physical_devices(self, kind):
        return self.gpus if kind == "GPU" else []

    def set_memory_growth(self, gpu, *, enable):
        self.grown.append((gpu.name, enable))


@pytest.fixture
def tensorflow(monkeypatch):
    def install(*names):
        gpus = [type("Device", (), {"name": name})() for name in names]
        fake = type("TensorFlow", (), {"config": _Configuration(gpus), "__version__": "2.21.0"})()
        monkeypatch.setitem(sys.modules, "tensorflow", fake)
        return fake.config

    return install


def test_a_gpu_s_memory_is_taken_as_it_is_needed(tensorflow):
    configuration = tensorflow("GPU:0", "GPU:1")
    assert str(set_up_accelerator()) == "TensorFlow 2.21.0 on GPU:0, GPU:1"
    assert configuration.grown == [("GPU:0", True), ("GPU:1", True)]


def test_the_cpu_works_where_there_is_no_gpu(tensorflow):
    tensorflow()
    assert set_up_accelerator() == Accelerator((), "2.21.0")


def test_without_tensorflow_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(DetectorError, match="TensorFlow cannot be loaded"):
        set_up_accelerator()


def test_compiled_outputs_are_keras_own_and_few_pictures_are_prepared_at_a_time():
    import keras  # noqa: PLC0415  # takes seconds

    keras.utils.set_random_seed(0)
    given = keras.Input((4, 5, 3))
    model = keras.Model(given, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3)(given)))
    pictures = np.random.default_rng(0).random((11, 4, 5)).astype(np.float16)
    prepared = []

    def prepare(some):
        prepared.append(len(some))
        return np.repeat(some[..., None], 3, axis=3)

    found = list(compiled_outputs(model, prepare, pictures, 4))
    assert prepared == [len(one) for one in found] == [4, 4, 3]
    expected = model(np.repeat(pictures[..., None], 3, axis=3).astype(np.float32), training=False)
    np.testing.assert_allclose(np.concatenate(found), np.asarray(expected), atol=1e-6)
