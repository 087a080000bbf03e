"""From Hounsfield units to what a generator works on, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_BINS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Histogram equalisation through a training set's cumulative distribution, then normalisation to about ±0.5.

    Attributes
    ----------
    hu : ndarray of float64, shape (knots,)
        Rising.
    share : ndarray of float64, shape (knots,)
        Share of the training voxels up to each knot, strictly rising: between knots both ways are linear, so that one
        undoes the other.
    mean, low, high : float
        Of the equalised training set.
    """

    hu: NDArray[np.float64]
    share: NDArray[np.float64]
    mean: float
    low: float
    high: float

    @classmethod
    def fitted(cls, cubes: Iterable[NDArray[np.number]]) -> Scale:
        """Fit to cubes in HU.

        Raises
        ------
        ValueError
            If they hold fewer than two different values.
        """
        values = np.concatenate([np.ravel(cube) for cube in cubes])
        counts, edges = np.histogram(values, bins=_BINS)
        share = np.concatenate([[0.0], np.cumsum(counts) / values.size])
        # an empty bin has no share of its own: its knot is left out, and so the way back is unique
        rises = np.concatenate([[True], np.diff(share) > 0])
        hu, share = edges[rises], share[rises]
        if np.ptp(values) == 0:
            raise ValueError(f"all {values.size} voxels are {values.flat[0]:g} HU; expected different ones")
        equalised = np.interp(values, hu, share)
        return cls(hu, share, float(equalised.mean()), float(equalised.min()), float(equalised.max()))

    def to_network(self, cube: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float32]:
        """Equalise and normalise; what lies beyond the training set's range is cut off."""
        equalised = np.interp(cube, self.hu, self.share)
        return np.asarray((equalised - self.mean) / (self.high - self.low), np.float32)

    def to_hu(self, cube: NDArray[np.number]) -> NDArray[np.float32]:
        """Undo `to_network`."""
        equalised = np.asarray(cube, np.float64) * (self.high - self.low) + self.mean
        return np.asarray(np.interp(equalised, self.share, self.hu), np.float32)
