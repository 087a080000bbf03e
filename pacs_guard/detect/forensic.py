"""Find altered noise texture over the lungs of every slice, with small learned networks."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.classifier import Classifier, single_threaded
from pacs_guard.detect.conformal import CleanTables
from pacs_guard.detect.cues import FEATURE_NAMES, cues_at, extent_of, sentence_of
from pacs_guard.detect.detector import DetectorResult
from pacs_guard.detect.features import Raster, measure_slice
from pacs_guard.detect.heap import keep_freed_memory
from pacs_guard.detect.scoremap import NOTHING, Peak, agreement, highest, peaks, slice_map
from pacs_guard.detect.seriestraces import altered_as_a_whole, copied_noise, moved_tissue
from pacs_guard.detect.strata import stratum_of
from pacs_guard.domain.verdict import Box, Finding, FindingKind, SliceScore
from pacs_guard.errors import BundleError, DetectorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.detect.conformal import CleanScores
    from pacs_guard.detect.features import Sites, SliceMeasurements
    from pacs_guard.domain.volume import AssembledSeries, Volume

WEIGHTS = "weights.npz"
HEADS = (FindingKind.FB, FindingKind.FM)

_THREADS = 2
_BOX_MM = 32.0
_SMOOTHING_MM = {FindingKind.FB: 5.0, FindingKind.FM: 3.0}
_LEAST_AXIAL_COSINE = 0.8


@dataclass(frozen=True, slots=True)
class Head:
    """The networks of one kind of finding, and the line that makes their output comparable between the heads.

    Attributes
    ----------
    classifier : Classifier
        From features to log-odds.
    slope, intercept : float
        From smoothed log-odds to the log-odds that a slice with this maximum was altered.
    """

    classifier: Classifier
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class SeriesMaps:
    """Score maps of a volume.

    Attributes
    ----------
    raster : Raster
        Of every slice.
    maps : dict of FindingKind to ndarray of float32, shape (slices, rows, columns) of the raster
        `NOTHING` where there is no site.
    """

    raster: Raster
    maps: dict[FindingKind, NDArray[np.float32]]

    @property
    def has_lung(self) -> bool:
        """Whether there is any site at all."""
        return any(bool((one > NOTHING).any()) for one in self.maps.values())


def score_slice(
    measured: SliceMeasurements, heads: Mapping[FindingKind, Head], raster: Raster
) -> dict[FindingKind, NDArray[np.float32]]:
    """Return each head's smoothed and calibrated map of one slice."""
    sites = {FindingKind.FB: measured.lung, FindingKind.FM: measured.dense}
    maps = {}
    for kind, head in heads.items():
        raw = head.classifier.log_odds(sites[kind].features)
        smooth = smoothed_map(sites[kind], raw, raster, kind)
        maps[kind] = np.where(smooth > NOTHING, head.slope * smooth + head.intercept, NOTHING).astype(np.float32)
    return maps


def smoothed_map(sites: Sites, raw: NDArray[np.float32], raster: Raster, kind: FindingKind) -> NDArray[np.float32]:
    """Return a head's log-odds at its sites as a map, smoothed as this head's are."""
    return slice_map(sites, raw, raster, _SMOOTHING_MM[kind])


def score_volume(
    hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], heads: Mapping[FindingKind, Head]
) -> SeriesMaps:
    """Return the maps of a volume, one x."""
    raster = Raster.of(hu.shape[1:], spacing_mm[1:])
    maps = {kind: np.full((len(hu), *raster.shape), NOTHING, np.float32) for kind in heads}

    def score(index: int) -> None:
        measured = measure_slice(hu[index], spacing_mm[1:])
        if measured is not None:
            for kind, scores in score_slice(measured, heads, raster).items():
                maps[kind][index] = scores

    # filters leave the interpreter to other threads; each holds the features of one slice
    with single_threaded(), ThreadPoolExecutor(_THREADS) as threads:
        deque(threads.map(score, range(len(hu))), maxlen=0)
    return SeriesMaps(raster, maps)


def heads_of(bundle: Bundle) -> dict[FindingKind, Head]:
    """Return the heads that a bundle holds.

    Raises
    ------
    BundleError
        If the bundle was made for other features, or is incomplete.
    """
    arrays, heads = bundle.arrays(WEIGHTS), {}
    for kind in HEADS:
        if tuple(bundle.section("preprocessing", "features", kind)) != FEATURE_NAMES[kind]:
            raise BundleError(f"{bundle.path} was trained on other features than this release measures")
        classifier = Classifier.from_arrays(arrays, kind, len(FEATURE_NAMES[kind]))
        slope, intercept = bundle.section("preprocessing", "score_line", kind)
        heads[kind] = Head(classifier, float(slope), float(intercept))
    return heads


