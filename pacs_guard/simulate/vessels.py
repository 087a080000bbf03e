"""Branching tubes: the pulmonary arteries and veins of a lung, and its bronchi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAF_RADIUS_MM = 0.42
_SUBSLICES = (-1 / 3, 0.0, 1 / 3)


@dataclass(frozen=True, slots=True)
class Tubes:
    """Straight pieces of tubes.

    Attributes
    ----------
    start, end : ndarray of float, shape (pieces, 3)
        (z, y, x), mm.
    radius : ndarray of float, shape (pieces,)
        mm.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]

    def beside(self, rng: np.random.Generator, *, thinnest_mm: float, scale: float) -> Tubes:
        """Return tubes that accompany the thicker of these, as bronchi accompany arteries."""
        thick = self.radius >= thinnest_mm
        radius = self.radius[thick] * scale
        turn = rng.normal(size=3)
        shift = (self.radius[thick] + radius)[:, np.newaxis] * turn / np.linalg.norm(turn)
        return Tubes(self.start[thick] + shift, self.end[thick] + shift, radius)


def grow_tree(rng: np.random.Generator, root_mm: NDArray[np.float64], tips_mm: NDArray[np.float64]) -> Tubes:
    """Grow a tree from a root to every tip.

    Each tip joins the nearest point of the tree grown so far, nearest tips first; radii follow Murray's law (the
    cube of a parent's radius is the sum of its children's).

    Parameters
    ----------
    rng : numpy.random.Generator
        Bends the branches a little.
    root_mm : ndarray of float, shape (3,)
        (z, y, x), mm.
    tips_mm : ndarray of float, shape (tips, 3)
        (z, y, x), mm.
    """
    tips_mm = tips_mm[np.argsort(np.linalg.norm(tips_mm - root_mm, axis=1))]
    nodes = np.vstack([root_mm, tips_mm])
    reach = np.linalg.norm(nodes - root_mm, axis=1)
    parent = np.zeros(len(nodes), dtype=np.int64)
    for i in range(1, len(nodes)):
        # a detour through a node that lies further out costs, so that branches run outwards
        cost = np.linalg.norm(nodes[:i] - nodes[i], axis=1) + 0.25 * np.maximum(0, reach[:i] - 0.8 * reach[i])
        parent[i] = np.argmin(cost)
    cubes = np.full(len(nodes), _LEAF_RADIUS_MM**3)
    for i in range(len(nodes) - 1, 0, -1):
        cubes[parent[i]] += cubes[i]
    start, end, radius = nodes[parent[1:]], nodes[1:], np.cbrt(cubes[1:])
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    middle = (start + end) / 2 + rng.normal(size=start.shape) * 0.08 * length
    return Tubes(np.vstack([start, middle]), np.vstack([middle, end]), np.tile(radius, 2))


def draw(tubes: Tubes, coverage: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> None:
    """Add tubes to a map of coverage, in place.

    Parameters
    ----------
    tubes : Tubes
        In mm from the centre of voxel (0, 0, 0).
    coverage : ndarray of float32, shape (slices, rows, columns)
        How much of each voxel is inside, 0 to 1; slices are averaged over their thickness.
    spacing_mm : tuple of float
        Along (slices, rows, columns).
    """
    spacing = np.array(spacing_mm)
    shape = np.array(coverage.shape)
    for start, end, radius in zip(tubes.start, tubes.end, tubes.radius, strict=True):
        low = np.floor((np.minimum(start, end) - radius - spacing) / spacing).astype(int)
        high = np.ceil((np.maximum(start, end) + radius + spacing) / spacing).astype(int) + 1
        low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
        if (low >= high).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inside = _capsule(start, end, float(radius), low, high, spacing)
        np.maximum(coverage[box], inside, out=coverage[box])


def _capsule(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    radius: float,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    spacing: NDArray[np.float64],
) -> NDArray[np.float32]:
    y = (np.arange(low[1], high[1]) * spacing[1] - start[1])[:, np.newaxis]
    x = (np.arange(low[2], high[2]) * spacing[2] - start[2])[np.newaxis]
    slices = np.arange(low[0], high[0])[:, np.newaxis, np.newaxis]
    along = end - start
    square = max(float(along @ along), 1e-9)
    total = np.zeros((high - low).tolist(), dtype=np.float32)
    for part in _SUBSLICES:
        z = (slices + part) * spacing[0] - start[0]
        t = np.clip((z * along[0] + y * along[1] + x * along[2]) / square, 0, 1)
        distance = np.sqrt((z - t * along[0]) ** 2 + (y - t * along[1]) ** 2 + (x - t * along[2]) ** 2)
        total += np.clip((radius - distance) / spacing[1] + 0.5, 0, 1)
    total /= len(_SUBSLICES)
    return total
