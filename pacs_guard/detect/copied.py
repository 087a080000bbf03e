"""Noise that occurs twice in a series: a touch-up that covered an altered place with noise from elsewhere.

The public code of CT-GAN takes the noise that it covers a place with from one fixed part of the scan (Mirsky et al.,
USENIX Security 2019). A scanner never repeats its noise, so a correlation that stands far out of all others tells. Each
slice is compared, through one Fourier transform, with what lies at that part, three neighbouring slices at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from pacs_guard.detect.separable import box, filtered_both, gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = (0.50, 0.43, 0.27)
"""Where the attack takes its noise, as shares of the slices, rows and columns."""

LEAST_STRENGTH, LEAST_CORRELATION = 10.0, 0.55
"""From here on, in both, it is a copy. Clean series reach 12 in the one at 0.4 in the other, or less in both."""

_REACH_MM = 4.5
_LEAST_SLICES = 8
_GRAIN_PX = 1.2
_LOCAL_PX = 13
_LIMIT = 2.5
_ITSELF_MM = 25.0
_LEAST_POWER = 0.1
_AROUND = (-1, 0, 1)
_BODY_ABOVE_HU = -500
_EVERY = 8


@dataclass(frozen=True, slots=True)
class Copy:
    """The place of a series that repeats the source's noise most.

    Attributes
    ----------
    strength : float
        How many times its usual size on that slice the correlation is; chance reaches 5 or 6 in a whole series.
    correlation : float
        Of the noise over three slices; 1 for the same noise.
    index, row, column : int
        Voxel in the middle of the match.
    source : tuple of int
        Voxel (slice, row, column) in the middle of what it matches.
    """

    strength: float
    correlation: float
    index: int
    row: int
    column: int
    source: tuple[int, int, int]

    @property
    def repeats(self) -> bool:
        """Whether this is more than chance does."""
        return self.strength >= LEAST_STRENGTH and self.correlation >= LEAST_CORRELATION


@dataclass(frozen=True, slots=True)
class _Source:
    """What lies at the source.

    Attributes
    ----------
    row, column : int
        Middle, in the cropped slice.
    spectra : tuple of ndarray
        Conjugated, of the slices of `_AROUND`.
    energy, size : float
        Summed over the window: the squared grain, and the window itself.
    sigma : tuple of float
        The window's, in pixels along (rows, columns).
    """

    row: int
    column: int
    spectra: tuple[NDArray[np.complex64], ...]
    energy: float
    size: float
    sigma: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A slice's grain: its spectrum, and its power around each pixel."""

    spectrum: NDArray[np.complex64]
    power: NDArray[np.float32]


def find_copy(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> Copy | None:
    """Return the place whose noise repeats the source's most; None in a series of fewer than eight slices.

    Memory holds the spectra of six slices, whatever the length of the series.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units.
    spacing_mm : tuple of float
        Along (slices, rows, columns), mm.
    """
    if len(hu) < _LEAST_SLICES:
        return None
    z, y, x = (int(share * length) for share, length in zip(SOURCE, hu.shape, strict=True))
    rows, columns = _body(hu, y, x)
    body = hu[:, rows, columns]
    near = _distance_mm(body.shape[1:], y - rows.start, x - columns.start, spacing_mm[1:])
    source = _source(body, (z, y - rows.start, x - columns.start), near, spacing_mm)
    best: Copy | None = None
    seen: dict[int, _Seen] = {}
    for index in range(1, len(hu) - 1):
        for other in (index + step for step in _AROUND if index + step not in seen):
            seen[other] = _seen(body[other], source)
        match = np.where(near > _ITSELF_MM, _match([seen[index + step] for step in _AROUND], source), 0.0)
        row, column = (int(i) for i in np.unravel_index(int(match.argmax()), match.shape))
        strength = float(match[row, column] / max(float(np.sqrt((match * match).mean())), 1e-6))
        if best is None or strength * match[row, column] > best.strength * best.correlation:
            place = (index, row + rows.start, column + columns.start)
            best = Copy(strength, float(match[row, column]), *place, (z, y, x))
        seen.pop(index - 1)
    return best


def _body(hu: NDArray[np.int16], row: int, column: int) -> tuple[slice, slice]:
    """Return the rows and columns that hold the body and the source."""
    body: NDArray[np.bool_] = np.asarray((hu[::_EVERY] > _BODY_ABOVE_HU).any(axis=0))
    body[row, column] = True
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _source(
    body: NDArray[np.int16],
    place: tuple[int, int, int],
    near: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
) -> _Source:
    index, row, column = place
    window = np.exp(-0.5 * (near / np.float32(_REACH_MM)) ** 2)
    grains = [_grain(body[index + step]) for step in _AROUND]
    return _Source(
        row,
        column,
        spectra=tuple(np.conj(fft.rfft2(grain * window)) for grain in grains),
        energy=sum(float((grain * grain * window).sum()) for grain in grains),
        size=float(window.sum()),
        sigma=(_REACH_MM / spacing_mm[1], _REACH_MM / spacing_mm[2]),
    )


def _seen(hu: NDArray[np.int16], source: _Source) -> _Seen:
    grain = _grain(hu)
    around = [gaussian(length, sigma, truncate=2.0) for length, sigma in zip(hu.shape, source.sigma, strict=True)]
    return _Seen(fft.rfft2(grain), filtered_both(grain * grain, *around))


def _match(around: list[_Seen], source: _Source) -> NDArray[np.float32]:
    """Return the correlation of the source's three slices with those of every place."""
    product = reduce(np.add, [one.spectrum * wanted for one, wanted in zip(around, source.spectra, strict=True)])
    power = reduce(np.add, [one.power for one in around])
    summed = np.roll(fft.irfft2(product, s=power.shape), (source.row, source.column), axis=(0, 1))
    expected = np.sqrt(source.energy * source.size * np.maximum(power, _LEAST_POWER * len(around)))
    return np.asarray(summed / np.maximum(expected, 1e-6), np.float32)


def _grain(hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the finest texture at a strength of one everywhere, so that edges count no more than noise."""
    rows, columns = hu.shape
    image = np.clip(hu, -1100, 1000).astype(np.float32)
    fine = image - filtered_both(image, gaussian(rows, _GRAIN_PX), gaussian(columns, _GRAIN_PX))
    power = filtered_both(fine * fine, box(rows, _LOCAL_PX), box(columns, _LOCAL_PX))
    np.sqrt(np.maximum(power, 0.0, out=power), out=power)
    power += np.float32(0.5)
    fine /= power
    return np.clip(fine, -_LIMIT, _LIMIT, out=fine)


def _distance_mm(shape: tuple[int, ...], row: int, column: int, spacing_mm: tuple[float, ...]) -> NDArray[np.float32]:
    down = (np.arange(shape[0], dtype=np.float32) - row) * np.float32(spacing_mm[0])
    across = (np.arange(shape[1], dtype=np.float32) - column) * np.float32(spacing_mm[1])
    return np.asarray(np.hypot(down[:, None], across[None]), np.float32)
