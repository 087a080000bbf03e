"""CT noise and blur in the frequency domain: one kernel gives both, as in a scanner.

Filtered back-projection multiplies by a ramp and rolls off with the reconstruction kernel, so the image blurs with the
kernel's MTF and its noise power is proportional to f * MTF(f)^2: little noise at low frequencies, a peak, a fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Kernel:
    """A reconstruction kernel, MTF(f) = (1 + boost (f / cutoff)^2) exp(-(f / cutoff)^order).

    Attributes
    ----------
    cutoff_per_mm : float
        Spatial frequency of the roll-off, 1/mm.
    order : float
        Steepness of the roll-off.
    boost : float
        Edge enhancement; 0 for none.
    """

    cutoff_per_mm: float
    order: float = 4.0
    boost: float = 0.0

    def mtf(self, frequency: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the modulation transfer at frequencies in 1/mm."""
        ratio = frequency / self.cutoff_per_mm
        result: NDArray[np.float32] = ((1 + self.boost * ratio**2) * np.exp(-(ratio**self.order))).astype(np.float32)
        return result


KERNELS = {
    "soft": Kernel(0.50),
    "standard": Kernel(0.63),
    "sharp": Kernel(0.85, boost=1.2),
}


class NoiseModel:
    """Blur slices and make their noise.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    spacing_mm : tuple of float
        Between rows, between columns, mm.
    kernel : Kernel
        Reconstruction kernel.
    """

    def __init__(self, shape: tuple[int, int], spacing_mm: tuple[float, float], kernel: Kernel) -> None:
        fy = fft.fftfreq(shape[0], spacing_mm[0])[:, np.newaxis].astype(np.float32)
        fx = fft.rfftfreq(shape[1], spacing_mm[1])[np.newaxis].astype(np.float32)
        self._shape = shape
        self._frequency = np.hypot(fy, fx)
        self._mtf = kernel.mtf(self._frequency)
        self._ramp = np.sqrt(self._frequency) * self._mtf
        # rays that cross the shoulders from side to side starve: their noise varies up and down, in streaks
        self._vertical = (fy / np.maximum(self._frequency, 1e-6)) ** 2

    def blur(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image as the kernel renders it, shape (rows, columns)."""
        return self._filtered(image, self._mtf)

    def noise(self, rng: np.random.Generator, streaks: float = 0.0) -> NDArray[np.float32]:
        """Return noise of unit variance, shape (rows, columns).

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        streaks : float
            How much stronger noise along the vertical is; 0 for none.
        """
        image = self._filtered(self._white(rng), self._ramp * (1 + streaks * self._vertical))
        image /= image.std()
        return image

    def texture(self, rng: np.random.Generator, coarsest_mm: float, slope: float = 2.0) -> NDArray[np.float32]:
        """Return a texture of unit variance without structure beyond a size, shape (rows, columns).

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        coarsest_mm : float
            Size from which on its power no longer grows, mm.
        slope : float
            Its amplitude falls with f^-slope.
        """
        amplitude = (1 + (self._frequency * coarsest_mm) ** 2) ** (-slope / 2)
        image = self._filtered(self._white(rng), amplitude)
        image /= image.std()
        return image

    def _white(self, rng: np.random.Generator) -> NDArray[np.float32]:
        return rng.standard_normal(self._shape, dtype=np.float32)

    def _filtered(self, image: NDArray[np.float32], transfer: NDArray[np.float32]) -> NDArray[np.float32]:
        spectrum = fft.rfft2(image)
        spectrum *= transfer
        result: NDArray[np.float32] = fft.irfft2(spectrum, s=self._shape)
        return result
