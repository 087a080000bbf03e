import sys

import numpy as np
import pytest

from pacs_guard.errors import ConfigurationError
from training.networkfiles import onnx_graph


@pytest.fixture(scope="module")
def keras():
    import keras  # noqa: PLC0415  # takes seconds

    return keras


@pytest.fixture(scope="module")
def every_layer(keras):
    """Every kind of layer of the five networks once, on sides that no stride divides."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    given = keras.Input((23, 30, 3))
    made = layers.ZeroPadding2D(((1, 2), (3, 0)))(given)
    made = layers.Conv2D(6, (3, 5), strides=2, padding="same")(made)
    made = layers.Activation("relu")(layers.BatchNormalization(epsilon=1.001e-5)(made))
    left = layers.Conv2D(4, 3, padding="same", use_bias=False)(made)
    right = layers.Conv2D(4, 1, activation="relu")(made)
    made = layers.Concatenate()([layers.Add()([left, right]), layers.ReLU()(left)])
    made = layers.AveragePooling2D(2, strides=2)(layers.MaxPooling2D(3, strides=2, padding="same")(made))
    made = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(made))
    model = keras.Model(given, layers.Dense(3)(layers.Dense(10, activation="relu")(made)))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, one.shape) for one in layer.get_weights()])
    return model


def test_the_onnx_graph_gives_what_keras_gives(every_layer):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx_graph(every_layer), providers=["CPUExecutionProvider"])
    given = np.random.default_rng(1).standard_normal((5, 23, 30, 3)).astype(np.float32)
    expected = np.asarray(every_layer(given, training=False))
    (found,) = session.run(None, {"pictures": given})
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_layer_that_is_not_known_is_said(keras):
    given = keras.Input((4, 4, 3))
    with pytest.raises(ConfigurationError, match=r"flat \(Flatten\) has no ONNX form here"):
        onnx_graph(keras.Model(given, keras.layers.Flatten(name="flat")(given)))
    with pytest.raises(ConfigurationError, match="has activation tanh; expected linear or relu"):
        onnx_graph(keras.Model(given, keras.layers.Conv2D(2, 1, activation="tanh")(given)))


def test_without_onnx_there_is_a_sentence(every_layer, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigurationError, match="onnx cannot be loaded"):
        onnx_graph(every_layer)
