"""A synthetic chest CT series: schematic anatomy, branching vessels, lung texture, CT blur and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import generate_uid
from scipy import ndimage

from pacs_guard.domain.volume import Volume
from pacs_guard.simulate.anatomy import BLOOD, FAT, Chest, Grid, Section, section
from pacs_guard.simulate.nodule import Nodule, draw_nodule
from pacs_guard.simulate.noise import KERNELS, NoiseModel
from pacs_guard.simulate.vessels import Tubes, draw, grow_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FIELD_OF_VIEW_MM = 360.0
_TIPS_PER_LUNG = 420
_FINE_HU = 27
_SLICE_CORRELATION = 0.15
_AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Anatomy:
    """Sections and lungs of the whole phantom, shape (slices, rows, columns) each."""

    hu: NDArray[np.float32]
    lung: NDArray[np.float32]
    muscle: NDArray[np.float32]


def make_phantom(
    *,
    slices: int = 80,
    size: int = 512,
    slice_mm: float = 2.5,
    pixel_mm: float | None = None,
    seed: int = 0,
    noise_hu: float = 18.0,
    kernel: str = "standard",
    nodules: Sequence[Nodule] = (),
) -> Volume:
    """Make a synthetic chest CT series.

    Parameters
    ----------
    slices, size : int
        Number of slices, and of their rows and columns.
    slice_mm : float
        Slice thickness and spacing, mm.
    pixel_mm : float, optional
        Pixel spacing, mm; by default the field of view is 360 mm.
    seed : int
        The same one gives the same pixels; the UIDs are new every time.
    noise_hu : float
        Standard deviation of the noise in the middle of the body, HU.
    kernel : {"soft", "standard", "sharp"}
        Reconstruction kernel.
    nodules : sequence of Nodule
        Nodules that belong to this chest.

    Returns
    -------
    Volume
        Slices from feet to head; without padding.

    Raises
    ------
    ValueError
        If the kernel is unknown.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}; expected one of {', '.join(KERNELS)}")
    rng = np.random.default_rng(seed)
    pixel = pixel_mm or FIELD_OF_VIEW_MM / size
    spacing = (slice_mm, pixel, pixel)
    model = NoiseModel((size, size), (pixel, pixel), KERNELS[kernel])
    chest = Chest.drawn(rng)
    anatomy = _anatomy(chest, slices, size, spacing)
    _add_texture(anatomy, model, rng, slice_mm)
    _add_vessels(anatomy, spacing, rng)
    for nodule in nodules:
        draw_nodule(anatomy.hu, spacing, nodule, rng)
    hu = _acquired(anatomy, model, rng, noise_hu)
    offset = -(size - 1) / 2 * pixel
    positions = np.array([(offset, offset, i * slice_mm) for i in range(slices)])
    return Volume(
        hu=hu,
        padding=None,
        spacing_mm=spacing,
        orientation=_AXIAL,
        positions_mm=positions,
        sop_uids=tuple(str(generate_uid(prefix=None)) for _ in range(slices)),
        study_uid=str(generate_uid(prefix=None)),
        series_uid=str(generate_uid(prefix=None)),
    )


def _anatomy(chest: Chest, slices: int, size: int, spacing: tuple[float, float, float]) -> _Anatomy:
    grid = Grid((size, size), spacing[1:])
    shape = (slices, size, size)
    anatomy = _Anatomy(*(np.empty(shape, dtype=np.float32) for _ in range(3)))
    for i in range(slices):
        one: Section = section(chest, grid, (i - (slices - 1) / 2) * spacing[0])
        anatomy.hu[i], anatomy.lung[i], anatomy.muscle[i] = one.hu, one.lung, one.muscle
    return anatomy


