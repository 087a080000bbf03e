"""Altered copies of series, with labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.simulate.tamper import with_new_uids
from training.attack.places import draw_site
from training.attack.table import SHAM, find_attack
from training.attack.target import Target, UnsuitableSiteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pacs_guard.domain.volume import Volume
    from pacs_guard.simulate.cube import Site
    from training.attack.donors import Donor
    from training.attack.generator import Generator
    from training.attack.table import Attack
    from training.attack.target import Patch

LEAST_SLICES = 6
_MARGIN_MM = 10.0
_TRIES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Altered:
    """An altered copy of a series, of which only what changed is kept.

    Attributes
    ----------
    original : Volume
        Not written to.
    change : Patch
    site : tuple of int
        Voxel (slice, row, column) of the original: of the altered place's middle.
    attack : Attack
    kind : FindingKind or None
        None for a sham.
    diameter_mm : float
        As drawn; a trained generator and a donor have their own.
    """

    original: Volume
    change: Patch
    site: Site
    attack: Attack
    kind: FindingKind | None
    diameter_mm: float

    @property
    def label(self) -> str:
        """FB, FM or SHAM."""
        return SHAM if self.kind is None else str(self.kind)

    def whole(self) -> Volume:
        """Return the whole series, altered, with new UIDs."""
        hu = self.original.hu.copy()
        hu[self.change.box] = self.change.hu
        return with_new_uids(replace(self.original, hu=hu))

    def slab(self, margin_mm: float = _MARGIN_MM) -> tuple[Volume, Site]:
        """Return the slices around what changed, altered, with new UIDs, and the site in them.

        Where every slice changed, those of 32 mm around the site and the margin are taken.
        """
        first, last = self._reach(margin_mm)
        part = self.original.part(first, last)
        z, y, x = self.change.box
        low, high = max(z.start, first), min(z.stop, last)
        part.hu[low - first : high - first, y, x] = self.change.hu[low - z.start : high - z.start]
        return with_new_uids(part), (self.site[0] - first, self.site[1], self.site[2])

    def _reach(self, margin_mm: float) -> tuple[int, int]:
        count, spacing = len(self.original.hu), self.original.spacing_mm[0]
        margin = int(np.ceil(margin_mm / spacing))
        z = self.change.box[0]
        if z.stop - z.start == count:
            half = int(np.ceil(16.0 / spacing))
            return max(0, self.site[0] - half - margin), min(count, self.site[0] + half + margin + 1)
        return max(0, z.start - margin), min(count, z.stop + margin)


def alter(
    volume: Volume,
    attack: Attack,
    kind: FindingKind | None,
    site: Site,
    *,
    seed: int,
    diameter_mm: float = 12.0,
    generator: Generator | None = None,
    donor: Donor | None = None,
) -> Altered:
    """Alter one place of a series.

    Parameters
    ----------
    volume : Volume
        Left as it is.
    attack : Attack
    kind : FindingKind or None
        What to do; None for a sham.
    site : tuple of int
        Voxel (slice, row, column).
    seed : int
        Of everything that is drawn.
    diameter_mm : float
        Of what is removed or injected.
    generator, donor
        See `Target`.

    Raises
    ------
    ValueError
        If the attack cannot do this; UnsuitableSiteError if it cannot at this site.
    """
    if (kind is None) != attack.sham or (kind is not None and kind not in attack.kinds):
        can = ", ".join(attack.kinds) or SHAM
        raise ValueError(f"{attack.name} cannot do {kind or SHAM}; it does {can}")
    target = Target(volume.hu, volume.spacing_mm, site, kind or FindingKind.FB, diameter_mm, generator, donor)
    change = attack.run(target, np.random.default_rng(seed))
    return Altered(volume, change, site, attack, kind, diameter_mm)


def simulate_series(
    volume: Volume,
    attack: str,
    kind: FindingKind | None,
    n: int,
    seed: int,
    *,
    nodules: tuple[Site, ...] = (),
    generator: Generator | None = None,
    donors: Sequence[Donor] = (),
) -> Iterator[Altered]:
    """Yield up to `n` altered copies of a series, each at a place and of a size of its own.

    Parameters
    ----------
    volume : Volume
        Untampered chest CT.
    attack : str
        One of `ATTACKS`.
    kind : FindingKind or None
        FB or FM; None for a sham.
    n : int
        How many. Places at which the attack cannot be done are passed over, so fewer may come.
    seed : int
        The same one gives the same pixels.
    nodules : tuple of Site
        Real ones of this series: half of the removals are of these.
    generator : Generator, optional
        A trained one.
    donors : sequence of Donor
        Nodules of other patients, for splicing.

    Raises
    ------
    ValueError
        If the series is too short or shows no lung.
    """
    if len(volume.hu) < LEAST_SLICES:
        raise ValueError(f"the series has {len(volume.hu)} slices; expected at least {LEAST_SLICES}")
    chosen = find_attack(attack)
    rng = np.random.default_rng(seed)
    done = 0
    for _ in range(_TRIES * n):
        if done == n:
            return
        site = draw_site(volume.hu, volume.spacing_mm, kind or FindingKind.FB, rng, nodules=nodules)
        diameter = float(rng.uniform(*chosen.diameters_mm))
        donor = donors[int(rng.integers(len(donors)))] if donors else None
        try:
            yield alter(
                volume,
                chosen,
                kind,
                site,
                seed=int(rng.integers(1 << 31)),
                diameter_mm=diameter,
                generator=generator,
                donor=donor,
            )
        except UnsuitableSiteError:
            continue
        done += 1
