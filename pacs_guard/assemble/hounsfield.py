"""Stored pixel values to Hounsfield units, with padding told apart from measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.errors import AssemblyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

AIR_HU = -1000.0
"""Padding above this is not believed: declared over tissue, it would hide tissue from every detector."""
BELOW_ANY_TISSUE_HU = -1500.0
"""No substance measures as little; scanners fill the corners with -2000, -2048 or -3024."""
PADDED_HU = -1024


@dataclass(frozen=True, slots=True)
class Rescale:
    """How stored values of an instance become Hounsfield units (PS3.3 C.8.2.1, C.7.5.1.1.2).

    Attributes
    ----------
    slope, intercept : float
        RescaleSlope and RescaleIntercept.
    padding : tuple of float or None
        Lowest and highest stored value that PixelPaddingValue and PixelPaddingRangeLimit declare to be padding.
    """

    slope: float
    intercept: float
    padding: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept)) or self.slope == 0:
            raise AssemblyError(
                f"RescaleSlope is {self.slope} and RescaleIntercept {self.intercept}; expected finite numbers and no "
                "slope of zero"
            )


def to_hounsfield(stored: NDArray[np.number], rescale: Rescale) -> tuple[NDArray[np.int16], NDArray[np.bool_] | None]:
    """Convert stored values to Hounsfield units.

    Parameters
    ----------
    stored : ndarray, any shape
        Decoded pixel values.
    rescale : Rescale
        Slope, intercept and declared padding.

    Returns
    -------
    hu : ndarray of int16
        Rounded and clipped to int16; padding is -1024.
    padding : ndarray of bool, or None
        True at padding; None if there is none.

    Raises
    ------
    AssemblyError
        If a stored value is not finite.
    """
    if not np.issubdtype(stored.dtype, np.integer) and not np.isfinite(stored).all():
        raise AssemblyError("the pixels hold values that are not finite numbers")
    padding = _padding_mask(stored, rescale)
    # float32 holds every 16-bit stored value; wider ones need float64
    wide: NDArray[np.floating] = stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)
    if rescale.slope != 1:
        wide *= rescale.slope
    if rescale.intercept:
        wide += rescale.intercept
    padding |= wide <= BELOW_ANY_TISSUE_HU
    np.rint(wide, out=wide)
    np.clip(wide, -32768, 32767, out=wide)
    hu = wide.astype(np.int16)
    if not padding.any():
        return hu, None
    hu[padding] = PADDED_HU
    return hu, padding


def _padding_mask(stored: NDArray[np.number], rescale: Rescale) -> NDArray[np.bool_]:
    if rescale.padding is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    low, high = rescale.padding
    declared = (stored >= low) & (stored <= high)
    bound = (AIR_HU - rescale.intercept) / rescale.slope
    mask: NDArray[np.bool_] = declared & (stored <= bound if rescale.slope > 0 else stored >= bound)
    return mask
