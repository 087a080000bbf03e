"""All that is TensorFlow's own and not Keras': the accelerator, compiled networks, their input, their gradients."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.device import watched
from pacs_guard.errors import DetectorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What networks run on in this process.

    Attributes
    ----------
    gpus : tuple of str
        Names of the GPUs, empty where the CPU does the work.
    tensorflow : str
        Version.
    """

    gpus: tuple[str, ...]
    tensorflow: str

    def __str__(self) -> str:
        device = ", ".join(self.gpus) or "CPU"
        return f"TensorFlow {self.tensorflow} on {device}"


def set_up_accelerator() -> Accelerator:
    """Load TensorFlow; memory of a GPU is taken as it is needed, so that workers can share one.

    Raises
    ------
    DetectorError
        If TensorFlow cannot be loaded.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf  # noqa: PLC0415  # takes seconds, and only this process needs it
    except ImportError as error:
        raise DetectorError(f"TensorFlow cannot be loaded: {error}; reinstall pacs-guard") from error
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    return Accelerator(tuple(gpu.name for gpu in gpus), str(tf.__version__))


def compiled_outputs(
    model: Any, prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]], pictures: NDArray[Any], batch: int
) -> Iterator[NDArray[np.float32]]:
    """Give pictures to a network compiled into one graph, a batch at a time.

    The next batches are prepared while the network is busy, and no more than these are ever in memory.

    Parameters
    ----------
    model : keras.Model
        With one input of shape (n, rows, columns, channels) and one output of shape (n, outputs).
    prepare : callable
        Turns pictures of shape (n, rows, columns) into the network's input.
    pictures : ndarray, shape (n, rows, columns)
    batch : int
        Largest number of pictures at a time.

    Yields
    ------
    ndarray of float32, shape (batch, outputs)
        The last one may be shorter.
    """
    import tensorflow as tf  # noqa: PLC0415  # takes seconds

    given, run = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32), compiled(model)

    def batches() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(pictures), batch):
            yield prepare(np.asarray(pictures[start : start + batch], np.float32))

    for batched in tf.data.Dataset.from_generator(batches, output_signature=given).prefetch(_AHEAD):
        yield run(batched)


def compiled(model: Any) -> Callable[[Any], NDArray[np.float32]]:
    """Return a network as a function compiled once for any number of pictures, to be called again and again."""
    import tensorflow as tf  # noqa: PLC0415  # takes seconds

    given = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    run = tf.function(lambda batched: model(batched, training=False), input_signature=[given])
    return lambda batched: np.asarray(run(tf.convert_to_tensor(batched)), np.float32)


def activation_and_gradient(
    model: Any, pictures: NDArray[np.float32], answer: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a layer's output, and the gradient with respect to it of the sum of the scores of class `answer`.

    Parameters
    ----------
    model : keras.Model
        With two outputs: the layer's, and the scores, shape (n, classes).
    pictures : ndarray of float32, shape (n, rows, columns, channels)
    answer : int

    Returns
    -------
    activation, gradient : ndarray of float32, shape (n, rows, columns, channels) of the layer
    """
    import tensorflow as tf  # noqa: PLC0415  # takes seconds

    with watched(), tf.GradientTape() as tape:
        activation, output = model(tf.convert_to_tensor(pictures), training=False)
        score = tf.reduce_sum(output[:, answer])
    return np.asarray(activation, np.float32), np.asarray(tape.gradient(score, activation), np.float32)
