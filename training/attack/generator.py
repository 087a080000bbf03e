"""What fills the blanked middle of a cube: plain in-painting, or trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import ndimage

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.cube import BLANK, CUBE_MM, cube_box, resampled, smooth_lung, smooth_nodule
from training.attack.places import lung_weight
from training.attack.scale import Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Site

_LIMIT = 0.5
_OVERFLOW_HU = 2000
_AIR_HU = -1000
_NEIGHBOURS = 2


class Fill(Protocol):
    """Fills a blanked cube of shape (32, 32, 32), 1 mm, normalised."""

    def __call__(
        self, blanked: NDArray[np.float32], diameter_mm: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return the whole cube, as a generator renders it."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Generator:
    """A pair of fillings, for removal and for injection, each with the scale that it works on.

    Attributes
    ----------
    name : str
        For labels and reports: which one this is.
    scales : dict of FindingKind to Scale
    fills : dict of FindingKind to Fill
    """

    name: str
    scales: dict[FindingKind, Scale]
    fills: dict[FindingKind, Fill]

    def rendered(
        self, cube: NDArray[np.float32], kind: FindingKind, diameter_mm: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return a cube of 1 mm in HU with its middle blanked and filled: CT-GAN's steps 3 to 5.

        Parameters
        ----------
        cube : ndarray of float32, shape (32, 32, 32)
            HU.
        kind : FindingKind
            FB fills with lung, FM with a nodule.
        diameter_mm : float
            Of the nodule. Trained generators choose it themselves, as CT-GAN's does.
        rng : numpy.random.Generator
            Of what the filling draws.
        """
        scale = self.scales[kind]
        blanked = scale.to_network(cube)
        blanked[BLANK] = 0
        filled = np.clip(self.fills[kind](blanked, diameter_mm, rng), -_LIMIT, _LIMIT)
        return np.maximum(repaired(scale.to_hu(filled)), _AIR_HU)


def repaired(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cube with voxels over 2000 HU replaced, one after the other, by the mean of the 5^3 around them."""
    fixed = np.pad(cube, _NEIGHBOURS, constant_values=_AIR_HU)
    for z, y, x in np.argwhere(cube > _OVERFLOW_HU):
        around = tuple(slice(at, at + 2 * _NEIGHBOURS + 1) for at in (z, y, x))
        fixed[z + _NEIGHBOURS, y + _NEIGHBOURS, x + _NEIGHBOURS] = fixed[around].mean()
    inner = (slice(_NEIGHBOURS, -_NEIGHBOURS),) * 3
    return fixed[inner]


def plain_generator(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], site: Site) -> Generator:
    """Return a generator that needs no training: lung filled in smoothly from the surroundings, or a drawn nodule.

    It leaves a trained one's traces (a smooth middle, soft surroundings) and no more than these. Its scale is that of
    the cube at hand, and it is told where the chest wall is, which a trained one sees by itself.
    """
    box = cube_box(hu.shape, spacing_mm, site)
    cube = resampled(hu[box], (CUBE_MM,) * 3)
    scale = Scale.fitted([cube])
    lung = np.clip(resampled(lung_weight(hu, spacing_mm, box), cube.shape), 0, 1)
    around = ndimage.gaussian_filter(cube, 0.5)

    def fill_lung(blanked: NDArray[np.float32], diameter_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
        del diameter_mm
        return scale.to_network(around + lung * (smooth_lung(scale.to_hu(blanked), rng) - around))

    def add_nodule(blanked: NDArray[np.float32], diameter_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
        made = smooth_nodule(scale.to_hu(blanked), diameter_mm, rng)
        return scale.to_network(np.maximum(made, around + lung * (made - around)))

    return Generator(
        "plain in-painting, untrained",
        dict.fromkeys((FindingKind.FB, FindingKind.FM), scale),
        {FindingKind.FB: fill_lung, FindingKind.FM: add_nodule},
    )
