"""Attacks without a learned generator: harmonic in-painting, seamless cloning, and denoising of a noised filling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage, sparse
from scipy.sparse.linalg import factorized

from pacs_guard.domain.verdict import FindingKind
from training.attack.boxes import ball, box_of_mm
from training.attack.donors import with_nodule
from training.attack.places import lung_weight
from training.attack.target import Patch, Target, patch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.simulate.cube import Box

_RIM_MM = 3.0
_MARGIN_MM = 10.0
_NOISED_HU = 90.0
_LUNG_HU = -700
_ABOVE_HU = 30.0


def harmonic(
    block: NDArray[np.float32], mask: NDArray[np.bool_], guidance: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Fill a mask, slice by slice, so that the Laplacian is that of `guidance`, or 0, and the border fits.

    Parameters
    ----------
    block : ndarray of float32, shape (slices, rows, columns)
        HU; what lies outside the mask stays.
    mask : ndarray of bool, same shape
        What is filled; the outermost pixels of a slice never are.
    guidance : ndarray of float32, same shape, optional
        Gradients to be cloned (Pérez et al., Poisson image editing, 2003).
    """
    inner = mask.copy()
    inner[:, [0, -1]] = False
    inner[:, :, [0, -1]] = False
    filled = block.copy()
    for index in np.flatnonzero(inner.any(axis=(1, 2))):
        source = None if guidance is None else guidance[index]
        filled[index][inner[index]] = _solved(block[index], inner[index], source)
    return filled


def _solved(
    plane: NDArray[np.float32], mask: NDArray[np.bool_], guidance: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    rows, columns = np.nonzero(mask)
    number = np.full(mask.shape, -1)
    number[rows, columns] = np.arange(rows.size)
    right = np.zeros(rows.size)
    system = sparse.lil_matrix((rows.size, rows.size))
    system.setdiag(4.0)
    for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        beside = number[rows + down, columns + across]
        known = beside < 0
        right[known] += plane[rows[known] + down, columns[known] + across]
        system[np.flatnonzero(~known), beside[~known]] = -1.0
        if guidance is not None:
            right += guidance[rows, columns] - guidance[rows + down, columns + across]
    solution: NDArray[np.float64] = factorized(system.tocsc())(right)
    return solution


def inpainted(target: Target, rng: np.random.Generator) -> Patch:
    """Remove by a harmonic filling; inject by cloning a drawn nodule's gradients. No noise is added to the filling."""
    hu, spacing = target.hu, target.spacing_mm
    radius = target.diameter_mm / 2 + _RIM_MM
    box = box_of_mm(hu.shape, spacing, target.site, 2 * (radius + _RIM_MM))
    old = hu[box].astype(np.float32)
    mask = ball(box, spacing, target.site, radius, soft_mm=0.1) > 0.5
    if target.kind is FindingKind.FB:
        return patch(box, _removed(target, box, mask))
    smooth = ndimage.gaussian_filter(old, [0, *(1.5 / s for s in spacing[1:])])
    return patch(box, harmonic(old, mask, with_nodule(smooth, spacing, target.diameter_mm, rng)))


def denoised(target: Target, rng: np.random.Generator) -> Patch:
    """Add noise to a filled place and take it away in one step, as a diffusion model's last step does.

    The denoiser is no network: it is the posterior mean under a Gaussian prior whose spectrum is that of the place
    itself, which is a Wiener filter. It gives the soft texture of such models, not their anatomy.
    """
    hu, spacing = target.hu, target.spacing_mm
    radius = target.diameter_mm / 2 + _RIM_MM
    box = box_of_mm(hu.shape, spacing, target.site, 2 * (radius + _MARGIN_MM))
    old = hu[box].astype(np.float32)
    filled = _removed(target, box, ball(box, spacing, target.site, radius, soft_mm=0.1) > 0.5)
    if target.kind is FindingKind.FM:
        filled = with_nodule(filled, spacing, target.diameter_mm, rng)
    noised = filled + _NOISED_HU * rng.standard_normal(filled.shape, dtype=np.float32)
    clean = wiener(noised, filled, _NOISED_HU)
    mask = ball(box, spacing, target.site, radius + _RIM_MM, soft_mm=2.0)
    return patch(box, old + mask * (clean - old))


def lung_filled(block: NDArray[np.float32], lung: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a block with a harmonic filling where `lung` says so, between 0 and 1.

    What is dense at the border, a vessel or the wall, does not spread inwards.
    """
    air = block[block < _LUNG_HU]
    limit = float(np.median(air)) + _ABOVE_HU if air.size else _LUNG_HU
    filled = harmonic(np.minimum(block, limit), lung > 0)
    return np.asarray(block + lung * (filled - block), np.float32)


def _removed(target: Target, box: Box, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a box in which the lung within a mask was filled from the lung around it, and the chest wall stays."""
    old = target.hu[box].astype(np.float32)
    lung = lung_weight(target.hu, target.spacing_mm, box) * mask
    return lung_filled(old, lung)


def wiener(noised: NDArray[np.float32], prior: NDArray[np.float32], sigma_hu: float) -> NDArray[np.float32]:
    """Return the posterior mean of what white noise of `sigma_hu` was added to, under a prior with a known spectrum.

    Parameters
    ----------
    noised, prior : ndarray of float32, shape (slices, rows, columns)
        The prior's cosine spectrum, smoothed, is what the signal is expected to have.
    sigma_hu : float
    """
    axes = (1, 2)
    power = ndimage.uniform_filter(fft.dctn(prior, axes=axes, norm="ortho") ** 2, (1, 3, 3))
    spectrum = fft.dctn(noised, axes=axes, norm="ortho") * (power / (power + sigma_hu**2))
    return np.asarray(fft.idctn(spectrum, axes=axes, norm="ortho"), np.float32)
