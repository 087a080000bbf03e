"""Tissue that occurs twice in a series, voxel by voxel: something was copied over something else.

A scanner never repeats its noise, so two places with the same steps from pixel to pixel are one place and its copy
(exact matching of blocks, Fridrich, Soukal and Lukas 2003, in three dimensions). Blocks of every slice are reduced to a
hash of these steps, so that a constant added to the copy does not hide it; blocks with the same hash vote for the
distance between them, and a copy gives one distance many votes within a small part of the series.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    _Hashes = NDArray[np.uint64]
    _Places = NDArray[np.int64]

LEAST_BLOCKS = 8
"""Blocks at one distance from their twins from which on it is a copy. Clean series reach 4."""

_ROWS, _STEPS = 4, 3
_PRIMES = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xD6E8FEB86659FD93))
_SOME = np.uint64(3)
_SORTS = 256
_SORT_SHIFT, _KEPT_SHIFT = np.uint64(56), np.uint64(24)
_DENSE_ABOVE_HU = -700
_LEAST_STEP_HU = 4
_COARSE = 8
_LUNG_HU = (-960, -500)
_LARGEST_MM = 60.0
_APART_MM = 10.0
_MOST_ALIKE = 8
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Twins:
    """Two places of a series that are the same, voxel by voxel.

    Attributes
    ----------
    blocks : int
        How many blocks of the one were found in the other.
    places : tuple of tuple of int
        Voxels (slice, row, column) in the middle of either place, the one in the lower slice first.
    """

    blocks: int
    places: tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Hashes of a slice's blocks in sorts, by their first bits.

    Attributes
    ----------
    hashes : ndarray of uint32, shape (blocks,)
        The bits after the first eight; chance makes some ten pairs of a whole series' blocks alike.
    places : ndarray of int32, shape (blocks,)
        Where each begins in the slice.
    starts : ndarray of int, shape (sorts + 1,)
        Where each sort begins, and the end.
    """

    hashes: NDArray[np.uint32]
    places: NDArray[np.int32]
    starts: NDArray[np.intp]

    @classmethod
    def sorted(cls, hashes: _Hashes, places: NDArray[np.int32]) -> _Blocks:
        sorts = (hashes >> _SORT_SHIFT).astype(np.uint8)
        order = np.argsort(sorts, kind="stable")  # of bytes: linear
        kept = (hashes >> _KEPT_SHIFT).astype(np.uint32)[order]
        return cls(kept, places[order], np.searchsorted(sorts[order], np.arange(_SORTS + 1)))

    def of(self, sort: int) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
        part = slice(self.starts[sort], self.starts[sort + 1])
        return self.hashes[part], self.places[part]


