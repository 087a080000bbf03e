"""The paper's eight classifiers, as estimators: three on raw pixels, five on the features of a frozen base."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.preprocess import network_input
from pacs_guard.detect.serving import compiled_outputs, set_up_accelerator
from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

CONVENTIONAL = {"svm": "SVM", "forest": "Random forest", "tree": "Decision tree"}
NETWORKS = {
    "densenet121": "DenseNet121",
    "densenet201": "DenseNet201",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "vgg19": "VGG19",
}
TITLES = CONVENTIONAL | NETWORKS
_BATCH = 8
_GPU_BATCH = 64


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the weights of a frozen base come from.

    Attributes
    ----------
    choice : str
        ``imagenet`` (downloaded by Keras), ``none``, or a weights file; or a folder with one ``<name>*.h5`` for each
        network, such as ``densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5``.
    seed : int
        Of a random base.
    """

    choice: str = "imagenet"
    seed: int = 0

    @property
    def warning(self) -> str | None:
        """What every output must say, if the base is random."""
        if self.choice != "none":
            return None
        return "RANDOM BASE: the convolution base has no ImageNet weights; the figure says nothing about this network"

    def file(self, name: str) -> Path | None:
        """Return the weights file of a network, or None for ``imagenet`` and ``none``.

        Raises
        ------
        ConfigurationError
            If there is no such file.
        """
        if self.choice in ("imagenet", "none"):
            return None
        path = Path(self.choice)
        if path.is_dir():
            found = sorted(path.glob(f"{name}*.h5"))
            if found:
                return found[0]
        elif path.is_file():
            return path
        raise ConfigurationError([f"{path} holds no weights of {name}; expected imagenet, none, a file or its folder"])

    def key(self, name: str) -> str:
        """Return a hash of the base's weights, without loading it."""
        path = self.file(name)
        what = path.read_bytes() if path else f"{self.choice}:{self.seed if self.choice == 'none' else ''}".encode()
        return hashlib.sha256(name.encode() + b"\0" + what).hexdigest()[:16]


