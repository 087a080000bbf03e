"""Runs the detectors over one series and puts their answers together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from pacs_guard.detect.detector import DetectorResult
from pacs_guard.domain.text import printable
from pacs_guard.domain.verdict import SeriesResult, series_verdict
from pacs_guard.errors import AcceleratorLostError, DetectorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pacs_guard.detect.detector import Detector
    from pacs_guard.domain.verdict import Finding
    from pacs_guard.domain.volume import AssembledSeries

_LOG = structlog.get_logger(__name__)


class DetectMetrics(Protocol):
    """What detection reports of itself."""

    def scored(self, detector: str, score: float) -> None:
        """Observe a series score."""
        ...

    def detector_failed(self, detector: str) -> None:
        """Count a detector's failure."""
        ...

    def assessed(self, verdict: str, decision: str, seconds: float, *, bypassed: bool) -> None:
        """Count a study's verdict."""
        ...


class NoMetrics:
    """Reports nothing; for commands that run outside the node."""

    def scored(self, detector: str, score: float) -> None:
        """Do nothing."""

    def detector_failed(self, detector: str) -> None:
        """Do nothing."""

    def assessed(self, verdict: str, decision: str, seconds: float, *, bypassed: bool) -> None:
        """Do nothing."""


def assess_series(
    series: AssembledSeries,
    detectors: Sequence[Detector],
    metrics: DetectMetrics,
    evidence: Path | None = None,
    *,
    known: tuple[Finding, ...] = (),
) -> tuple[SeriesResult, str | None]:
    """Judge one series by every detector.

    Parameters
    ----------
    series : AssembledSeries
    detectors : sequence of Detector
    metrics : DetectMetrics
    evidence : Path, optional
        Folder for the pictures.
    known : tuple of Finding
        What is known of the series already.

    Returns
    -------
    result : SeriesResult
        A detector that fails makes the series undetermined unless another one finds something.
    failure : str or None
        Which detector failed and why, if one did.

    Raises
    ------
    AcceleratorLostError
        If a detector's device is gone.
    """
    answers: list[DetectorResult] = [DetectorResult(findings=known)]
    failure = None
    for detector in detectors:
        try:
            answer = detector.assess(series, evidence)
        except AcceleratorLostError:  # no verdict: another process, or another device, may give one
            metrics.detector_failed(detector.name)
            raise
        except DetectorError as error:
            failure = printable(f"detector {detector.name} failed: {error}")
        except Exception as error:  # noqa: BLE001  # whatever a detector does, the study must get its verdict
            _LOG.exception("detector failed", detector=detector.name)
            failure = f"detector {detector.name} failed: {type(error).__name__}"
        else:
            answers.append(answer)
            if answer.score is not None:
                metrics.scored(detector.name, answer.score)
            continue
        _LOG.error("detector failed", detector=detector.name, failure=failure)
        metrics.detector_failed(detector.name)
    return _combined(series, answers, failure), failure


def _combined(series: AssembledSeries, answers: list[DetectorResult], failure: str | None) -> SeriesResult:
    findings = tuple(finding for answer in answers for finding in answer.findings)
    doubts = [answer.undetermined for answer in answers if answer.undetermined is not None]
    if failure is not None:
        doubts.insert(0, failure)
    if series.refusal is not None:
        doubts.insert(0, series.refusal)
    verdict, reason = series_verdict(findings, tuple(doubts))
    scored = [answer for answer in answers if answer.score is not None]
    top = max(scored, key=lambda answer: answer.score or 0.0, default=None)
    return SeriesResult(
        series_uid=series.series_uid,
        verdict=verdict,
        reason=reason,
        score=top.score if top else None,
        p_value=top.p_value if top else None,
        slices=next((answer.slices for answer in answers if answer.slices), ()),
        findings=findings,
        out_of_scope=series.out_of_scope,
        p_value_from=top.p_value_from if top else None,
    )
