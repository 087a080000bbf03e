"""The noise of the lung around a place, measured and made anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from pacs_guard.simulate.cube import box_around
from training.attack.target import UnsuitableSiteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Site

_EDGE = 32
_STEP = 8
_REACH_MM = 110.0
_DEPTH_MM = 30.0
_LUNG_HU = (-1000, -700)
_HIGH_PASS_MM = 2.5
_PATCHES = 24


@dataclass(frozen=True, slots=True, eq=False)
class NoiseSpectrum:
    """Noise as a place's surroundings have it.

    Attributes
    ----------
    amplitude : ndarray of float32, shape (32, 17)
        Square root of the noise power spectrum at the frequencies of a real transform of 32 x 32 pixels, any scale.
    sigma_hu : float
        Standard deviation.
    along : float
        Correlation of neighbouring slices, -1 to 1.
    """

    amplitude: NDArray[np.float32]
    sigma_hu: float
    along: float

    def noise(self, shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return noise with this spectrum in-plane and this correlation across slices, HU."""
        fy, fx = fft.fftfreq(shape[1]) * _EDGE, fft.rfftfreq(shape[2]) * _EDGE
        rows = np.where(fy < 0, fy + _EDGE, fy)
        wrapped = np.concatenate([self.amplitude, self.amplitude[:1]])
        grid = np.stack(np.meshgrid(rows, fx, indexing="ij"))
        transfer = ndimage.map_coordinates(wrapped, grid, order=1, mode="nearest")
        fields = fft.irfft2(fft.rfft2(rng.standard_normal(shape)) * transfer, s=shape[1:])
        for index in range(1, shape[0]):
            fields[index] = self.along * fields[index - 1] + np.sqrt(1 - self.along**2) * fields[index]
        return np.asarray(self.sigma_hu * fields / max(float(fields.std()), 1e-9), np.float32)


def local_spectrum(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], site: Site, *, without_mm: float = 0.0
) -> NoiseSpectrum:
    """Measure the noise in patches of lung around a site, the smoothest of those that are to be had.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
    spacing_mm : tuple of float
    site : tuple of int
    without_mm : float
        Patches whose middle is nearer than this in-plane are not measured.

    Raises
    ------
    UnsuitableSiteError
        If there is no lung around.
    """
    patches = _lung_patches(hu, spacing_mm, site, without_mm)
    here = np.stack([patch[0] for patch in patches])
    window = np.outer(np.hanning(_EDGE), np.hanning(_EDGE))
    power = (np.abs(fft.rfft2(here * window)) ** 2).mean(axis=0)
    pairs = [float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for one, other in patches if other is not None]
    along = float(np.clip(np.median(pairs), -0.95, 0.95)) if pairs else 0.0
    spread = 1.4826 * float(np.median(np.abs(here)))
    return NoiseSpectrum(np.sqrt(power).astype(np.float32), spread, along)


_Patch = tuple["NDArray[np.float32]", "NDArray[np.float32] | None"]


def _lung_patches(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], site: Site, without_mm: float
) -> list[_Patch]:
    """Return high-pass residuals of the patches with most lung, each with the same patch of the next slice."""
    reach = (_DEPTH_MM, 2 * _REACH_MM, 2 * _REACH_MM)
    box = box_around(site, [round(edge / s) + 1 for edge, s in zip(reach, spacing_mm, strict=True)], hu.shape)
    block = hu[box].astype(np.float32)
    smooth = ndimage.gaussian_filter(block, [0, *(_HIGH_PASS_MM / spacing for spacing in spacing_mm[1:])])
    residual = block - smooth
    lung = (smooth > _LUNG_HU[0]) & (smooth < _LUNG_HU[1])
    share = ndimage.uniform_filter(lung.astype(np.float32), [0, _EDGE, _EDGE], mode="constant")
    half = _EDGE // 2
    found: list[tuple[float, int, int, int]] = []
    for row in range(half, block.shape[1] - half, _STEP):
        for column in range(half, block.shape[2] - half, _STEP):
            across = (box[1].start + row - site[1]) * spacing_mm[1], (box[2].start + column - site[2]) * spacing_mm[2]
            if np.hypot(*across) >= without_mm:
                found += [(float(share[i, row, column]), i, row, column) for i in range(len(block))]
    best = sorted(found, reverse=True)[:_PATCHES]
    if not best or best[0][0] < 0.5:
        raise UnsuitableSiteError(f"there is too little lung around {site} to measure its noise")
    return [_patch(residual, index, row, column) for _, index, row, column in best]


def _patch(residual: NDArray[np.float32], index: int, row: int, column: int) -> _Patch:
    half = _EDGE // 2
    part = (slice(row - half, row + half), slice(column - half, column + half))
    following = residual[index + 1][part] if index + 1 < len(residual) else None
    return residual[index][part], following
