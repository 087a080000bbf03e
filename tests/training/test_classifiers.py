import numpy as np
import pytest

from pacs_guard.detect.preprocess import network_input
from pacs_guard.errors import ConfigurationError
from training import classifiers
from training.classifiers import (
    NETWORKS,
    TITLES,
    Weights,
    base_features,
    estimator,
    last_convolution,
    scores,
    with_head,
)

RANDOM = Weights("none", seed=3)
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # the epochs are limited on purpose


@pytest.fixture(scope="module")
def keras():
    import keras  # noqa: PLC0415  # takes seconds

    return keras


@pytest.fixture
def tiny_base(keras, monkeypatch):
    """Stands for a network's application: a seeded base of five channels, counting how often it is built."""
    built = []

    def build(*, include_top, weights, input_shape, pooling):
        assert not include_top
        built.append(weights)
        given = keras.Input(input_shape)
        maps = keras.layers.Conv2D(5, 3, activation="relu", name="maps")(given)
        return keras.Model(given, keras.layers.GlobalAveragePooling2D()(maps) if pooling == "avg" else maps)

    monkeypatch.setattr(keras.applications, "DenseNet121", build)
    return built


def separable(classes, seed=0):
    rng = np.random.default_rng(seed)
    answers = np.arange(40 * classes) % classes
    return (rng.standard_normal((len(answers), 5)) + 3 * np.eye(5)[answers]).astype(np.float32), answers


@pytest.mark.parametrize("name", ["svm", "forest", "tree", "vgg19"])
@pytest.mark.parametrize("classes", [2, 3])
def test_each_kind_of_classifier_learns_what_can_be_told_apart(name, classes):
    features, answers = separable(classes)
    fitted = estimator(name, 0).fit(features, answers)
    found = scores(fitted, separable(classes, seed=1)[0])
    assert found.shape == (len(answers), classes)
    assert (found.argmax(axis=1) == answers).mean() > 0.9


def test_all_eight_take_their_parameters_and_others_are_said():
    assert len(TITLES) == 8
    assert estimator("svm", 0, {"C": 7.0}).get_params()["model__C"] == 7.0
    with pytest.raises(ConfigurationError, match="no classifier 'lenet'"):
        estimator("lenet", 0)


def test_the_head_is_dense_10_with_relu():
    model = estimator("resnet50", 0).named_steps["model"]
    assert model.hidden_layer_sizes == (10,)
    assert model.activation == "relu"


@pytest.mark.parametrize("classes", [2, 3])
def test_base_and_head_as_one_network_answer_as_the_pipeline_does(keras, tiny_base, classes):
    base = classifiers.build_base("densenet121", (8, 9), RANDOM)
    pictures = np.random.default_rng(0).random((42, 8, 9, 3)).astype(np.float32)
    features = np.asarray(base(pictures))
    fitted = estimator("densenet121", 0).fit(features, np.arange(42) % classes)
    whole = with_head(base, fitted)
    softmax = np.asarray(keras.ops.softmax(whole(pictures)))
    np.testing.assert_allclose(softmax, fitted.predict_proba(features), atol=1e-5)
    assert last_convolution(whole) == "maps"


def test_features_are_computed_once_for_the_same_pictures_and_weights(tiny_base, tmp_path):
    pictures = np.random.default_rng(0).random((20, 8, 9)).astype(np.float16)
    first = base_features("densenet121", pictures, "key", RANDOM, tmp_path)
    again = base_features("densenet121", pictures, "key", RANDOM, tmp_path)
    assert first.shape == (20, 5)
    np.testing.assert_array_equal(first, again)
    assert len(tiny_base) == 1
    other = base_features("densenet121", pictures, "key", Weights("none", seed=4), tmp_path)
    assert not np.array_equal(first, other)


def test_a_random_base_is_never_silent():
    assert "RANDOM BASE" in RANDOM.warning
    assert Weights("imagenet").warning is None


