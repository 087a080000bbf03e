"""Filters along the axes of a picture as products with band matrices.

A filter that treats rows and columns one after the other is a product with one matrix from either side, and these
matrices are zero but near their diagonal. Cut into blocks, the products take a third of the time of loops over pixels,
and leave the interpreter to other threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 48
_Real = TypeVar("_Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A filter along an axis of a certain length.

    Attributes
    ----------
    blocks : tuple of (slice, slice, ndarray)
        Which results, from which values, and the matrix, shape (results, values), between them.
    """

    blocks: tuple[tuple[slice, slice, NDArray[np.floating]], ...]


@lru_cache(maxsize=64)
def twice_a_box(length: int, size: int, dtype: type[np.floating] = np.float32) -> Band:
    """Return the mean over `size` neighbours, taken twice; there is nothing beyond the ends."""
    once = ndimage.uniform_filter1d(np.eye(length), size, axis=0, mode="constant")
    return _cut(ndimage.uniform_filter1d(once, size, axis=0, mode="constant"), 2 * (size // 2), dtype)


@lru_cache(maxsize=64)
def box(length: int, size: int, dtype: type[np.floating] = np.float32) -> Band:
    """Return the mean over `size` neighbours, reflected at the ends."""
    return _cut(ndimage.uniform_filter1d(np.eye(length), size, axis=0), size // 2, dtype)


@lru_cache(maxsize=64)
def gaussian(length: int, sigma: float, dtype: type[np.floating] = np.float32, truncate: float = 3.0) -> Band:
    """Return a Gaussian cut off at `truncate` times `sigma`, reflected at the ends."""
    reach = int(truncate * sigma + 0.5)
    return _cut(ndimage.gaussian_filter1d(np.eye(length), sigma, axis=0, truncate=truncate), reach, dtype)


def filtered_both(pictures: NDArray[_Real], rows: Band, columns: Band) -> NDArray[_Real]:
    """Filter pictures of shape (..., rows, columns) along both axes; the bands must be of the same precision."""
    across, both = (np.empty(pictures.shape, pictures.dtype) for _ in range(2))
    flat, flat_across = (one.reshape(-1, pictures.shape[-1]) for one in (pictures, across))
    for to, of, matrix in columns.blocks:
        np.matmul(flat[:, of], matrix.T, out=flat_across[:, to])
    for to, of, matrix in rows.blocks:
        np.matmul(matrix, across[..., of, :], out=both[..., to, :])
    return both


def _cut(matrix: NDArray[np.float64], reach: int, dtype: type[np.floating]) -> Band:
    length, blocks = len(matrix), []
    for first in range(0, length, _BLOCK):
        to = slice(first, min(length, first + _BLOCK))
        # what is reflected at an end comes from within the reach as well
        of = slice(max(0, to.start - reach), min(length, to.stop + reach))
        blocks.append((to, of, np.ascontiguousarray(matrix[to, of], dtype)))
    return Band(tuple(blocks))
