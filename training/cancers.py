"""Injected nodules against real cancers of which there are only small 8-bit pictures: a test under stress.

The pictures (64 x 64 pixels around a real cancer of the public set, HU clipped to -1000 to 400) show no slice that
their noise could be set against, and lost much of it to 8 bits, so they are no fit negatives for the detector. Instead
a head of its own is trained and judged on crops that were all taken to 8 bits in the same way: of injections, of drawn
nodules, of nodules that radiologists marked, and of other soft tissue in and on the lungs. It never trains on pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pacs_guard.detect.features import Raster, measure_slice
from pacs_guard.detect.forensic import Head, score_slice
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.crossval import FOLDS
from training.networks import fit_classifier
from training.protocol import auc, folds_by_group, group_bootstrap
from training.report import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.classifier import Classifier
    from pacs_guard.detect.features import SliceMeasurements
    from training.examples import MeasuredSlice

CROP = 64
FOLDER = "real-nodules"
INJECTED, SIMULATED, CANCER, MARKED, DRAWN, OTHER = "injected", "simulated", "cancer", "marked", "drawn", "other"

_LOWEST_HU, _RANGE_HU = -1000.0, 1400.0
_SPACING_MM = (0.7, 0.7)  # the pictures do not say; that of most slices of the set
_POSITIVE_MM = 7.0
_NEGATIVE_MM = 16.0
_JUDGED_MM = 8.0
_OTHERS = 4
_EVERY_CLEAN = 8
_FAR_MM = 45.0
_PROTOCOL = "grouped by patient, 5 folds, place given; 64 x 64 pixels in 8 bits, a head trained on such crops"
_SETS = {
    CANCER: "real cancers in 8 bits",
    MARKED: "real nodules that radiologists marked, in 8 bits",
    DRAWN: "nodules drawn with the scanner's noise, in 8 bits",
}


@dataclass(frozen=True, slots=True)
class Crop:
    """A crop, what is in its middle, and whose it is."""

    kind: str
    group: str
    measured: SliceMeasurements | None


def read_cancers(folder: Path) -> list[tuple[str, NDArray[np.int16]]]:
    """Return (patient, HU) of every picture ``uuid_slice_x_y.png``; none where the folder is absent.

    Raises
    ------
    ConfigurationError
        If a picture is not of 64 x 64 grey pixels.
    """
    found = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            grey = np.asarray(picture)
        if grey.shape != (CROP, CROP) or grey.dtype != np.uint8:
            raise ConfigurationError([f"{path}: is {grey.shape} of {grey.dtype}; expected 64 x 64 pixels of 8 bits"])
        found.append((path.stem.split("_")[0], _hu_of(grey)))
    return found


def crop_in_8_bits(hu: NDArray[np.int16], x: float, y: float) -> NDArray[np.int16]:
    """Return 64 x 64 pixels around a place, with what 8 bits leave of their HU."""
    half = CROP // 2
    padded = np.pad(hu, half, mode="edge")
    row, column = round(y), round(x)
    part = np.clip(padded[row : row + CROP, column : column + CROP], _LOWEST_HU, _LOWEST_HU + _RANGE_HU)
    return _hu_of(np.floor((part - _LOWEST_HU) / _RANGE_HU * 255).astype(np.uint8))


def cancer_figures(
    folder: Path, real: Iterable[MeasuredSlice], made: Iterable[MeasuredSlice], *, seed: int, networks: int
) -> list[Figure]:
    """Return how well injections are told from real cancers, marked nodules and drawn ones; none without pictures.

    Parameters
    ----------
    folder : Path
        Of the pictures.
    real, made : iterable of MeasuredSlice
        The data folder's slices and their altered copies.
    seed : int
    networks : int
    """
    pictures = read_cancers(folder)
    if not pictures:
        return []
    crops = [Crop(CANCER, patient, _measured(hu)) for patient, hu in pictures]
    crops += [*_crops_of(real, np.random.default_rng(seed)), *_copies_of(made)]
    scores = _unseen_scores(crops, seed, networks)
    there = {one.kind for one in crops}
    return [_figure(crops, scores, kind, said, seed) for kind, said in _SETS.items() if kind in there]


def _hu_of(grey: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.rint(grey.astype(float) / 255 * _RANGE_HU + _LOWEST_HU).astype(np.int16)


def _measured(hu: NDArray[np.int16]) -> SliceMeasurements | None:
    return measure_slice(hu, _SPACING_MM, np.ones(hu.shape, bool))


def _crops_of(slices: Iterable[MeasuredSlice], rng: np.random.Generator) -> Iterator[Crop]:
    for one in slices:
        case, hu = one.case, one.case.volume.hu[one.index]
        target = case.target
        if target is not None and target.kind is FindingKind.FM:
            yield Crop(INJECTED, case.group, _measured(crop_in_8_bits(hu, target.x, target.y)))
        for x, y in case.nodules.get(one.index, ()):
            yield Crop(MARKED, case.group, _measured(crop_in_8_bits(hu, x, y)))
        if case.labels or one.index % _EVERY_CLEAN == 0:
            for x, y in _others(one, rng):
                yield Crop(OTHER, case.group, _measured(crop_in_8_bits(hu, x, y)))


def _others(one: MeasuredSlice, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    sites = one.sites.dense
    far = np.ones(len(sites.rows), bool)
    for label in one.case.labels:
        far &= one.distance_mm(sites, label.x, label.y) > _FAR_MM
    for number in rng.permutation(np.flatnonzero(far))[:_OTHERS]:
        yield one.raster.x(sites.columns[number]), one.raster.y(sites.rows[number])


def _copies_of(slices: Iterable[MeasuredSlice]) -> Iterator[Crop]:
    for one in slices:
        case, hu = one.case, one.case.volume.hu[one.index]
        for x, y in case.hard:
            yield Crop(DRAWN, case.group, _measured(crop_in_8_bits(hu, x, y)))
        if not case.hard and case.target is not None and case.target.kind is FindingKind.FM:
            yield Crop(SIMULATED, case.group, _measured(crop_in_8_bits(hu, case.target.x, case.target.y)))


def _unseen_scores(crops: Sequence[Crop], seed: int, networks: int) -> NDArray[np.float64]:
    """Score every crop by a head that saw none of its patient's; one without soft tissue has the lowest score."""
    raster = Raster.of((CROP, CROP), _SPACING_MM)
    middle = (CROP - 1) / 2
    down = (raster.offset[0] + np.arange(raster.shape[0]) * raster.pitch[0] - middle) * _SPACING_MM[0]
    across = (raster.offset[1] + np.arange(raster.shape[1]) * raster.pitch[1] - middle) * _SPACING_MM[1]
    distance = np.hypot(down[:, None], across[None])
    folds = folds_by_group([one.group for one in crops], FOLDS, seed)
    scores = np.full(len(crops), NOTHING)
    for fold in range(FOLDS):
        head = Head(_fitted([one for one in crops if folds[one.group] != fold], distance, seed, networks))
        for number, one in enumerate(crops):
            if folds[one.group] == fold and one.measured is not None and one.measured.dense.rows.size:
                scored = score_slice(one.measured, {FindingKind.FM: head}, raster)[FindingKind.FM]
                scores[number] = scored[distance <= _JUDGED_MM].max()
    return scores


