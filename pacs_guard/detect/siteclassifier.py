"""A detector that gives the surroundings of candidate sites to a classifier trained on known sites."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.candidates import series_candidates
from pacs_guard.detect.detector import DetectorResult
from pacs_guard.detect.preprocess import sample, site_crop
from pacs_guard.detect.scoremap import NOTHING
from pacs_guard.detect.trained import Trained, kind_of
from pacs_guard.domain.verdict import Box, Finding, SliceScore
from pacs_guard.errors import DetectorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.detect.candidates import Candidate
    from pacs_guard.domain.volume import AssembledSeries, Volume

CUBE_MM = 32.0
"""Edge of the cube that CT-GAN alters: findings are at least this far apart, and their box is as large."""

_FINDINGS_MOST = 5
_CHUNK = 64


class SiteClassifier:
    """One classifier over candidate sites in the lungs; the highest site speaks for the series.

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
        self._trained = Trained.read(bundle, "localised")

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:
        """Judge one series; see `pacs_guard.detect.detector.Detector`."""
        volume = series.volume
        if volume is None:
            return DetectorResult(undetermined=series.refusal or "there is no volume")
        sites = series_candidates(volume.hu, volume.spacing_mm)
        if not sites:
            return DetectorResult(
                undetermined=f"no lung in any of the {len(volume.hu)} slices; {self.name} judges lungs only"
            )
        try:
            found = self._score(volume, sites)
        except (ValueError, IndexError, MemoryError) as error:
            raise DetectorError(f"{self.name} failed on series {series.series_uid}: {error}") from error
        highest = found.max(axis=1)
        chosen = _apart(volume, sites, highest, self._trained.point)
        return DetectorResult(
            findings=tuple(self._finding(volume, sites[i], found[i], len(sites), evidence) for i in chosen),
            slices=_slice_scores(volume, sites, found),
            score=float(highest.max()),
            p_value=self._trained.p_value(float(highest.max())),
        )

    def _score(self, volume: Volume, sites: Sequence[Candidate]) -> NDArray[np.float64]:
        """Return the margins of all sites, a chunk of pictures in memory at a time."""
        found: list[NDArray[np.float64]] = []
        pictures: list[NDArray[np.float32]] = []
        for index, own in groupby(sites, key=lambda one: one.index):
            grey = self._trained.window.apply(volume.hu[index])
            pictures += [sample(grey, site_crop(one.x, one.y, self._trained.shape)) for one in own]
            while len(pictures) >= _CHUNK:
                found.append(self._trained.margins(np.stack(pictures[:_CHUNK])))
                del pictures[:_CHUNK]
        if pictures:
            found.append(self._trained.margins(np.stack(pictures)))
        return np.concatenate(found)

    def _finding(
        self, volume: Volume, site: Candidate, values: NDArray[np.float64], count: int, evidence: Path | None
    ) -> Finding:
        kind, what = kind_of(values)
        score = float(values.max())
        point = self._trained.point
        grey = self._trained.window.apply(volume.hu[site.index])
        picture = sample(grey, site_crop(site.x, site.y, self._trained.shape))
        stem = f"{self.name}-{kind}-slice{site.index + 1:04d}-x{site.x}-y{site.y}"
        return Finding(
            kind=kind,
            detector=self.name,
            sentence=(
                f"Slice {site.index + 1} of {len(volume.hu)}, column {site.x}, row {site.y} looks {what}: its score is "
                f"{score:.2f}, the operating point {point:.2f}; {count} places of the lungs were looked at."
            ),
            score=score,
            p_value=self._trained.p_value(score),
            series_uid=volume.series_uid,
            sop_uid=volume.sop_uids[site.index],
            x=float(site.x),
            y=float(site.y),
            box=_cube(volume, site),
            position_mm=volume.position_of(site.index, float(site.x), float(site.y)),
            picture=self._trained.draw(picture, int(values.argmax()) + 1, evidence, stem),
        )


def _apart(volume: Volume, sites: Sequence[Candidate], scores: NDArray[np.float64], point: float) -> list[int]:
    """Return the highest sites over the point, the highest first, none within a cube of a higher one."""
    places = np.array([(one.index, one.y, one.x) for one in sites]) * volume.spacing_mm
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < point or len(chosen) == _FINDINGS_MOST:
            break
        if all(np.abs(places[i] - places[other]).max() >= CUBE_MM for other in chosen):
            chosen.append(int(i))
    return chosen


def _slice_scores(volume: Volume, sites: Sequence[Candidate], found: NDArray[np.float64]) -> tuple[SliceScore, ...]:
    """Return the highest site of every slice; slices between those with candidates have nothing."""
    best: dict[int, int] = {}
    for i, one in enumerate(sites):
        if one.index not in best or found[i].max() > found[best[one.index]].max():
            best[one.index] = i
    rows, columns = volume.hu.shape[1:]
    scores = []
    for index, uid in enumerate(volume.sop_uids):
        at = best.get(index)
        removed, injected = (NOTHING, NOTHING) if at is None else (float(found[at, 0]), float(found[at, -1]))
        x, y = ((columns - 1) / 2, (rows - 1) / 2) if at is None else (float(sites[at].x), float(sites[at].y))
        scores.append(SliceScore(uid, volume.depth_of(index), removed, injected, x, y))
    return tuple(scores)


def _cube(volume: Volume, site: Candidate) -> Box:
    rows, columns = volume.hu.shape[1:]
    half_y, half_x = (round(CUBE_MM / 2 / spacing) for spacing in volume.spacing_mm[1:])
    return Box(
        x0=max(0, site.x - half_x),
        y0=max(0, site.y - half_y),
        x1=min(columns, site.x + half_x + 1),
        y1=min(rows, site.y + half_y + 1),
    )
