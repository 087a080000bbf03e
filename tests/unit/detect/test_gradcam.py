import numpy as np
import pytest

from pacs_guard.detect.gradcam import grad_cam
from pacs_guard.errors import DetectorError


@pytest.fixture(scope="module")
def network():
    """A tiny network: one convolution, and two log-odds from a dense layer with weights that are known."""
    import keras  # noqa: PLC0415  # takes seconds

    keras.utils.set_random_seed(0)
    given = keras.Input((6, 7, 3))
    maps = keras.layers.Conv2D(4, 3, activation="relu", name="maps")(given)
    out = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(maps))
    return keras.Model(given, out)


def test_it_is_what_its_definition_says(network):
    import keras  # noqa: PLC0415  # takes seconds

    pictures = np.random.default_rng(0).random((3, 6, 7, 3)).astype(np.float32)
    maps = np.asarray(keras.Model(network.inputs[0], network.get_layer("maps").output)(pictures))
    # the score is linear in the pooled maps, so the gradient of each of the 4 x 5 places is its weight / 20
    weights = network.layers[-1].get_weights()[0][:, 1] / 20
    expected = np.maximum((maps * weights).sum(axis=-1), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    found = grad_cam(network, "maps", pictures, 1)
    assert found.shape == (3, 4, 5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_speaks_for_a_class_of_negative_weights(network):
    kept = network.layers[-1].get_weights()
    network.layers[-1].set_weights([-np.abs(kept[0]), kept[1]])
    assert not grad_cam(network, "maps", np.ones((1, 6, 7, 3), np.float32), 0).any()
    network.layers[-1].set_weights(kept)


def test_a_layer_or_class_that_is_not_there_is_said(network):
    picture = np.zeros((1, 6, 7, 3), np.float32)
    with pytest.raises(DetectorError, match="no layer 'other'"):
        grad_cam(network, "other", picture, 0)
    with pytest.raises(DetectorError, match="class 2 was asked for; the network has 2"):
        grad_cam(network, "maps", picture, 2)
