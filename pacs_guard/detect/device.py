"""The accelerator that networks run on: which one a site wants, and how its loss shows."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.errors import AcceleratorLostError, BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

AUTO, CPU, GPU = "auto", "cpu", "gpu"
_HIDDEN = "-1"
_LOSS = re.compile(
    r"CUDA_ERROR_|cudaError|CUDNN_STATUS_|CUBLAS_STATUS_|hipError|fallen off the bus"
    r"|(device|GPU) (is|was|has been) lost"
)
_wanted = AUTO


def want(accelerator: str) -> None:
    """Say what networks of this process run on; before the first is loaded.

    Parameters
    ----------
    accelerator : str
        ``auto``: a GPU if there is one; ``cpu``: never a GPU; ``gpu``: nothing else, so that a worker that lost its GPU
        does not go on many times slower without anybody noticing.
    """
    global _wanted  # noqa: PLW0603  # one process, one accelerator
    _wanted = accelerator
    if accelerator == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = _HIDDEN


def gpu_device() -> bool:
    """Return whether there is a GPU's device file that may be used, without the seconds TensorFlow takes to look."""
    if _wanted == CPU:
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def check_wanted(*, has_gpu: bool) -> None:
    """Refuse to load a network where it would not run on what is wanted.

    Raises
    ------
    BundleError
        If a GPU is wanted and there is none.
    """
    if _wanted == GPU and not has_gpu:
        raise BundleError('detect.accelerator is "gpu" and this process finds none; expected one, or "auto" or "cpu"')


@contextmanager
def watched() -> Iterator[None]:
    """Turn what a library says when its device is gone into one error.

    Raises
    ------
    AcceleratorLostError
        If the device is gone: nothing that this process tries will succeed again.
    """
    try:
        yield
    except Exception as error:
        if _LOSS.search(str(error)) is None:
            raise
        raise AcceleratorLostError(f"the accelerator is gone: {str(error)[:200]}") from error