def test_weights_that_cannot_be_had_are_an_error_and_no_random_base(keras, monkeypatch, tmp_path):
    def no_network(**_):
        raise Exception("URL fetch failure")  # noqa: TRY002  # what keras raises

    monkeypatch.setattr(keras.applications, "VGG19", no_network)
    with pytest.raises(ConfigurationError, match="VGG19 cannot be downloaded: URL fetch failure"):
        classifiers.build_base("vgg19", (32, 32), Weights("imagenet"))
    with pytest.raises(ConfigurationError, match="holds no weights of vgg19"):
        classifiers.build_base("vgg19", (32, 32), Weights(str(tmp_path)))


def test_a_weights_file_is_found_in_its_folder_and_keys_the_cache(tmp_path):
    file = tmp_path / "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.write_bytes(b"one")
    weights = Weights(str(tmp_path))
    assert weights.file("vgg19") == file
    before = weights.key("vgg19")
    file.write_bytes(b"two")
    assert weights.key("vgg19") != before


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_has_its_own_preprocessing(keras, name):
    pictures = np.random.default_rng(0).random((2, 5, 4)).astype(np.float32)
    modules = {"densenet121": "densenet", "densenet201": "densenet", "vgg19": "vgg19"}
    module = getattr(keras.applications, modules.get(name, "resnet"))
    expected = module.preprocess_input(np.repeat(pictures[..., None] * 255, 3, axis=3))
    np.testing.assert_allclose(network_input(name, pictures), expected, atol=1e-4)


def test_sixteen_bits_give_nearly_the_same_features_in_a_file_of_their_own(keras, tiny_base, tmp_path):
    pictures = np.random.default_rng(0).random((70, 8, 9)).astype(np.float16)
    done = []
    halved = base_features("densenet121", pictures, "key", RANDOM, tmp_path, done.append, mixed=True)
    assert done == [64, 70]
    assert keras.config.dtype_policy().name == "float32"
    # where 16 bits were computed before, they are used; asked for 32 bits, they are not
    np.testing.assert_array_equal(base_features("densenet121", pictures, "key", RANDOM, tmp_path), halved)
    exact = base_features("densenet121", pictures, "key", RANDOM, tmp_path, mixed=False)
    assert len(tiny_base) == 2
    assert not np.array_equal(exact, halved)
    np.testing.assert_allclose(halved, exact, rtol=5e-3, atol=1e-4)
    base = classifiers.build_base("densenet121", (8, 9), RANDOM)
    expected = np.asarray(base(network_input("densenet121", pictures.astype(np.float32))))
    np.testing.assert_allclose(exact, expected, rtol=1e-5, atol=1e-6)


def test_features_that_are_no_numbers_are_an_error_and_not_cached(tiny_base, tmp_path):
    pictures = np.zeros((3, 8, 9), np.float16)
    pictures[1, 4, 4] = np.inf
    with pytest.raises(ConfigurationError, match="DenseNet121 gives features that are no finite numbers"):
        base_features("densenet121", pictures, "key", RANDOM, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_in_keras_own_file_layout_are_the_base(keras, tmp_path):
    h5py = pytest.importorskip("h5py")
    from keras.src.legacy.saving import legacy_h5_format  # noqa: PLC0415  # how Keras wrote the files that it offers

    keras.utils.set_random_seed(7)
    original = keras.applications.DenseNet121(include_top=False, weights=None, input_shape=(None, None, 3))
    with h5py.File(tmp_path / "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, original)
    base = classifiers.build_base("densenet121", (32, 40), Weights(str(tmp_path)))
    pictures = np.random.default_rng(0).random((2, 32, 40, 3)).astype(np.float32)
    expected = np.asarray(original(pictures)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(base(pictures)), expected, rtol=1e-4, atol=1e-6)
    random = classifiers.build_base("densenet121", (32, 40), RANDOM)
    assert not np.allclose(np.asarray(random(pictures)), expected, rtol=1e-2)
