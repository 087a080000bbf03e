"""Which kind of series one is, by what was measured: how its noise is grained, and how far its slices are apart.

Scores of clean series depend on the reconstruction kernel and on the slice distance more than on who made the scanner.
Neither needs a header: a kernel shows in how much neighbouring pixels' noise goes together, and a header that was
changed cannot choose the table with which a series is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.observe import noise_in

if TYPE_CHECKING:
    from pacs_guard.domain.volume import Volume

SHARP_BELOW = 0.45
"""Correlation of neighbouring pixels' noise: kernels for lung and bone have 0.4 or less, those for soft tissue 0.55 and
more."""

THIN_BELOW_MM = 2.0

STRATA = tuple(f"{grain}, {distance}" for grain in ("sharp", "smooth") for distance in ("thin", "thick"))


def stratum_of(volume: Volume) -> str | None:
    """Return which of `STRATA` a series is of; None if there is too little soft tissue to measure noise in."""
    grains = [grain for _, grain in noise_in(volume)]
    if not grains:
        return None
    grain = "sharp" if float(np.median(grains)) < SHARP_BELOW else "smooth"
    return f"{grain}, {'thin' if volume.spacing_mm[0] < THIN_BELOW_MM else 'thick'}"
