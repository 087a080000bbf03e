"""Whether the head for injections merely finds nodules: injected ones against real ones, and drawn ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.forensic import score_slice
from pacs_guard.domain.verdict import FindingKind
from training.protocol import auc, group_bootstrap
from training.report import HIT_MM, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pacs_guard.detect.forensic import Head
    from training.examples import MeasuredSlice

    Scores = list[tuple[str, float]]

_PROTOCOL = "grouped by patient, 5 folds; highest FM score within 16 mm of the known place"


def nodule_figures(
    real: Sequence[MeasuredSlice],
    drawn: Iterable[MeasuredSlice],
    heads_for: Mapping[str, Mapping[FindingKind, Head]],
    *,
    seed: int = 0,
) -> list[Figure]:
    """Return how well the FM head tells injected nodules from others, each scored by heads that saw no such patient.

    Parameters
    ----------
    real : sequence of MeasuredSlice
        Slices of the data folder; where `Case.nodules` marks real nodules these are scored.
    drawn : iterable of MeasuredSlice
        Slices with nodules that were drawn with the scanner's own noise, at the places of `Case.hard`.
    heads_for : mapping
        From a patient to heads that never saw this patient.
    seed : int
        Of the bootstrap.
    """
    injected = [
        (one.case.group, _score_at(one, one.case.target.x, one.case.target.y, heads_for))
        for one in real
        if one.case.source == "ctgan" and one.case.target is not None and one.case.target.kind is FindingKind.FM
    ]
    marked = [
        (one.case.group, _score_at(one, x, y, heads_for))
        for one in real
        for x, y in one.case.nodules.get(one.index, ())
    ]
    added = [(one.case.group, _score_at(one, x, y, heads_for)) for one in drawn for x, y in one.case.hard]
    figures = []
    for name, others in (("real nodules", marked), ("nodules drawn with the scanner's noise", added)):
        if injected and others:
            figures.append(_figure(name, injected, others, seed))
    return figures


def _score_at(one: MeasuredSlice, x: float, y: float, heads_for: Mapping[str, Mapping[FindingKind, Head]]) -> float:
    raster, (_, row_mm, column_mm) = one.raster, one.case.volume.spacing_mm
    scores = score_slice(one.sites, heads_for[one.case.group], raster)[FindingKind.FM]
    down = (raster.offset[0] + np.arange(raster.shape[0]) * raster.pitch[0] - y) * row_mm
    across = (raster.offset[1] + np.arange(raster.shape[1]) * raster.pitch[1] - x) * column_mm
    return float(scores[np.hypot(down[:, None], across[None]) <= HIT_MM].max())


def _figure(name: str, injected: Scores, others: Scores, seed: int) -> Figure:
    every = [*injected, *others]
    scores = np.array([score for _, score in every])
    answers = np.arange(len(every)) < len(injected)

    def area(rows: NDArray[np.intp]) -> float:
        return auc(scores[rows][answers[rows]], scores[rows][~answers[rows]])

    low, high = group_bootstrap(area, [group for group, _ in every], seed=seed)
    n = f"{len(injected)} injections, {len(others)} places of {len({group for group, _ in others})} patients"
    return Figure(f"FM against {name}, AUC", area(np.arange(len(every))), low, high, n, _PROTOCOL)