def _fitted(crops: Iterable[Crop], distance: NDArray[np.float64], seed: int, networks: int) -> Classifier:
    features, answers = [], []
    for one in crops:
        if one.measured is None or one.kind == CANCER:
            continue
        altered = one.kind in {INJECTED, SIMULATED}
        sites = one.measured.dense
        near = distance[sites.rows, sites.columns] <= (_POSITIVE_MM if altered else _NEGATIVE_MM)
        features.append(sites.features[near])
        answers.append(np.full(int(near.sum()), altered))
    return fit_classifier(np.concatenate(features), np.concatenate(answers), seed=seed, networks=networks)


def _figure(crops: Sequence[Crop], scores: NDArray[np.float64], kind: str, said: str, seed: int) -> Figure:
    rows = [number for number, one in enumerate(crops) if one.kind in {INJECTED, kind}]
    groups = [crops[number].group for number in rows]
    own, answers = scores[rows], np.array([crops[number].kind == INJECTED for number in rows])

    def area(drawn: NDArray[np.intp]) -> float:
        return auc(own[drawn][answers[drawn]], own[drawn][~answers[drawn]])

    low, high = group_bootstrap(area, groups, seed=seed)
    others = [group for group, injected in zip(groups, answers, strict=True) if not injected]
    bare = int((own[~answers] <= NOTHING).sum())
    places = f"{len(others)} places of {len(set(others))} patients, {bare} without soft tissue"
    return Figure(
        f"FM against {said}, AUC",
        area(np.arange(len(rows))),
        low,
        high,
        f"{answers.sum()} injections, {places}",
        _PROTOCOL,
    )
