"""A slice's noise made white by the noise power spectrum of its own lung."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from pacs_guard.detect.lungs import lung_mask
from pacs_guard.detect.texture import tissues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume

_TILE = 32
_STEP = 12
_LEAST_SHARE = 0.75
_LEAST_TILES = 6
_MARGIN = 26
_SIGMA = 3.0
_EDGE = 4.0
_QUANTUM = 1.0 / 12.0
_FLOOR = 1e-3
_LIMIT = 6.0


@dataclass(frozen=True, slots=True)
class WhiteSlice:
    """A slice around its lungs.

    Attributes
    ----------
    origin : tuple of int
        Row and column of its first pixel on the slice.
    residual : ndarray of float16, shape (rows, columns, 3)
        White noise of the slice below, this one, and the one above; 0 where there is none.
    tissues : ndarray of bool, shape (rows, columns, 2)
        Lung tissue without vessels, and soft tissue.
    """

    origin: tuple[int, int]
    residual: NDArray[np.float16]
    tissues: NDArray[np.bool_]

    def padded(self, margin: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return residual and tissues with a border of nothing."""
        border = ((margin, margin), (margin, margin), (0, 0))
        return np.pad(self.residual.astype(np.float32), border), np.pad(self.tissues.astype(np.float32), border)

    def patch(self, row: int, column: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return residual and tissues of a square around a pixel of the slice, nothing where it reaches outside."""
        parts = []
        top, left = row - self.origin[0] - size // 2, column - self.origin[1] - size // 2
        rows, columns = self.tissues.shape[:2]
        inside = (slice(max(0, top), min(rows, top + size)), slice(max(0, left), min(columns, left + size)))
        for whole in (self.residual, self.tissues):
            part = np.zeros((size, size, whole.shape[2]), np.float32)
            part[inside[0].start - top : inside[0].stop - top, inside[1].start - left : inside[1].stop - left] = whole[
                inside
            ]
            parts.append(part)
        return parts[0], parts[1]


def white_slice(volume: Volume, index: int) -> WhiteSlice | None:
    """Return a slice's noise, made white, with that of its neighbours; None if it shows no lung tissue."""
    lungs = lung_mask(volume.hu[index], volume.spacing_mm[1:])
    if not lungs.any():
        return None
    sides = [np.flatnonzero(lungs.any(axis=axis)) for axis in (1, 0)]
    box = tuple(slice(max(0, int(at[0]) - _MARGIN), int(at[-1]) + 1 + _MARGIN) for at in sides)
    image = _clipped(volume.hu[index][box])
    lung, soft = tissues(image, lungs[box])
    spectrum = noise_spectrum(_residual(image, lung), lung)
    if spectrum is None:
        return None
    residual = np.zeros((*image.shape, 3), np.float16)
    for channel, at in enumerate((index - 1, index, index + 1)):
        if 0 <= at < len(volume.hu):
            residual[..., channel] = whitened(_clipped(volume.hu[at][box]), lung, spectrum)
    return WhiteSlice((box[0].start, box[1].start), residual, np.stack([lung, soft], axis=-1) > 0)


def noise_spectrum(residual: NDArray[np.float32], lung: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return the usual power of a residual in tiles of lung tissue, shape (32, 17); None if there are too few.

    The median over the tiles: altered ones are few.
    """
    hann = np.hanning(_TILE + 2)[1:-1]
    window = np.outer(hann, hann)
    places = [
        (row, column)
        for row in range(0, residual.shape[0] - _TILE, _STEP)
        for column in range(0, residual.shape[1] - _TILE, _STEP)
        if lung[row : row + _TILE, column : column + _TILE].mean() > _LEAST_SHARE
    ]
    if len(places) < _LEAST_TILES:
        return None
    tiles = np.stack([residual[row : row + _TILE, column : column + _TILE] * window for row, column in places])
    power = np.median(np.abs(fft.rfft2(tiles)) ** 2, axis=0) / (window**2).sum()
    smooth: NDArray[np.float64] = ndimage.uniform_filter(power, 3, mode=("wrap", "nearest"))
    return smooth


def whitened(
    image: NDArray[np.float32], lung: NDArray[np.float32], spectrum: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Divide an image's residual by the root of a noise power spectrum; lung tissue then has unit noise."""
    residual = _residual(image, lung)
    # rounding to whole numbers is noise too, and the floor under what a smooth kernel leaves of the finest pattern
    gain = 1.0 / np.sqrt(spectrum + _QUANTUM + _FLOOR * spectrum.max())
    kernel = np.roll(fft.irfft2(gain, (_TILE, _TILE)), (_TILE // 2, _TILE // 2), axis=(0, 1))
    shape = [fft.next_fast_len(side + _TILE) for side in residual.shape]
    spread = fft.irfft2(fft.rfft2(residual, shape) * fft.rfft2(kernel, shape), shape)
    half = _TILE // 2
    white = spread[half : half + residual.shape[0], half : half + residual.shape[1]]
    inside = lung > 0
    deviation = 1.4826 * np.median(np.abs(white[inside])) if inside.any() else 1.0
    return np.asarray(np.clip(white / (deviation + 1e-6), -_LIMIT, _LIMIT), np.float32)


def _clipped(hu: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.clip(hu, -1100, 1000).astype(np.float32)


def _residual(image: NDArray[np.float32], lung: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is finer than some pixels; edges count no more than strong noise does."""
    fine = image - ndimage.gaussian_filter(image, _SIGMA)
    inside = lung > 0
    limit = _EDGE * 1.4826 * float(np.median(np.abs(fine[inside]))) + 1.0 if inside.any() else np.inf
    return np.asarray(np.clip(fine, -limit, limit), np.float32)
