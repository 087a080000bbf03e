"""Traces over a whole series: grey values taken to few levels and back, or pixels interpolated on another grid.

Re-formatting for a harmless purpose leaves them as well as an attack that resamples the whole scan, as the first public
code of CT-GAN did. They say that these are not the scanner's own pixels, and nothing of tumours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_LEVELS = 0.5
"""Share of the whole Hounsfield units of lung and soft tissue that a scanner's series uses; it uses nearly all."""

LEAST_PERIODICITY = 15.0
"""How many times its usual size one frequency of the texture's strength along an axis must have.

A hundred real slices and series reach 4.8, a smooth phantom 9; the same series taken to 1 mm and back reach 55 and
more, unless their kernel is so smooth that nothing was lost.
"""

_LEVEL_RANGES_HU = ((-920, -780), (-60, 80))
_LEAST_PIXELS_A_LEVEL = 20
_SLICES = 24
_BODY_ABOVE_HU = -950
_SMOOTH_PX = 9
_LEAST_FREQUENCY = 0.1
_LEAST_LENGTH = 48


@dataclass(frozen=True, slots=True)
class WholeTrace:
    """A trace over the whole series.

    Attributes
    ----------
    name : str
        ``"levels"`` or ``"interpolated"``.
    measured, limit : float
        What was measured, and from where on it is a trace.
    sentence : str
        For a person.
    """

    name: str
    measured: float
    limit: float
    sentence: str


def whole_traces(hu: NDArray[np.int16]) -> list[WholeTrace]:
    """Return the traces that a series of shape (slices, rows, columns) shows; none if the pixels are as acquired."""
    some = hu[np.unique(np.linspace(0, len(hu) - 1, min(_SLICES, len(hu))).round().astype(int))]
    traces = []
    levels = level_share(some)
    if levels is not None and levels < LEAST_LEVELS:
        traces.append(
            WholeTrace(
                "levels",
                levels,
                LEAST_LEVELS,
                f"Of the Hounsfield units of lung and soft tissue only {100 * levels:.0f} % occur: the series went "
                "through an image of few grey levels, such as 8 bits. Exporting and importing again does that too.",
            )
        )
    strength, axis, period = max(_periodicity(some, axis) for axis in (1, 2))
    if strength >= LEAST_PERIODICITY:
        traces.append(
            WholeTrace(
                "interpolated",
                strength,
                LEAST_PERIODICITY,
                f"The texture's strength repeats every {period:.2f} {('slices', 'rows', 'columns')[axis]} all over the "
                "series: it was interpolated from another grid. Harmless re-formatting does that too.",
            )
        )
    return traces


def level_share(hu: NDArray[np.int16]) -> float | None:
    """Return the share of the whole numbers of lung and soft tissue that occur; None if there is too little of both."""
    shares = []
    for low, high in _LEVEL_RANGES_HU:
        counts = np.bincount(hu[(hu >= low) & (hu < high)].ravel() - low, minlength=high - low)
        if counts.sum() >= _LEAST_PIXELS_A_LEVEL * counts.size:
            shares.append(float((counts > 0).mean()))
    return max(shares) if shares else None


def _periodicity(hu: NDArray[np.int16], axis: int) -> tuple[float, int, float]:
    """Return the strongest frequency's size against the usual one, the axis and its period (Gallagher, CRV 2005)."""
    if hu.shape[axis] < _LEAST_LENGTH:
        return 0.0, axis, 0.0
    total, count = np.zeros((2, hu.shape[axis]))
    across = 3 - axis
    for one in hu:
        image = np.clip(one, -1100, 1000).astype(np.float32)
        body = image > _BODY_ABOVE_HU
        bend = np.log(np.abs(ndimage.correlate1d(image, [1.0, -2.0, 1.0], axis=axis - 1)) + np.float32(0.5))
        total += np.where(body, bend, 0).sum(axis=across - 1)
        count += body.sum(axis=across - 1)
    inside = np.flatnonzero(count > 0.1 * count.max())
    profile = (total / np.maximum(count, 1))[inside[0] : inside[-1] + 1]
    if profile.size < _LEAST_LENGTH:
        return 0.0, axis, 0.0
    profile = (profile - ndimage.median_filter(profile, _SMOOTH_PX)) * np.hanning(profile.size)
    sizes, frequencies = np.abs(np.fft.rfft(profile)), np.fft.rfftfreq(profile.size)
    looked = frequencies >= _LEAST_FREQUENCY
    best = int(np.argmax(np.where(looked, sizes, 0)))
    return float(sizes[best] / (np.median(sizes[looked]) + 1e-6)), axis, float(1 / frequencies[best])
