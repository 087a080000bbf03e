"""Boxes within boxes, and soft masks in millimetres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Box, Site


def hull(one: Box, other: Box) -> Box:
    """Return the smallest box that holds both."""
    z, y, x = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return z, y, x


def within(inner: Box, outer: Box) -> Box:
    """Return where a box lies in another one that holds it."""
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
    return z, y, x


def box_of_mm(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], site: Site, edge_mm: float) -> Box:
    """Return a box with about an edge in mm and the site in its middle; smaller where it would leave the volume."""
    z, y, x = (
        slice(at - reach, at + reach + 1)
        for at, n, spacing in zip(site, shape, spacing_mm, strict=True)
        for reach in [min(int(np.ceil(edge_mm / 2 / spacing)), at, n - 1 - at)]
    )
    return z, y, x


def distance_mm(
    box: tuple[slice, ...], spacing_mm: tuple[float, float, float], site: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return how far each voxel of a box is from a site, mm."""
    squares = [
        ((np.arange(part.start, part.stop, dtype=np.float32) - at) * spacing) ** 2
        for part, at, spacing in zip(box, site, spacing_mm, strict=True)
    ]
    return np.asarray(np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2]), np.float32)


def ball(
    box: tuple[slice, ...],
    spacing_mm: tuple[float, float, float],
    site: tuple[int, ...],
    radius_mm: float,
    soft_mm: float = 1.0,
) -> NDArray[np.float32]:
    """Return a ball around a site, 1 inside and 0 outside, going over within a few `soft_mm`."""
    beyond = (distance_mm(box, spacing_mm, site) - radius_mm) / (soft_mm / 4)
    weight = special.expit(-np.clip(beyond, -30, 30))
    # what is all but inside is inside: there, integers that are pasted stay what they were
    return np.asarray(np.where(weight > 0.98, 1.0, weight), np.float32)
