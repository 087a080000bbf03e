"""A detector that gives each lung slice as a whole to a trained classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.detector import DetectorResult
from pacs_guard.detect.networks import Network
from pacs_guard.detect.preprocess import Window, lung_crop, sample
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.detect.slicemodels import read_model
from pacs_guard.domain.verdict import Box, Finding, FindingKind, SliceScore
from pacs_guard.errors import BundleError, DetectorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.detect.preprocess import Crop
    from pacs_guard.domain.volume import AssembledSeries, Volume

CLASSES = (("untampered", "tampered"), ("untampered", "FB", "FM"))
_CHUNK = 64


def margins(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each altered class is above the untampered one, shape (n, classes - 1)."""
    return scores[:, 1:] - scores[:, :1]


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
        self._classes = tuple(bundle.section("preprocessing", "classes"))
        form = bundle.section("preprocessing", "form")
        if form != "delocalised" or self._classes not in CLASSES:
            raise BundleError(f"{bundle.path} is for {form} pictures of {self._classes}; expected delocalised ones")
        rows, columns = bundle.section("preprocessing", "shape")
        self._shape = (int(rows), int(columns))
        low, high = bundle.section("preprocessing", "window_hu")
        self._window = Window(float(low), float(high))
        self._point = float(bundle.section("operating_point", "slice"))
        self._clean = [float(one) for one in bundle.section("calibration", "clean_patients")]
        self._model = read_model(bundle)

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:
        """Judge one series; see `pacs_guard.detect.detector.Detector`."""
        volume = series.volume
        if volume is None:
            return DetectorResult(undetermined=series.refusal or "there is no volume")
        crops = [lung_crop(hu, volume.spacing_mm[1:], self._shape) for hu in volume.hu]
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
        if score >= self._point:
            findings = (self._finding(volume, best, crops[best], scored[best], evidence),)
        slices = tuple(self._slice_score(volume, i, crops[i], scored.get(i)) for i in range(len(crops)))
        return DetectorResult(findings=findings, slices=slices, score=score, p_value=self._p_value(score))

    def _score(self, volume: Volume, crops: Sequence[Crop | None], seen: Sequence[int]) -> NDArray[np.float64]:
        """Return the margins of the slices seen, a chunk of pictures in memory at a time."""
        found = []
        for start in range(0, len(seen), _CHUNK):
            pictures = [self._picture(volume, i, crops[i]) for i in seen[start : start + _CHUNK]]
            found.append(margins(self._model.scores(np.stack(pictures))))
        return np.concatenate(found)

    def _picture(self, volume: Volume, index: int, crop: Crop | None) -> NDArray[np.float32]:
        if crop is None:
            raise ValueError(f"slice {index} shows no lung")
        return sample(self._window.apply(volume.hu[index]), crop)

    def _p_value(self, score: float) -> float:
        return (1 + sum(other >= score for other in self._clean)) / (1 + len(self._clean))

    def _finding(
        self, volume: Volume, index: int, crop: Crop | None, values: NDArray[np.float64], evidence: Path | None
    ) -> Finding:
        kind = FindingKind.FB if len(values) == 1 else (FindingKind.FB, FindingKind.FM)[int(values.argmax())]
        what = "altered; a removal and an injection are not told apart" if len(values) == 1 else f"altered ({kind})"
        box = _box(volume, crop)
        score = float(values.max())
        x, y = (box.x0 + box.x1 - 1) / 2, (box.y0 + box.y1 - 1) / 2
        return Finding(
            kind=kind,
            detector=self.name,
            sentence=(
                f"Slice {index + 1} of {len(volume.hu)} as a whole looks {what}: its score is {score:.2f}, the "
                f"operating point {self._point:.2f}. The classifier names no place."
            ),
            score=score,
            p_value=self._p_value(score),
            series_uid=volume.series_uid,
            sop_uid=volume.sop_uids[index],
            x=x,
            y=y,
            box=box,
            position_mm=volume.position_of(index, x, y),
            picture=self._draw(volume, index, crop, kind, int(values.argmax()) + 1, evidence),
        )

    def _draw(
        self, volume: Volume, index: int, crop: Crop | None, kind: FindingKind, answer: int, evidence: Path | None
    ) -> str | None:
        """Write the Grad-CAM overlay of a network; the other classifiers have no picture of what they looked at."""
        if evidence is None or not isinstance(self._model, Network):
            return None
        from pacs_guard.detect.gradcam import grad_cam, overlay  # noqa: PLC0415  # only where pictures are wanted
        from pacs_guard.detect.preprocess import network_input  # noqa: PLC0415

        picture = self._picture(volume, index, crop)
        given = network_input(self._model.name, picture[None])
        heat = grad_cam(self._model.model, self._model.layer, given, answer)[0]
        evidence.mkdir(parents=True, exist_ok=True)
        name = f"{self.name}-{kind}-slice{index + 1:04d}-gradcam.png"
        overlay(picture, heat).save(evidence / name)
        return name

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
