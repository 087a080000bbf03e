"""The cubes that generators are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from pacs_guard.simulate.cube import CUBE_MM, Site, box_around, resampled
from training.attack.donors import cut_donor, with_nodule
from training.attack.places import draw_site
from training.lidc import read_nodules
from training.sources import clean_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.domain.volume import Volume
    from training.attack.donors import Donor

CUT_MM = 44
"""Edge of the cubes that are kept: 32 mm, 4 to each side for shifts, and 2 for the corners of rotated ones."""

_SHIFT = 4
_TURN_DEGREES = 6.0
_LEAST_SLICES = 12
_LARGEST_MM = 1.4
_THICKEST_MM = 5.0
_DRAWN_MM = (6.0, 16.0)
_REAL_SHARE = 0.2
_LEAST_MM, _MOST_MM = 3.0, 20.0


def training_cubes(data: Path, kind: FindingKind, count: int, seed: int) -> NDArray[np.int16]:
    """Cut cubes of healthy lung (FB) or with a nodule in the middle (FM) out of the clean series of a data folder.

    Real nodules are those of LIDC-IDRI's XML files. Where they are few they are a fifth of the cubes, and the others
    are healthy lung into which a nodule with the scanner's own noise was drawn.

    Parameters
    ----------
    data : Path
        With ``clean/``, one folder for each patient.
    kind : FindingKind
        FB or FM.
    count : int
        How many.
    seed : int
        Of places and drawn nodules.

    Returns
    -------
    ndarray of int16, shape (count, 44, 44, 44)
        HU, 1 mm.

    Raises
    ------
    ConfigurationError
        If there is no series to cut from.
    """
    rng = np.random.default_rng(seed)
    cubes: list[NDArray[np.int16]] = []
    series = list(usable_series(data))
    if not series:
        raise ConfigurationError([f"{data / 'clean'}: expected a chest CT series of {_LEAST_SLICES} slices or more"])
    if kind is FindingKind.FM:
        cubes += _real(series, int(_REAL_SHARE * count))
    while len(cubes) < count:
        volume, _ = series[len(cubes) % len(series)]
        cubes.append(_drawn(volume, kind, rng))
    return np.stack(cubes)


def usable_series(data: Path) -> Iterator[tuple[Volume, list[tuple[Site, float]]]]:
    """Yield the clean series that cubes can be cut from, with the sites and diameters (mm) of known nodules."""
    if not (data / "clean").is_dir():
        raise ConfigurationError([f"{data / 'clean'} is missing; expected a folder of untampered series"])
    for case in clean_series(data / "clean"):
        volume = case.volume
        thick, row_mm, column_mm = volume.spacing_mm
        if len(volume.hu) >= _LEAST_SLICES and max(row_mm, column_mm) <= _LARGEST_MM and thick <= _THICKEST_MM:
            yield volume, known_nodules(volume, data / "clean" / case.source)


def known_nodules(volume: Volume, folder: Path) -> list[tuple[Site, float]]:
    """Return sites and diameters (mm) of the nodules that LIDC-IDRI's XML files in a folder mark in a series."""
    index_of = {uid: index for index, uid in enumerate(volume.sop_uids)}
    found: list[tuple[Site, float]] = []
    for path in sorted(folder.rglob("*.xml")):
        for nodule in read_nodules(path):
            marks = [(index_of[uid], mark) for uid, mark in nodule.marks.items() if uid in index_of]
            if marks:
                index, mark = sorted(marks, key=lambda one: one[0])[len(marks) // 2]
                extent = max(mark.extent for _, mark in marks) * volume.spacing_mm[1]
                found.append(((index, round(mark.y), round(mark.x)), extent))
    return found


def known_donors(data: Path) -> list[Donor]:
    """Return the nodules that LIDC-IDRI's XML files mark in the clean series of a data folder, for splicing."""
    return [
        cut_donor(f"{volume.series_uid}: {site}", volume.hu, volume.spacing_mm, site, diameter)
        for volume, nodules in usable_series(data)
        for site, diameter in nodules
        if _LEAST_MM <= diameter <= 30.0
    ]


def augmented(cube: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return 32 mm of a cube of 44 mm: flipped, shifted by up to 4 voxels to each side, turned by up to 6 degrees."""
    turned = ndimage.rotate(
        cube.astype(np.float32),
        rng.uniform(-_TURN_DEGREES, _TURN_DEGREES),
        axes=(1, 2),
        reshape=False,
        order=1,
        mode="nearest",
    )
    start = (CUT_MM - CUBE_MM) // 2
    part = tuple(slice(start + by, start + by + CUBE_MM) for by in rng.integers(-_SHIFT, _SHIFT + 1, 3))
    flips = tuple(slice(None, None, step) for step in rng.choice([-1, 1], 3))
    return np.ascontiguousarray(turned[part][flips])


def _real(series: list[tuple[Volume, list[tuple[Site, float]]]], most: int) -> list[NDArray[np.int16]]:
    """Return cubes around real nodules that fit, over and over where they are few."""
    found = [
        cube
        for volume, nodules in series
        for site, diameter in nodules
        if _LEAST_MM <= diameter <= _MOST_MM and (cube := _cut(volume, site)) is not None
    ]
    return [found[number % len(found)] for number in range(most)] if found else []


def _drawn(volume: Volume, kind: FindingKind, rng: np.random.Generator) -> NDArray[np.int16]:
    while True:
        # places of healthy lung are asked for with FM: what is to be rendered is put there afterwards
        site = draw_site(volume.hu, volume.spacing_mm, FindingKind.FM, rng)
        diameter = float(rng.uniform(*_DRAWN_MM)) if kind is FindingKind.FM else None
        cube = _cut(volume, site, diameter, rng)
        if cube is not None:
            return cube


def _cut(
    volume: Volume, site: Site, diameter_mm: float | None = None, rng: np.random.Generator | None = None
) -> NDArray[np.int16] | None:
    """Cut 44 mm around a site, with a nodule drawn into it if a diameter is given; None if that leaves the series."""
    edges = [2 * round(CUT_MM / spacing / 2) + 1 for spacing in volume.spacing_mm]
    box = box_around(site, edges, volume.hu.shape)
    if any((part.start + part.stop) // 2 != at for part, at in zip(box, site, strict=True)):
        return None
    block = volume.hu[box].astype(np.float32)
    if diameter_mm is not None and rng is not None:
        block = with_nodule(block, volume.spacing_mm, diameter_mm, rng)
    return np.rint(resampled(block, (CUT_MM,) * 3)).astype(np.int16)
