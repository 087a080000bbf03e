"""Findings that need the whole series: noise or tissue that occurs twice, and traces over all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.copied import LEAST_STRENGTH, find_copy
from pacs_guard.detect.moved import LEAST_BLOCKS, find_twins
from pacs_guard.detect.whole import whole_traces
from pacs_guard.domain.verdict import Finding, FindingKind, Severity

if TYPE_CHECKING:
    from pacs_guard.detect.moved import Twins
    from pacs_guard.domain.volume import Volume

_DENSE_ABOVE_HU = -400.0
_MIDDLE_MM = 3.0
_STRENGTH_A_POINT = 2.0


def copied_noise(volume: Volume, detector: str) -> list[Finding]:
    """Return a finding for noise that repeats the place which CT-GAN's code takes it from; without p-value.

    Parameters
    ----------
    volume : Volume
        The series.
    detector : str
        Name of the detector that says so.
    """
    copy = find_copy(volume.hu, volume.spacing_mm)
    if copy is None or not copy.repeats:
        return []
    kind = FindingKind.FM if _is_dense(volume, copy.index, copy.row, copy.column) else FindingKind.FB
    z, y, x = copy.source
    sentence = (
        f"The noise at column {copy.column}, row {copy.row} of slice {copy.index + 1} of {len(volume.hu)} repeats that "
        f"at column {x}, row {y} of slice {z + 1}: they correlate with {copy.correlation:.2f}, "
        f"{copy.strength:.0f} times as much as other places of the slice do. A scanner never repeats its noise; "
        f"a touch-up that hides an altered place copies it."
    )
    return [
        Finding(
            kind=kind,
            detector=detector,
            sentence=sentence,
            # as many points over the series' operating point as the strength lies over its own, in steps of two
            score=(copy.strength - LEAST_STRENGTH) / _STRENGTH_A_POINT,
            series_uid=volume.series_uid,
            sop_uid=volume.sop_uids[copy.index],
            x=float(copy.column),
            y=float(copy.row),
            position_mm=volume.position_of(copy.index, copy.column, copy.row),
            cues={"copy_correlation": round(copy.correlation, 4), "copy_strength": round(copy.strength, 2)},
        )
    ]


def moved_tissue(volume: Volume, detector: str) -> list[Finding]:
    """Return a finding at either of two places that are the same voxel by voxel; without p-value.

    Which of them was there first cannot be told from the pixels, so people are shown both.

    Parameters
    ----------
    volume : Volume
        The series.
    detector : str
        Name of the detector that says so.
    """
    twins = find_twins(volume.hu, volume.spacing_mm)
    if twins is None:
        return []
    return [_twin(volume, detector, twins, one, other) for one, other in (twins.places, twins.places[::-1])]


def _twin(
    volume: Volume, detector: str, twins: Twins, one: tuple[int, int, int], other: tuple[int, int, int]
) -> Finding:
    (index, row, column), (z, y, x) = one, other
    sentence = (
        f"The tissue at column {column}, row {row} of slice {index + 1} of {len(volume.hu)} is that at column {x}, row "
        f"{y} of slice {z + 1}, voxel by voxel ({twins.blocks} blocks): one was copied over the other."
    )
    return Finding(
        kind=FindingKind.FM if _is_dense(volume, index, row, column) else FindingKind.FB,
        detector=detector,
        sentence=sentence,
        score=float(np.log2(twins.blocks / LEAST_BLOCKS)),
        series_uid=volume.series_uid,
        sop_uid=volume.sop_uids[index],
        x=float(column),
        y=float(row),
        position_mm=volume.position_of(index, column, row),
        cues={"same_blocks": float(twins.blocks)},
    )


def altered_as_a_whole(volume: Volume, detector: str) -> list[Finding]:
    """Return a notice for each trace over the whole series: it alone is no reason to hold a study."""
    return [
        Finding(
            kind=FindingKind.WHOLE,
            detector=detector,
            sentence=trace.sentence,
            severity=Severity.NOTICE,
            score=0.0,
            series_uid=volume.series_uid,
            cues={trace.name: round(trace.measured, 4), f"{trace.name}_limit": trace.limit},
        )
        for trace in whole_traces(volume.hu)
    ]


def _is_dense(volume: Volume, index: int, row: int, column: int) -> bool:
    half = [max(1, round(_MIDDLE_MM / spacing)) for spacing in volume.spacing_mm[1:]]
    middle = volume.hu[
        index,
        max(0, row - half[0]) : row + half[0] + 1,
        max(0, column - half[1]) : column + half[1] + 1,
    ]
    return float(np.mean(middle)) > _DENSE_ABOVE_HU
