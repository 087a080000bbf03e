"""Every attack there is: its name, what it does, and what a detector should say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.attack.ctgan import ctgan, ctgan_june
from training.attack.inpainting import denoised, inpainted
from training.attack.local import mask_only, native_grid, noise_matched
from training.attack.moving import copy_move, splice
from training.attack.sham import sham_pasted, sham_resampled, sham_touched

if TYPE_CHECKING:
    import numpy as np

    from training.attack.target import Patch, Target

SHAM = "SHAM"
"""Label of an edit that is neither FB nor FM."""

_FB, _FM = FindingKind.FB, FindingKind.FM
_BOTH = (_FB, _FM)


class Run(Protocol):
    """Alters a place."""

    def __call__(self, target: Target, rng: np.random.Generator) -> Patch:
        """Return what changes."""
        ...


@dataclass(frozen=True, slots=True)
class Attack:
    """A way of altering a series.

    Attributes
    ----------
    name : str
        As the command line and reports call it.
    kinds : tuple of FindingKind
        What it can do; none for a sham.
    says : str
        What it does, a sentence.
    run : Run
    diameters_mm : tuple of float
        Smallest and largest that are drawn.
    """

    name: str
    kinds: tuple[FindingKind, ...]
    says: str
    run: Run
    diameters_mm: tuple[float, float] = (6.0, 30.0)

    @property
    def sham(self) -> bool:
        """Whether nothing is generated."""
        return not self.kinds


_CUBE = (6.0, 18.0)

ATTACKS = {
    attack.name: attack
    for attack in (
        Attack(
            "ctgan",
            _BOTH,
            "CT-GAN, August 2019: cuboid to 1 mm, filled, back, pasted whole, touched up with copied noise.",
            partial(ctgan, noise="copied"),
            _CUBE,
        ),
        Attack(
            "ctgan-gaussian",
            _BOTH,
            "CT-GAN, August 2019, with Gaussian noise, its strength and grain taken from the lung around.",
            partial(ctgan, noise="gaussian"),
            _CUBE,
        ),
        Attack(
            "ctgan-june",
            _BOTH,
            "CT-GAN, June 2019: the whole series to 1 mm and back, touched up with copied noise.",
            partial(ctgan_june, noise="copied"),
            _CUBE,
        ),
        Attack(
            "native",
            _BOTH,
            "Filled and pasted on the series' own grid, touched up, never resampled.",
            native_grid,
            _CUBE,
        ),
        Attack(
            "mask-only",
            _BOTH,
            "CT-GAN's filling pasted through a soft ball, without its cube or touch-up.",
            mask_only,
            _CUBE,
        ),
        Attack(
            "noise-matched",
            _BOTH,
            "CT-GAN's filling pasted through a soft ball, with noise as the lung around has it.",
            noise_matched,
            _CUBE,
        ),
        Attack("copy-move", _BOTH, "Lung, or something dense, copied from elsewhere in the same series.", copy_move),
        Attack("splice", (_FM,), "A nodule of another series, noise and all, pasted through a soft mask.", splice),
        Attack(
            "inpaint",
            _BOTH,
            "Harmonic filling without noise; for an injection a drawn nodule's gradients are cloned.",
            inpainted,
        ),
        Attack(
            "denoise",
            _BOTH,
            "A filled place noised and denoised in one step, by a Wiener filter in place of a diffusion model.",
            denoised,
        ),
        Attack("sham-resample", (), "Sham: cuboid to 1 mm and back, pasted.", sham_resampled),
        Attack(
            "sham-touchup", (), "Sham: cuboid to 1 mm and back, pasted, touched up with Gaussian noise.", sham_touched
        ),
        Attack("sham-ball", (), "Sham: cuboid to 1 mm and back, pasted through a soft ball.", sham_pasted),
    )
}
"""By name."""


def find_attack(name: str) -> Attack:
    """Return the attack of this name.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    if name not in ATTACKS:
        raise ConfigurationError([f"attack is {name!r}; expected one of {', '.join(ATTACKS)}"])
    return ATTACKS[name]