def find_twins(hu: NDArray[np.int16], spacing_mm: tuple[float, float, float]) -> Twins | None:
    """Return the two places that are the same over the most blocks, or None if chance explains every likeness.

    Memory holds one slice's hashes and forty bits of a sample of those of all slices: about half as much as the series
    itself. What begins with the same eight bits is compared at a time.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units.
    spacing_mm : tuple of float
        Along (slices, rows, columns), mm.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        parts = list(threads.map(_hashes, hu))
        pairs = list(threads.map(partial(_pairs_of, parts, int(np.prod(hu.shape[1:]))), range(_SORTS)))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    best: Twins | None = None
    for chosen in _same_distance(first, second, hu.shape):
        one, other = (np.stack(np.unravel_index(places[chosen], hu.shape)) for places in (first, second))
        apart_mm = float(np.linalg.norm((other - one)[:, 0] * np.array(spacing_mm)))
        if apart_mm >= _APART_MM and _compact(one, spacing_mm) and (best is None or chosen.size > best.blocks):
            best = Twins(int(chosen.size), (_middle(one), _middle(other)))
    return best


def _hashes(hu: NDArray[np.int16]) -> _Blocks:
    """Return hashes of the blocks in and beside lung.

    Of lung, which there is much of, a quarter is taken, chosen by what the blocks hold, so that twins are chosen alike.
    """
    near = _near_lung(hu)
    rows, columns = (np.flatnonzero(near.any(axis=1 - axis)) for axis in (0, 1))
    if not rows.size:
        return _Blocks.sorted(np.zeros(0, np.uint64), np.zeros(0, np.int32))
    top, left = rows[0] * _COARSE, columns[0] * _COARSE
    part = hu[top : (rows[-1] + 1) * _COARSE, left : (columns[-1] + 1) * _COARSE].astype(np.int32)
    steps = np.diff(part, axis=1)
    across = _rolled(steps.astype(np.uint64), _STEPS, _PRIMES[0], axis=1)
    hashes = _rolled(across, _ROWS, _PRIMES[1], axis=0) * _PRIMES[2]
    hashes ^= hashes >> np.uint64(29)
    change, mass = (_summed(values, *hashes.shape) for values in (np.abs(steps), part[:, :-1]))
    size = _ROWS * _STEPS
    dense = mass > _DENSE_ABOVE_HU * size
    wanted = (change >= _LEAST_STEP_HU * size) & (dense | (hashes & _SOME == 0))
    inside = near[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].repeat(_COARSE, axis=0).repeat(_COARSE, axis=1)
    row, column = np.nonzero(wanted & inside[: wanted.shape[0], : wanted.shape[1]])
    return _Blocks.sorted(hashes[row, column], ((row + top) * hu.shape[1] + column + left).astype(np.int32))


def _near_lung(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return which squares of eight pixels look like lung, or lie beside one that does."""
    rows, columns = (length // _COARSE for length in hu.shape)
    part = hu[: rows * _COARSE, : columns * _COARSE]
    down = reduce(np.add, [part[first::_COARSE].astype(np.int32) for first in range(_COARSE)])
    mean = reduce(np.add, [down[:, first::_COARSE] for first in range(_COARSE)]) / np.float32(_COARSE * _COARSE)
    near: NDArray[np.bool_] = ndimage.binary_dilation((mean > _LUNG_HU[0]) & (mean < _LUNG_HU[1]), np.ones((3, 3)))
    return near


def _rolled(values: _Hashes, count: int, prime: np.uint64, axis: int) -> _Hashes:
    """Return a polynomial in `prime` of every `count` neighbours, modulo 2 to the 64."""
    length = values.shape[axis] - count + 1
    whole = [slice(None)] * values.ndim
    windows = (values[(*whole[:axis], slice(first, first + length), *whole[axis + 1 :])] for first in range(count))
    return reduce(lambda so_far, window: so_far * prime + window, windows)


def _summed(values: NDArray[np.int32], rows: int, columns: int) -> NDArray[np.int32]:
    across = reduce(np.add, [values[:, first : first + columns] for first in range(_STEPS)])
    return reduce(np.add, [across[first : first + rows] for first in range(_ROWS)])


def _pairs_of(parts: Sequence[_Blocks], area: int, sort: int) -> tuple[_Places, _Places]:
    members = [part.of(sort) for part in parts]
    hashes = np.concatenate([own for own, _ in members])
    return _pairs(hashes, np.concatenate([index * area + where for index, (_, where) in enumerate(members)]))


def _pairs(hashes: NDArray[np.uint32], places: _Places) -> tuple[_Places, _Places]:
    """Return the places of blocks with the same hash, the lower first; blocks that are all too common are left out."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    same = ordered[1:] == ordered[:-1]
    common = np.zeros(same.size, bool)
    if same.size > _MOST_ALIKE:
        far = ordered[_MOST_ALIKE:] == ordered[:-_MOST_ALIKE]
        for first in range(_MOST_ALIKE):
            common[first : first + far.size] |= far
    at = np.flatnonzero(same & ~common)
    one, other = places[order[at]], places[order[at + 1]]
    return np.minimum(one, other), np.maximum(one, other)


def _same_distance(first: _Places, second: _Places, shape: tuple[int, ...]) -> Iterator[NDArray[np.intp]]:
    """Yield the pairs that lie at the same distance, in slices, rows and columns, for each distance with enough."""
    key = np.zeros(first.size, np.int64)
    # one axis after the other: where slices are stored twice there are as many pairs as blocks
    for stride, length in ((shape[1] * shape[2], shape[0]), (shape[2], shape[1]), (1, shape[2])):
        away = second // stride % length - first // stride % length
        key = key * (4 * length) + away + 2 * length
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    for chosen in np.split(order, starts[1:]):
        if chosen.size >= LEAST_BLOCKS:
            yield chosen


def _compact(places: NDArray[np.intp], spacing_mm: tuple[float, float, float]) -> bool:
    """Whether nearly all lie within some centimetres: a slice that is stored twice is no copied piece of tissue."""
    low, high = np.quantile(places, [0.05, 0.95], axis=1)
    return bool(((high - low) * np.array(spacing_mm) <= _LARGEST_MM).all())


def _middle(places: NDArray[np.intp]) -> tuple[int, int, int]:
    z, y, x = (int(np.median(along)) for along in places)
    return z, y + _ROWS // 2, x + _STEPS // 2
