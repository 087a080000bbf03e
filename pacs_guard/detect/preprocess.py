"""From a slice in Hounsfield units to the picture that a slice classifier looks at, in the node and in training."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

from pacs_guard.detect.lungs import lung_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCAL_SHAPE = (128, 128)
"""Rows and columns around a site (Solaiyappan and Wen 2022, section 3.1.2)."""

LUNG_SHAPE = (266, 340)
"""Rows and columns of a slice reduced to its lungs (the same, section 3.2)."""

_JPEG_QUALITY = 95
_LUNG_MARGIN_MM = 5.0

# of ImageNet's pixels, red, green, blue between 0 and 1, and blue, green, red up to 255: Keras' modes torch and caffe
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)


@dataclass(frozen=True, slots=True)
class Window:
    """The Hounsfield units that become 0 and 1; what lies outside is clipped, so that padding shows no source.

    Attributes
    ----------
    low, high : float
        HU.
    """

    low: float = -1000.0
    high: float = 400.0

    def apply(self, hu: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return `hu` of any shape as float32 between 0 and 1, at the full depth of 16-bit pixels."""
        scaled = (hu.astype(np.float32) - self.low) / (self.high - self.low)
        return np.asarray(np.clip(scaled, 0.0, 1.0), np.float32)


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a slice and the grid that is sampled in it.

    Attributes
    ----------
    x, y : float
        Column and row of the middle, where a whole number is the middle of a pixel.
    shape : tuple of int
        (rows, columns) of the picture.
    scale : float
        Slice pixels per picture pixel; never under 1, so that nothing is invented.
    """

    x: float
    y: float
    shape: tuple[int, int]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Transform:
    """How a copy differs from the original; the default is the original.

    Attributes
    ----------
    flip_x, flip_y : bool
        Mirrored left to right, top to bottom.
    dx, dy : int
        The picture's content moves by this many picture pixels to the right and down.
    degrees : float
        The content turns by this, clockwise as seen on a screen, about the middle.
    """

    flip_x: bool = False
    flip_y: bool = False
    dx: int = 0
    dy: int = 0
    degrees: float = 0.0


ORIGINAL = Transform()


def export_jpeg(picture: NDArray[np.float32], quality: int = _JPEG_QUALITY) -> NDArray[np.float32]:
    """Return a picture between 0 and 1 as it comes back from an 8-bit grey JPEG file, as the paper saved its slices."""
    stored = io.BytesIO()
    Image.fromarray(np.rint(picture * 255.0).astype(np.uint8)).save(stored, format="JPEG", quality=quality)
    stored.seek(0)
    with Image.open(stored) as image:
        return np.asarray(image, np.float32) / np.float32(255.0)


def whole_crop(shape: tuple[int, int], reduced: float = 1.0) -> Crop:
    """Return the crop that is the whole slice of `shape` (rows, columns), each side divided by `reduced`."""
    rows, columns = shape
    size = (max(1, int(rows / reduced)), max(1, int(columns / reduced)))
    return Crop((columns - 1) / 2, (rows - 1) / 2, size, reduced)


def site_crop(x: float, y: float, shape: tuple[int, int] = LOCAL_SHAPE) -> Crop:
    """Return the crop whose pixel (rows // 2, columns // 2) is column `x` and row `y` of the slice."""
    rows, columns = shape
    return Crop(x + (columns - 1) / 2 - columns // 2, y + (rows - 1) / 2 - rows // 2, shape)


def lung_crop(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float], shape: tuple[int, int] = LUNG_SHAPE
) -> Crop | None:
    """Return the crop around both lungs, or None if the slice shows none.

    A plain cut where the lungs fit into `shape`; where they do not, the smallest that holds them, made smaller.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
    spacing_mm : tuple of float
        Distance between neighbouring pixels along (rows, columns), mm.
    shape : tuple of int
        (rows, columns) of the picture.
    """
    mask = lung_mask(hu, spacing_mm)
    if not mask.any():
        return None
    sides = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    margins = [_LUNG_MARGIN_MM / spacing for spacing in spacing_mm]
    lengths = [found[-1] - found[0] + 1 + 2 * margin for found, margin in zip(sides, margins, strict=True)]
    scale = max(1.0, *(length / side for length, side in zip(lengths, shape, strict=True)))
    y, x = ((found[0] + found[-1]) / 2 for found in sides)
    if scale == 1.0:
        # on whole pixels a plain cut needs no interpolation, and the noise stays what it is
        return site_crop(round(x), round(y), shape)
    return Crop(float(x), float(y), shape, float(scale))


def sample(picture: NDArray[np.float32], crop: Crop, transform: Transform = ORIGINAL) -> NDArray[np.float32]:
    """Return what `crop` shows of `picture`, transformed.

    Whatever a shift or turn brings into view is taken from the slice around the crop, and beyond the slice's edge from
    its mirror image: there are no empty corners, and a site near the edge stays in the middle.

    Parameters
    ----------
    picture : ndarray of float32, shape (rows, columns)
    crop : Crop
    transform : Transform

    Returns
    -------
    ndarray of float32, shape `crop.shape`
    """
    if crop.scale > 1.0:
        # what the coarser grid cannot show is smoothed away, or it would come back as a pattern
        picture = ndimage.gaussian_filter(picture, 0.5 * np.sqrt(crop.scale**2 - 1.0), mode="mirror")
    rows, columns = crop.shape
    down = (np.arange(rows) - (rows - 1) / 2 - transform.dy)[:, None] * (-1 if transform.flip_y else 1)
    across = (np.arange(columns) - (columns - 1) / 2 - transform.dx)[None, :] * (-1 if transform.flip_x else 1)
    sine, cosine = _sine_cosine(transform.degrees)
    source_y = crop.y + crop.scale * (cosine * down - sine * across)
    source_x = crop.x + crop.scale * (sine * down + cosine * across)
    sampled: NDArray[np.float32] = ndimage.map_coordinates(
        picture, np.broadcast_arrays(source_y, source_x), order=1, mode="mirror", output=np.float32
    )
    return sampled


def block_mean(picture: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Return the means of blocks of `step` x `step` pixels; what is left over at the right and bottom is dropped."""
    rows, columns = (side // step * step for side in picture.shape)
    blocks = picture[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def network_input(name: str, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return pictures of shape (n, rows, columns) between 0 and 1 as a network's own `preprocess_input` makes them.

    Written out, as Keras' own function would bring TensorFlow into every worker.

    Returns
    -------
    ndarray of float32, shape (n, rows, columns, 3)
    """
    grey = np.asarray(pictures, np.float32)[..., None]
    if name.startswith("densenet"):
        return (grey - _IMAGENET_MEAN) / _IMAGENET_DEVIATION
    return grey * np.float32(255.0) - _CAFFE_MEAN


def _sine_cosine(degrees: float) -> tuple[float, float]:
    """Return sine and cosine, exact at right angles."""
    quarter, rest = divmod(degrees, 90.0)
    if rest == 0.0:
        return ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))[int(quarter) % 4]
    angle = np.deg2rad(degrees)
    return float(np.sin(angle)), float(np.cos(angle))
