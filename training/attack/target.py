"""What an attack is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.attack.generator import plain_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from pacs_guard.simulate.cube import Box, Site
    from training.attack.donors import Donor
    from training.attack.generator import Generator

_LOWEST_HU, _HIGHEST_HU = -1024, 3071


class UnsuitableSiteError(ValueError):
    """An attack needs something that is not to be had around this site."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A place in a series, and what may be used there.

    Attributes
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        The whole series, never written to.
    spacing_mm : tuple of float
        (slices, rows, columns).
    site : tuple of int
        Voxel (slice, row, column).
    kind : FindingKind
        FB or FM.
    diameter_mm : float
        Of what is removed or injected.
    generator : Generator or None
        A trained one; without it the plain one stands in.
    donor : Donor or None
        A nodule of another series; without it one is drawn in this series, with the scanner's noise.
    """

    hu: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    site: Site
    kind: FindingKind
    diameter_mm: float = 12.0
    generator: Generator | None = None
    donor: Donor | None = None

    @property
    def fills(self) -> Generator:
        """The generator to be used."""
        return self.generator or plain_generator(self.hu, self.spacing_mm, self.site)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What an attack changes: a box of a series and its new voxels, int16, in HU."""

    box: Box
    hu: NDArray[np.int16]


def patch(box: Box, new: NDArray[np.floating]) -> Patch:
    """Return the change as it is written back: cut off to integers, within 12 bits."""
    return Patch(box, np.clip(np.trunc(new), _LOWEST_HU, _HIGHEST_HU).astype(np.int16))
