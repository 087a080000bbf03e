"""TensorFlow and the accelerator, set up once by the worker process that holds them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pacs_guard.errors import DetectorError


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
