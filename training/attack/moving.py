"""Attacks that move real tissue: within a series, or from another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.domain.verdict import FindingKind
from training.attack.boxes import ball, box_of_mm
from training.attack.donors import donor_at, drawn_donor, nodule_mask
from training.attack.places import dense_places, lung_places, lung_weight
from training.attack.target import Patch, Target, UnsuitableSiteError, patch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Box, Site
    from training.attack.donors import Donor

_RIM_MM = 3.0
_WALL_HU = -500
_AWAY_MM = 45.0
_TRIES = 16
_SHELL_MM = 3.0


def copy_move(target: Target, rng: np.random.Generator) -> Patch:
    """Copy lung over the site, or something dense into it, from elsewhere in the same series, voxel by voxel.

    Raises
    ------
    UnsuitableSiteError
        If the series has nothing suitable far enough away.
    """
    hu, spacing = target.hu, target.spacing_mm
    radius = target.diameter_mm / 2 + _RIM_MM
    box = box_of_mm(hu.shape, spacing, target.site, 2 * (radius + _RIM_MM))
    source, diameter = _source(target, box, rng)
    old, copied = hu[box].astype(np.float32), hu[_moved(box, target.site, source)].astype(np.float32)
    if target.kind is FindingKind.FB:
        mask = ball(box, spacing, target.site, radius, soft_mm=2.0) * lung_weight(hu, spacing, box)
    else:
        mask = nodule_mask(copied, spacing, diameter)
    return patch(box, old + mask * (copied - old))


def splice(target: Target, rng: np.random.Generator) -> Patch:
    """Put a nodule of another series in, noise and all, resampled where the grids differ.

    Without a donor, a nodule is drawn elsewhere in the same series with the scanner's noise and spliced from there.
    """
    hu, spacing = target.hu, target.spacing_mm
    donor = target.donor or _drawn(target, rng)
    block = donor_at(donor, spacing)
    edges = [n // 2 for n in block.shape]
    reach = [min(e, at, n - 1 - at) for e, at, n in zip(edges, target.site, hu.shape, strict=True)]
    z, y, x = (slice(at - r, at + r + 1) for at, r in zip(target.site, reach, strict=True))
    inner = tuple(slice(e - r, e + r + 1) for e, r in zip(edges, reach, strict=True))
    mask = nodule_mask(block, spacing, donor.diameter_mm)[inner]
    old = hu[z, y, x].astype(np.float32)
    new = old + mask * (block[inner] - old)
    # the rim brings the donor's lung along, which must not darken a chest wall
    return patch((z, y, x), np.where(old > _WALL_HU, np.maximum(new, old), new))


def _drawn(target: Target, rng: np.random.Generator) -> Donor:
    place = _lung_far_away(target, rng)
    return drawn_donor(target.hu, target.spacing_mm, place, target.diameter_mm, rng)


def _source(target: Target, box: Box, rng: np.random.Generator) -> tuple[Site, float]:
    """Return where to copy from, the lung that fits the surroundings best or something dense, and its diameter."""
    if target.kind is FindingKind.FB:
        return _lung_far_away(target, rng, box), target.diameter_mm
    found = [
        (place, diameter)
        for place, diameter in dense_places(target.hu, target.spacing_mm, rng, _TRIES)
        if _far(target, place) and _fits(target, box, place) and diameter <= target.diameter_mm
    ]
    if not found:
        raise UnsuitableSiteError("the series has nothing dense in the lungs, far from the site, to be copied there")
    return found[int(rng.integers(len(found)))]


def _lung_far_away(target: Target, rng: np.random.Generator, box: Box | None = None) -> Site:
    places = lung_places(target.hu, target.spacing_mm, rng, _TRIES, depth_mm=target.diameter_mm / 2 + _RIM_MM)
    places = [one for one in places if _far(target, one) and (box is None or _fits(target, box, one))]
    if not places:
        raise UnsuitableSiteError("the series has no lung far enough from the site to be copied from")
    if box is None:
        return places[0]
    shell = _shell(target, box)
    wanted = float(np.median(target.hu[box][shell]))
    misfit = [abs(float(np.median(target.hu[_moved(box, target.site, one)])) - wanted) for one in places]
    return places[int(np.argmin(misfit))]


def _shell(target: Target, box: Box) -> NDArray[np.bool_]:
    """Return the outermost voxels of a box, which stay as they are."""
    inside = np.zeros(target.hu[box].shape, bool)
    rims = (max(1, round(_SHELL_MM / spacing)) for spacing in target.spacing_mm)
    inside[tuple(slice(rim, -rim) for rim in rims)] = True
    shell: NDArray[np.bool_] = ~inside
    return shell


def _far(target: Target, place: Site) -> bool:
    away = [(a - b) * s for a, b, s in zip(place, target.site, target.spacing_mm, strict=True)]
    return float(np.linalg.norm(away)) > _AWAY_MM


def _fits(target: Target, box: Box, place: Site) -> bool:
    moved = _moved(box, target.site, place)
    return all(part.start >= 0 and part.stop <= n for part, n in zip(moved, target.hu.shape, strict=True))


def _moved(box: Box, site: Site, place: Site) -> Box:
    z, y, x = (slice(p.start + b - a, p.stop + b - a) for p, a, b in zip(box, site, place, strict=True))
    return z, y, x