def _add_texture(anatomy: _Anatomy, model: NoiseModel, rng: np.random.Generator, slice_mm: float) -> None:
    """Parenchyma is a fractal of vessels too small to resolve; muscle is interleaved with fat."""
    keep = float(np.exp(-slice_mm / 3.0))
    fresh = np.sqrt(1 - keep**2)
    fine, coarse = model.texture(rng, 6), model.texture(rng, 40, 2.2)
    for i, (hu, lung, muscle) in enumerate(zip(anatomy.hu, anatomy.lung, anatomy.muscle, strict=True)):
        fine = keep * fine + fresh * model.texture(rng, 6)
        coarse = 0.9 * coarse + 0.436 * model.texture(rng, 40, 2.2)
        strands = np.clip((coarse - 0.9) * 3, 0, 1) * muscle * 0.8
        solid = (1 - lung) * (hu > -200)
        anatomy.hu[i] += lung * (_FINE_HU * fine + 12 * coarse) + strands * (FAT - hu) + solid * 4 * coarse


def _add_vessels(anatomy: _Anatomy, spacing: tuple[float, float, float], rng: np.random.Generator) -> None:
    slices, rows, columns = anatomy.lung.shape
    middle = np.array([(n - 1) / 2 * s for n, s in zip((slices, rows, columns), spacing, strict=True)])
    blood = np.zeros(anatomy.hu.shape, dtype=np.float32)
    walls, lumens = np.zeros_like(blood), np.zeros_like(blood)
    for side in (-1, 1):
        for y, height in ((4.0, 8.0), (12.0, -8.0)):
            root = middle + np.array([height, y, side * 36.0])
            tips = _tips(anatomy.lung, spacing, side, rng)
            if not len(tips):
                continue
            tree = grow_tree(rng, root, tips)
            draw(tree, blood, spacing)
            if height > 0:
                bronchi = tree.beside(rng, thinnest_mm=1.0, scale=0.9)
                draw(Tubes(bronchi.start, bronchi.end, bronchi.radius + 0.7), walls, spacing)
                draw(bronchi, lumens, spacing)
    inside = anatomy.lung
    anatomy.hu[:] += walls * inside * (-20 - anatomy.hu)
    anatomy.hu[:] += lumens * inside * (-960 - anatomy.hu)
    anatomy.hu[:] += blood * inside * (BLOOD - 95 - anatomy.hu)


def _tips(
    lung: NDArray[np.float32], spacing: tuple[float, float, float], side: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw where the vessels of one lung end, (z, y, x) in mm."""
    half = lung.shape[2] // 2
    part = lung[:, ::4, :half:4] if side < 0 else lung[:, ::4, half::4]
    where = np.argwhere(part > 0.9)
    chosen = where[rng.permutation(len(where))[:_TIPS_PER_LUNG]].astype(np.float64)
    chosen[:, 1:] *= 4
    chosen[:, 2] += 0 if side < 0 else half
    tips: NDArray[np.float64] = (chosen + rng.uniform(-0.5, 0.5, chosen.shape)) * np.array(spacing)
    return tips


def _acquired(anatomy: _Anatomy, model: NoiseModel, rng: np.random.Generator, noise_hu: float) -> NDArray[np.int16]:
    """Blur, add noise and round to whole Hounsfield units, as a scanner does."""
    hu = np.empty(anatomy.hu.shape, dtype=np.int16)
    previous = model.noise(rng)
    for i, image in enumerate(anatomy.hu):
        level = _noise_level(image)
        # wide and dense sections, the shoulders, give streaks from side to side
        noise = model.noise(rng, streaks=0.3)
        mixed = (noise + _SLICE_CORRELATION * previous) / np.hypot(1, _SLICE_CORRELATION)
        previous = noise
        hu[i] = np.clip(np.rint(model.blur(image) + noise_hu * level * mixed), -1024, 3071)
    return hu


def _noise_level(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the relative noise of each pixel: higher where rays cross much tissue, 1 about the middle of the body."""
    step = max(1, image.shape[0] // 64)
    tissue = np.clip((image[::step, ::step] + 1000) / 1000, 0, 2)
    crossed = ndimage.gaussian_filter(tissue, 8) ** 0.8
    # the beam is filtered by what surrounds a pixel, so that the lungs are less noisy than the heart between them
    level = 0.15 + 0.85 * crossed / max(float(np.percentile(crossed, 95)), 1e-3)
    wide: NDArray[np.float32] = ndimage.zoom(level, image.shape[0] / level.shape[0], order=1).astype(np.float32)
    return wide
