"""A detector that gives each lung slice as a whole to a trained classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.detector import DetectorResult
from pacs_guard.detect.preprocess import lung_crop, sample
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.detect.trained import Trained, kind_of
from pacs_guard.domain.verdict import Box, Finding, SliceScore
from pacs_guard.errors import DetectorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.detect.preprocess import Crop
    from pacs_guard.domain.volume import AssembledSeries, Volume

_CHUNK = 64


class SliceClassifier:
    """One classifier over whole slices reduced to their lungs; the highest slice speaks for the series.

    Parameters
    ----------
    bundle : Bundle
        Verified; its model is read here.

    Raises
    ------
    BundleError
        If the bundle is incomplete or made for other pictures.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.name = bundle.name
        self.version = bundle.version
        self._trained = Trained.read(bundle, "delocalised")

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:
        """Judge one series; see `pacs_guard.detect.detector.Detector`."""
        volume = series.volume
        if volume is None:
            return DetectorResult(undetermined=series.refusal or "there is no volume")
        crops = [lung_crop(hu, volume.spacing_mm[1:], self._trained.shape) for hu in volume.hu]
        seen = [index for index, crop in enumerate(crops) if crop is not None]
        if not seen:
            return DetectorResult(
                undetermined=f"no lung in any of the {len(crops)} slices; {self.name} judges lungs only"
            )
        try:
            found = self._score(volume, crops, seen)
        except (ValueError, IndexError, MemoryError) as error:
            raise DetectorError(f"{self.name} failed on series {series.series_uid}: {error}") from error
        best = seen[int(found.max(axis=1).argmax())]
        scored = dict(zip(seen, found, strict=True))
        score = float(scored[best].max())
        findings: tuple[Finding, ...] = ()
        if score >= self._trained.point:
            findings = (self._finding(volume, best, crops[best], scored[best], evidence),)
        slices = tuple(self._slice_score(volume, i, crops[i], scored.get(i)) for i in range(len(crops)))
        return DetectorResult(findings=findings, slices=slices, score=score, p_value=self._trained.p_value(score))

    def _score(self, volume: Volume, crops: Sequence[Crop | None], seen: Sequence[int]) -> NDArray[np.float64]:
        """Return the margins of the slices seen, a chunk of pictures in memory at a time."""
        found = []
        for start in range(0, len(seen), _CHUNK):
            pictures = [self._picture(volume, i, crops[i]) for i in seen[start : start + _CHUNK]]
            found.append(self._trained.margins(np.stack(pictures)))
        return np.concatenate(found)

    def _picture(self, volume: Volume, index: int, crop: Crop | None) -> NDArray[np.float32]:
        if crop is None:
            raise ValueError(f"slice {index} shows no lung")
        return sample(self._trained.window.apply(volume.hu[index]), crop)

    def _finding(
        self, volume: Volume, index: int, crop: Crop | None, values: NDArray[np.float64], evidence: Path | None
    ) -> Finding:
        kind, what = kind_of(values)
        box = _box(volume, crop)
        score = float(values.max())
        x, y = (box.x0 + box.x1 - 1) / 2, (box.y0 + box.y1 - 1) / 2
        return Finding(
            kind=kind,
            detector=self.name,
            sentence=(
                f"Slice {index + 1} of {len(volume.hu)} as a whole looks {what}: its score is {score:.2f}, the "
                f"operating point {self._trained.point:.2f}. The classifier names no place."
            ),
            score=score,
            p_value=self._trained.p_value(score),
            series_uid=volume.series_uid,
            sop_uid=volume.sop_uids[index],
            x=x,
            y=y,
            box=box,
            position_mm=volume.position_of(index, x, y),
            picture=self._trained.draw(
                self._picture(volume, index, crop),
                int(values.argmax()) + 1,
                evidence,
                f"{self.name}-{kind}-slice{index + 1:04d}",
            ),
        )

    def _slice_score(
        self, volume: Volume, index: int, crop: Crop | None, values: NDArray[np.float64] | None
    ) -> SliceScore:
        box = _box(volume, crop)
        removed, injected = (NOTHING, NOTHING) if values is None else (float(values[0]), float(values[-1]))
        return SliceScore(
            sop_uid=volume.sop_uids[index],
            z_mm=volume.depth_of(index),
            score_fb=removed,
            score_fm=injected,
            x=(box.x0 + box.x1 - 1) / 2,
            y=(box.y0 + box.y1 - 1) / 2,
        )


def _box(volume: Volume, crop: Crop | None) -> Box:
    """Return what was looked at: the crop within the slice, or the whole slice."""
    rows, columns = volume.hu.shape[1:]
    if crop is None:
        return Box(0, 0, columns, rows)
    half_y, half_x = (crop.scale * side / 2 for side in crop.shape)
    return Box(
        x0=max(0, round(crop.x - half_x + 0.5)),
        y0=max(0, round(crop.y - half_y + 0.5)),
        x1=min(columns, round(crop.x + half_x + 0.5)),
        y1=min(rows, round(crop.y + half_y + 0.5)),
    )
