"""From cases to the rows that a head is trained on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.classifier import single_threaded
from pacs_guard.detect.features import Raster, measure_slice
from pacs_guard.domain.verdict import FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from pacs_guard.detect.features import Sites, SliceMeasurements
    from training.sources import Case

POSITIVE_MM = {FindingKind.FB: 8.0, FindingKind.FM: 7.0}
"""Sites this near to a label are positives; the altered cube reaches 16 mm to each side."""

IGNORED_MM = 28.0
"""Sites this near to a label, and no positives, are left out: partly altered."""

HARD_MM = 8.0
"""Sites this near to a nodule's middle are always trained on."""

_THREADS = 2
_IGNORED_DEPTH_MM = 30.0
_KEPT = {"ctgan": 0.6, "simulated": 0.06, "sham": 0.1}
_KEPT_CLEAN = 0.7
_EVERY_CLEAN = 2


@dataclass(frozen=True, slots=True)
class MeasuredSlice:
    """One slice of a case with its sites."""

    case: Case
    index: int
    raster: Raster
    sites: SliceMeasurements

    def head(self, kind: FindingKind) -> Sites:
        """Return the sites that the head for `kind` looks at."""
        return self.sites.lung if kind is FindingKind.FB else self.sites.dense

    def distance_mm(self, sites: Sites, x: float, y: float) -> NDArray[np.float64]:
        """Return how far each site is from column `x` and row `y`, within the slice."""
        _, row_mm, column_mm = self.case.volume.spacing_mm
        across = self.raster.offset[1] + sites.columns * self.raster.pitch[1] - x
        down = self.raster.offset[0] + sites.rows * self.raster.pitch[0] - y
        distance: NDArray[np.float64] = np.hypot(across * column_mm, down * row_mm)
        return distance


def measure(cases: Iterable[Case]) -> Iterator[MeasuredSlice]:
    """Measure every slice that shows lung, two at a time."""
    # matrix products on one thread each are the same however many threads there are
    with single_threaded(), ThreadPoolExecutor(_THREADS) as threads:
        for case in cases:
            raster = Raster.of(case.volume.hu.shape[1:], case.volume.spacing_mm[1:])
            measured = threads.map(partial(measure_slice, spacing_mm=case.volume.spacing_mm[1:]), case.volume.hu)
            for index, sites in enumerate(measured):
                if sites is not None:
                    yield MeasuredSlice(case, index, raster, sites)


def rows_of(measured: MeasuredSlice, kind: FindingKind) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return which sites to train on, and which of these are positives.

    Negatives are sites of the same slice well away from every label, and those of clean series: a source or scanner
    can so not be told from the answer.
    """
    sites = measured.head(kind)
    positive = np.zeros(len(sites.rows), bool)
    usable = np.ones(len(sites.rows), bool)
    for label in measured.case.labels:
        distance = measured.distance_mm(sites, label.x, label.y)
        if label.depth_mm == 0 and label.kind is kind:
            positive |= distance < min(POSITIVE_MM[kind], label.radius_mm)
        if label.depth_mm < _IGNORED_DEPTH_MM:
            usable &= distance >= IGNORED_MM
    chosen = np.flatnonzero(usable | positive)
    return chosen, positive[chosen]


def nodules_of(measured: MeasuredSlice) -> tuple[tuple[float, float], ...]:
    """Return columns and rows of the nodules on a slice that are no injections: marked by radiologists, or drawn."""
    case = measured.case
    return (*((float(x), float(y)) for x, y in case.hard), *case.nodules.get(measured.index, ()))


def training_rows(
    slices: Iterable[MeasuredSlice], kind: FindingKind, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return features and labels for one head: all positives, and a sample of the negatives.

    Of the negatives those on nodules are all taken: real ones that radiologists marked, and drawn ones.
    """
    rng = np.random.default_rng(seed)
    features, answers = [], []
    for measured in slices:
        chosen, positive = rows_of(measured, kind)
        source = measured.case.source
        nodules = nodules_of(measured)
        clean_series = not measured.case.labels and len(measured.case.volume.hu) > 2
        if clean_series and measured.index % _EVERY_CLEAN and not nodules:
            continue
        kept = positive | (rng.random(len(chosen)) < _KEPT.get(source, _KEPT_CLEAN))
        for x, y in nodules:
            kept |= measured.distance_mm(measured.head(kind), x, y)[chosen] < HARD_MM
        features.append(measured.head(kind).features[chosen[kept]])
        answers.append(positive[kept])
    return np.concatenate(features), np.concatenate(answers)
