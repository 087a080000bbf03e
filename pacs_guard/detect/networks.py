"""A bundle's convolution network in the node: ONNX Runtime on CPUs, TensorFlow on a GPU."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import structlog

from pacs_guard.detect.device import check_wanted, gpu_device, watched
from pacs_guard.detect.preprocess import network_input
from pacs_guard.detect.serving import compiled, set_up_accelerator
from pacs_guard.errors import BundleError, DetectorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle

NETWORK = "network.keras"
ONNX = "network.onnx"
TOLERANCE = 1e-3
"""How far an engine's log-odds may be from those that Keras gave when the bundle was made, absolute plus relative."""

_BATCH = 16
_LOG = structlog.get_logger(__name__)


class Engine(Protocol):
    """Runs a network."""

    def log_odds(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return log-odds, shape (n, classes), of pictures of shape (n, rows, columns) between 0 and 1."""
        ...


class OnnxEngine:
    """ONNX Runtime on the CPU: each core has a picture of its own, so that none waits for another within a layer.

    Parameters
    ----------
    content : bytes
        The ONNX model.
    prepare : callable
        The network's preprocessing.
    threads : int
        Pictures at a time; memory grows with it and not with the number of pictures.

    Raises
    ------
    DetectorError
        If ONNX Runtime is missing or does not read the model.
    """

    def __init__(
        self, content: bytes, prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]], threads: int
    ) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  # only workers with a network need it
        except ImportError as error:
            raise DetectorError(f"ONNX Runtime cannot be loaded: {error}; reinstall pacs-guard") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # its errors have nothing but Exception in common
            raise DetectorError(f"{ONNX} is no network that ONNX Runtime reads: {error}") from error
        self._prepare = prepare
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="network")

    def log_odds(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Engine`; raises `DetectorError` if ONNX Runtime fails."""
        return np.concatenate(list(self._threads.map(self._one, pictures)))

    def _one(self, picture: NDArray[np.float32]) -> NDArray[np.float64]:
        given = {self._session.get_inputs()[0].name: self._prepare(picture[None])}
        try:
            return np.asarray(self._session.run(None, given)[0], float)
        except Exception as error:
            raise DetectorError(f"ONNX Runtime failed on a picture of shape {picture.shape}: {error}") from error


class KerasEngine:
    """The Keras network compiled into one graph, a batch at a time, on the GPU if there is one.

    Parameters
    ----------
    model : keras.Model
    prepare : callable
        The network's preprocessing.
    """

    def __init__(self, model: Any, prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self._run = compiled(model)
        self._prepare = prepare

    def log_odds(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """See `Engine`."""
        batches = (pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH))
        with watched():
            return np.concatenate([np.asarray(self._run(self._prepare(batch)), float) for batch in batches])


class Network:
    """A convolution base with its head.

    Parameters
    ----------
    bundle : Bundle
        With ``network.keras``, and for hosts without a GPU ``network.onnx``.

    Attributes
    ----------
    name : str
        Of the network, for its own preprocessing.
    layer : str
        Last convolution layer, for Grad-CAM.

    Raises
    ------
    BundleError
        If the bundle is incomplete, or its engine does not answer as Keras did when the bundle was made.
    DetectorError
        If the engine is missing.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.name = str(bundle.section("preprocessing", "network"))
        self.layer = str(bundle.section("preprocessing", "layer"))
        self._bundle = bundle
        self._engine = self._choose()
        self._check(self._engine)

    def scores(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return log probabilities, shape (n, classes); see `pacs_guard.detect.slicemodels.SliceModel`."""
        log_odds = self._engine.log_odds(pictures)
        log_odds = log_odds - log_odds.max(axis=1, keepdims=True)
        return np.asarray(log_odds - np.log(np.exp(log_odds).sum(axis=1, keepdims=True)))

    @cached_property
    def model(self) -> Any:
        """The `keras.Model`; read when it is first wanted, as TensorFlow takes seconds and half a gigabyte."""
        set_up_accelerator()
        import keras  # noqa: PLC0415  # takes seconds, and finds the accelerator as it was set up

        # what was verified is what is loaded, so the bytes go through a file of our own
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / NETWORK
            path.write_bytes(self._bundle.read(NETWORK))
            try:
                return keras.saving.load_model(path, compile=False, safe_mode=True)
            except (ValueError, TypeError, OSError, KeyError) as error:
                where = self._bundle.path / NETWORK
                raise BundleError(f"{where} is no network that Keras reads: {error}") from error

    def _choose(self) -> Engine:
        prepare = partial(network_input, self.name)
        gpu = gpu_device() and set_up_accelerator().gpus
        check_wanted(has_gpu=bool(gpu))
        if ONNX in self._bundle.section("files") and not gpu:
            threads = cores()
            _LOG.info("a network is loaded", network=self.name, device=f"ONNX Runtime on {threads} CPU cores")
            return OnnxEngine(self._bundle.read(ONNX), prepare, threads)
        _LOG.info("a network is loaded", network=self.name, device=str(set_up_accelerator()))
        return KerasEngine(self.model, prepare)

    def _check(self, engine: Engine) -> None:
        expected = np.asarray(self._bundle.section("preprocessing", "check"), float)
        rows, columns = self._bundle.section("preprocessing", "shape")
        found = engine.log_odds(check_pictures((int(rows), int(columns))))
        if (
            found.shape != expected.shape
            or not (abs(found - expected) <= TOLERANCE * np.maximum(1, abs(expected))).all()
        ):
            raise BundleError(
                f"{self._bundle.path}: {type(engine).__name__} gives {found.round(4).tolist()} for the fixed pictures; "
                f"Keras gave {expected.round(4).tolist()} when the bundle was made"
            )


def check_pictures(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return two fixed pictures of `shape` (rows, columns) between 0 and 1, of a coarse and a fine pattern."""
    rows, columns = np.indices(shape)
    patterns = [(rows * step + columns * (step + 2)) % 97 / 96 for step in (1, 31)]
    return np.asarray(patterns, np.float32)


def cores() -> int:
    """Return how many threads numeric work may have: what the configuration set, or the cores of this process."""
    return int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0))