class ForensicDetector:
    """The learned detector of altered noise texture.

    Parameters
    ----------
    bundle : Bundle
        Verified; its weights are read here.

    Raises
    ------
    BundleError
        If the bundle was made for other features, or is incomplete.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.name = bundle.name
        self.version = bundle.version
        self._heads = heads_of(bundle)
        keep_freed_memory()
        # one slice has no neighbours to agree with, so it is held to a point of its own
        self._points = {of: bundle.section("operating_point", of) for of in ("series", "slice")}
        self._clean = {of: CleanTables.from_section(bundle.section("calibration", of)) for of in ("series", "slice")}

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:
        """Judge one series; see `pacs_guard.detect.detector.Detector`."""
        volume = series.volume
        if volume is None:
            return DetectorResult(undetermined=series.refusal or "there is no volume")
        if not _is_axial(volume):
            return DetectorResult(undetermined="not axial slices; the forensic detector looks at axial slices only")
        try:
            scored = score_volume(volume.hu, volume.spacing_mm, self._heads)
            if not scored.has_lung:
                return DetectorResult(undetermined=_no_lung(volume))
            return self._judge(volume, scored, evidence)
        except (ValueError, IndexError, FloatingPointError, MemoryError) as error:
            raise DetectorError(f"{self.name} failed on series {series.series_uid}: {error}") from error

    def _judge(self, volume: Volume, scored: SeriesMaps, evidence: Path | None) -> DetectorResult:
        of = "series" if len(volume.hu) > 1 else "slice"
        table, clean = self._clean[of].table_for(stratum_of(volume))
        with ThreadPoolExecutor(_THREADS) as threads:
            means = threads.map(lambda maps: agreement(maps, volume.spacing_mm[0]), scored.maps.values())
            agreed = dict(zip(scored.maps, means, strict=True))
        findings = altered_as_a_whole(volume, self.name)
        spacing = (volume.spacing_mm[0], *scored.raster.spacing_mm)
        for kind, maps in agreed.items():
            for peak in peaks(maps, spacing, float(self._points[of][kind.lower()])):
                extent = extent_of(maps, peak, spacing)
                findings.append(self._finding(volume, scored.raster, kind, peak, extent, clean))
        score = max(highest(maps).score for maps in agreed.values())
        with single_threaded(), ThreadPoolExecutor(_THREADS) as threads:
            found = threads.map(lambda look: look(volume, self.name), (copied_noise, moved_tissue))
            copies = [self._scored_copy(volume, one, clean) for of_one in found for one in of_one]
        findings += copies
        score = max([score, *(one.score for one in copies)])
        findings.sort(key=lambda finding: -finding.score)
        if evidence is not None:
            findings = [self._with_picture(volume, scored, one, evidence) for one in findings]
        return DetectorResult(
            findings=tuple(findings),
            slices=tuple(_slice_score(volume, scored, index) for index in range(len(volume.hu))),
            score=score,
            p_value=clean.p_value("any", score),
            p_value_from=table,
        )

    def _finding(
        self,
        volume: Volume,
        raster: Raster,
        kind: FindingKind,
        peak: Peak,
        extent: dict[str, float],
        clean: CleanScores,
    ) -> Finding:
        of = "series" if len(volume.hu) > 1 else "slice"
        x, y = raster.x(peak.column), raster.y(peak.row)
        cues = cues_at(volume, kind, peak)
        p_value = clean.p_value(kind.lower(), peak.score)
        place = f"column {x:.0f}, row {y:.0f} of slice {peak.index + 1} of {len(volume.hu)}"
        sentence = sentence_of(kind, place, cues)
        if of == "slice":
            sentence += " Only this one slice was there to judge."
        return Finding(
            kind=kind,
            detector=self.name,
            sentence=sentence,
            score=peak.score,
            p_value=p_value,
            series_uid=volume.series_uid,
            sop_uid=volume.sop_uids[peak.index],
            x=x,
            y=y,
            box=_box(volume, x, y),
            position_mm=volume.position_of(peak.index, x, y),
            cues={**cues, **extent, "clean_patients": float(clean.patients)},
        )

    def _scored_copy(self, volume: Volume, copied: Finding, clean: CleanScores) -> Finding:
        """Put a copy on the scale of the series scores: from the operating point upwards."""
        score = copied.score + float(self._points["series"][copied.kind.lower()])
        p_value = clean.p_value(copied.kind.lower(), score)
        box = _box(volume, float(copied.x or 0), float(copied.y or 0))
        return replace(copied, score=score, p_value=p_value, box=box)

    def _with_picture(self, volume: Volume, scored: SeriesMaps, finding: Finding, evidence: Path) -> Finding:
        from pacs_guard.detect.explain import draw_finding  # noqa: PLC0415  # the imaging library is slow to import

        if finding.kind not in scored.maps:
            return finding  # it lies in no place of its own
        index = volume.sop_uids.index(str(finding.sop_uid))
        picture = draw_finding(volume, index, finding, scored.maps[finding.kind][index], scored.raster, evidence)
        return replace(finding, picture=picture)


def _is_axial(volume: Volume) -> bool:
    row, column = np.array(volume.orientation[:3]), np.array(volume.orientation[3:])
    return abs(float(np.cross(row, column)[2])) >= _LEAST_AXIAL_COSINE


def _no_lung(volume: Volume) -> str:
    slices = "the one slice" if len(volume.hu) == 1 else f"any of the {len(volume.hu)} slices"
    return f"no lung in {slices}; the forensic detector judges lungs only"


def _slice_score(volume: Volume, scored: SeriesMaps, index: int) -> SliceScore:
    best = {kind: highest(maps[index : index + 1]) for kind, maps in scored.maps.items()}
    place = max(best.values(), key=lambda peak: peak.score)
    return SliceScore(
        sop_uid=volume.sop_uids[index],
        z_mm=volume.depth_of(index),
        score_fb=best[FindingKind.FB].score,
        score_fm=best[FindingKind.FM].score,
        x=scored.raster.x(place.column),
        y=scored.raster.y(place.row),
    )


def _box(volume: Volume, x: float, y: float) -> Box:
    rows, columns = volume.hu.shape[1:]
    half_y, half_x = (0.5 * _BOX_MM / spacing for spacing in volume.spacing_mm[1:])
    return Box(
        x0=max(0, round(x - half_x)),
        y0=max(0, round(y - half_y)),
        x1=min(columns, round(x + half_x)),
        y1=min(rows, round(y + half_y)),
    )
