"""Where a network looked: gradient-weighted class activation maps (Selvaraju et al. 2017, equations 1 and 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pacs_guard.detect.serving import activation_and_gradient
from pacs_guard.errors import DetectorError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def grad_cam(model: Any, layer: str, pictures: NDArray[np.float32], answer: int) -> NDArray[np.float32]:
    """Return the class activation maps of some pictures.

    The channels of a layer are weighted by the mean gradient of the class's score with respect to them, summed, and
    rectified; each map is divided by its own maximum.

    Parameters
    ----------
    model : keras.Model
        Functional; its output is a score for each class, shape (n, classes): log-odds rather than probabilities, whose
        gradient vanishes where the network is sure.
    layer : str
        Name of a convolution layer, usually the last.
    pictures : ndarray of float32, shape (n, rows, columns, channels)
        As the model wants them.
    answer : int
        Number of the class.

    Returns
    -------
    ndarray of float32, shape (n, rows, columns) of the layer
        Between 0 and 1; all 0 where nothing spoke for the class.

    Raises
    ------
    DetectorError
        If the model has no such layer or class.
    """
    import keras  # noqa: PLC0415  # takes seconds

    try:
        inner = keras.Model(model.inputs[0], [model.get_layer(layer).output, model.outputs[0]])
    except ValueError as error:
        raise DetectorError(f"the network has no layer {layer!r}: {error}") from error
    classes = model.outputs[0].shape[-1]
    if not 0 <= answer < classes:
        raise DetectorError(f"class {answer} was asked for; the network has {classes}")
    activation, gradient = activation_and_gradient(inner, pictures, answer)
    weight = gradient.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((weight * activation).sum(axis=-1), 0.0)
    top = maps.max(axis=(1, 2), keepdims=True)
    normalised: NDArray[np.float32] = np.divide(maps, top, out=np.zeros_like(maps), where=top > 0)
    return normalised


def overlay(picture: NDArray[np.float32], heat: NDArray[np.float32]) -> Image.Image:
    """Return a picture between 0 and 1 with a map over it, red where the map is 1, beside the bare picture."""
    rows, columns = picture.shape
    grey = np.repeat(np.asarray(picture, np.float32)[..., None] * 255, 3, axis=2)
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((columns, rows), Image.Resampling.BICUBIC))
    large = np.clip(large, 0.0, 1.0)[..., None]
    colours = np.concatenate([large, 1 - abs(2 * large - 1), 1 - large], axis=2) * 255
    both = np.concatenate([grey, 0.6 * grey + 0.4 * colours], axis=1)
    return Image.fromarray(np.clip(both, 0, 255).astype(np.uint8))