def build_base(name: str, shape: tuple[int, int], weights: Weights, *, mixed: bool = False) -> Any:
    """Return the frozen convolution base of a network, a `keras.Model` that ends in global average pooling.

    Parameters
    ----------
    name : str
    shape : tuple of int
        (rows, columns) of the pictures.
    weights : Weights
    mixed : bool
        Convolve in 16-bit floating point, twice as fast on a GPU's tensor cores; weights and pooling keep 32 bits.

    Raises
    ------
    ConfigurationError
        If the weights cannot be had; a random base is only ever built when asked for.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras  # noqa: PLC0415  # takes seconds

    build = getattr(keras.applications, NETWORKS[name])
    path = weights.file(name)
    keras.utils.set_random_seed(weights.seed)
    usual = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16" if mixed else usual)
        base = build(
            include_top=False,
            weights="imagenet" if weights.choice == "imagenet" else None,
            input_shape=(*shape, 3),
            pooling=None if mixed else "avg",
        )
        if path is not None:
            base.load_weights(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            [
                (
                    f"the weights of {NETWORKS[name]} ({weights.choice}) cannot be had: {error}; "
                    "give a weights file or folder, or 'none' for a random base"
                )
            ]
        ) from error
    except Exception as error:
        # keras wraps a failed download in a bare Exception
        if type(error) is not Exception:
            raise
        raise ConfigurationError(
            [f"the ImageNet weights of {NETWORKS[name]} cannot be downloaded: {error}; give a file, or 'none'"]
        ) from error
    finally:
        keras.config.set_dtype_policy(usual)
    if mixed:
        # a sum over a whole map does not fit into 16 bits
        pool = keras.layers.GlobalAveragePooling2D(dtype="float32")
        base = keras.Model(base.inputs[0], pool(base.outputs[0]), name=base.name)
    base.trainable = False
    return base


def with_head(base: Any, fitted: Any) -> Any:
    """Return a base and its fitted head as one `keras.Model` from a network's input to log-odds, shape (n, classes).

    The scaling of the features is folded into the first dense layer. A softmax of the output is the head's
    `predict_proba`.
    """
    import keras  # noqa: PLC0415  # takes seconds

    scale, model = fitted.named_steps["scale"], fitted.named_steps["model"]
    (first, last), (first_bias, last_bias) = model.coefs_, model.intercepts_
    if model.out_activation_ == "logistic":
        # one log-odds z is a softmax over (-z/2, z/2)
        last, last_bias = np.hstack([-last / 2, last / 2]), np.concatenate([-last_bias / 2, last_bias / 2])
    first = first / scale.scale_[:, None]
    hidden = keras.layers.Dense(first.shape[1], activation="relu", name="head_hidden")
    output = keras.layers.Dense(last.shape[1], name="head_log_odds", dtype="float32")
    whole = keras.Model(base.inputs[0], output(hidden(base.outputs[0])))
    hidden.set_weights([first, first_bias - scale.mean_ @ first])
    output.set_weights([last, last_bias])
    return whole


def last_convolution(model: Any) -> str:
    """Return the name of the last layer whose output is still a map and not a pooled one."""
    for layer in reversed(model.layers):
        if len(layer.output.shape) == 4 and "Pooling" not in type(layer).__name__:
            return str(layer.name)
    raise ConfigurationError([f"{model.name} has no convolution layer"])


def base_features(
    name: str,
    pictures: NDArray[np.float16],
    pictures_key: str,
    weights: Weights,
    cache: Path,
    progress: Callable[[int], None] = lambda _: None,
    *,
    mixed: bool | None = None,
) -> NDArray[np.float32]:
    """Return what the frozen base makes of every picture; computed once for these pictures and weights.

    What was computed before is used whatever its precision; the file's name says which it is.

    Parameters
    ----------
    name : str
        Network.
    pictures : ndarray, shape (n, rows, columns)
    pictures_key : str
        Their hash.
    weights : Weights
    cache : Path
        Folder.
    progress : callable
        Told how many are done.
    mixed : bool or None
        Convolve in 16 bits; None does so where there is a GPU.

    Returns
    -------
    ndarray of float32, shape (n, features)

    Raises
    ------
    ConfigurationError
        If the weights cannot be had, or a feature is no finite number.
    """
    stem = f"features-{name}-{pictures_key}-{weights.key(name)}"
    paths = {False: cache / f"{stem}.npy", True: cache / f"{stem}-mixed.npy"}
    if mixed is None:
        known = [precision for precision, path in paths.items() if path.is_file()]
        mixed = known[0] if known else bool(set_up_accelerator().gpus)
    path = paths[mixed]
    if not path.is_file():
        _save(path, _computed(name, pictures, weights, progress, mixed=mixed))
    features: NDArray[np.float32] = np.load(path)
    return features


def _computed(
    name: str, pictures: NDArray[np.float16], weights: Weights, progress: Callable[[int], None], *, mixed: bool
) -> NDArray[np.float32]:
    base = build_base(name, (pictures.shape[1], pictures.shape[2]), weights, mixed=mixed)
    batch = _GPU_BATCH if mixed else _BATCH
    made: list[NDArray[np.float32]] = []
    for features in compiled_outputs(base, partial(network_input, name), pictures, batch):
        made.append(features)
        progress(min(len(made) * batch, len(pictures)))
    whole = np.concatenate(made)
    if not np.isfinite(whole).all():
        raise ConfigurationError([f"{NETWORKS[name]} gives features that are no finite numbers (16 bits: {mixed})"])
    return whole


def _save(path: Path, features: NDArray[np.float32]) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".partial")
    with partial_file.open("wb") as stream:
        np.save(stream, features)
    partial_file.replace(path)


def estimator(name: str, seed: int, parameters: Mapping[str, Any] | None = None) -> Any:
    """Return an untrained classifier.

    A network's head, dense 10 with ReLU and a softmax, is a multi-layer perceptron on the features of its base: the
    layers and the loss are the same, and it is trained in a fraction of a second. Scaling is fitted on whatever the
    classifier is fitted on, never on what it is tested with.

    Parameters
    ----------
    name : str
        One of `TITLES`.
    seed : int
    parameters : mapping
        As in a grid, for example ``{"C": 10.0}``.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415  # slow to import
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415  # slow to import
    from sklearn.pipeline import Pipeline  # noqa: PLC0415  # slow to import
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415  # slow to import
    from sklearn.svm import SVC  # noqa: PLC0415  # slow to import
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415  # slow to import

    if name == "svm":
        model = SVC(random_state=seed)
    elif name == "forest":
        model = RandomForestClassifier(random_state=seed)
    elif name == "tree":
        model = DecisionTreeClassifier(random_state=seed)
    elif name in NETWORKS:
        model = MLPClassifier((10,), activation="relu", solver="adam", batch_size=32, max_iter=200, random_state=seed)
    else:
        raise ConfigurationError([f"there is no classifier {name!r}; there are {', '.join(TITLES)}"])
    steps = [("scale", StandardScaler())] if name == "svm" or name in NETWORKS else []
    built = Pipeline([*steps, ("model", model)])
    return built.set_params(**{f"model__{key}": value for key, value in (parameters or {}).items()})


def scores(fitted: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a fitted classifier's scores, shape (n, classes); larger is likelier.

    Probabilities where it has them; the SVM's decision values otherwise, for two classes as (-d, d).
    """
    if hasattr(fitted, "predict_proba"):
        return np.asarray(fitted.predict_proba(features), float)
    decision = np.asarray(fitted.decision_function(features), float)
    return np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision


class unconverged(warnings.catch_warnings):  # noqa: N801  # reads as the context that it is
    """Say nothing of networks whose epochs are limited on purpose, nor of data smaller than a batch."""

    def __enter__(self) -> Any:
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # slow to import

        entered = super().__enter__()
        warnings.simplefilter("ignore", ConvergenceWarning)
        # fewer rows than a batch make one batch
        warnings.filterwarnings("ignore", message="Got `batch_size`")
        return entered
