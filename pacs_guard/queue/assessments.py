"""What a detector's worker writes down about a study: the assessment, its findings, and the words for who is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.queue.schema import assessments, findings

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from pacs_guard.domain.policy import Judgement
    from pacs_guard.domain.verdict import Finding, SeriesResult
    from pacs_guard.queue.rows import ClaimedStudy


class Cause(StrEnum):
    """Why a study was assessed."""

    FIRST = "first"
    """It was whole, and waited for its verdict."""
    LATE = "late"
    """It was forwarded unjudged before."""
    ANEW = "anew"
    """A person had it judged again, by the models in force then."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the worker writes down about one study.

    Attributes
    ----------
    judgement : Judgement
    series : tuple of SeriesResult
    bundles : dict of str to str
        Name and version of each detector that ran.
    evidence : str or None
        Folder of the pictures and the evidence file, relative to the data folder.
    started_at : float
        Seconds since the epoch.
    kinds : tuple of str
        Kinds of the suspect findings.
    hashes : dict of str to str
        SHA-256 of the manifest of each detector that has a bundle.
    """

    judgement: Judgement
    series: tuple[SeriesResult, ...]
    bundles: dict[str, str]
    evidence: str | None
    started_at: float
    kinds: tuple[str, ...] = ()
    hashes: dict[str, str] = field(default_factory=dict)


def verdict_columns(assessment: Assessment, now: float) -> dict[str, object]:
    """Return what a verdict changes in a study's row."""
    judgement = assessment.judgement
    scored = [series for series in assessment.series if series.score is not None]
    top = max(scored, key=lambda series: series.score or 0.0, default=None)
    return {
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "kinds": " ".join(assessment.kinds),
        "score": top.score if top else None,
        "p_value": top.p_value if top else None,
        "bypassed": judgement.bypassed,
        "decided_at": now,
    }


def announcement_of(study: ClaimedStudy, assessment: Assessment) -> dict[str, object]:
    """Say what was found without saying in whom."""
    return {
        "verdict": str(assessment.judgement.verdict),
        "kinds": list(assessment.kinds),
        "reason": assessment.judgement.reason,
        "sources": list(study.sources),
        "instances": len(study.instances),
        "detectors": assessment.bundles,
    }


def audited(assessment: Assessment) -> dict[str, object]:
    """Return what the audit trail is told of a verdict."""
    judgement = assessment.judgement
    return {
        "verdict": str(judgement.verdict),
        "decision": str(judgement.decision),
        "kinds": list(assessment.kinds),
        "reason": judgement.reason,
        "models": assessment.bundles,
    }


def write_assessment(
    connection: Connection, study: ClaimedStudy, assessment: Assessment, now: float, cause: Cause = Cause.FIRST
) -> int:
    """Write an assessment and its findings down, and return its id."""
    result = connection.execute(
        sa.insert(assessments).values(
            study_id=study.id,
            revision=study.revision,
            verdict=assessment.judgement.verdict,
            decision=assessment.judgement.decision,
            reason=assessment.judgement.reason,
            bundles=assessment.bundles,
            hashes=assessment.hashes,
            cause=cause,
            series=[_series_json(series) for series in assessment.series],
            evidence=assessment.evidence,
            started_at=assessment.started_at,
            finished_at=now,
        )
    )
    assert result.inserted_primary_key is not None  # noqa: S101  # an insert of one row has one
    assessment_id = int(result.inserted_primary_key[0])
    rows = [
        _finding_row(study.id, assessment_id, finding) for series in assessment.series for finding in series.findings
    ]
    if rows:
        connection.execute(sa.insert(findings), rows)
    return assessment_id


def _series_json(series: SeriesResult) -> dict[str, object]:
    return {
        "series_uid": series.series_uid,
        "verdict": str(series.verdict),
        "reason": series.reason,
        "score": series.score,
        "p_value": series.p_value,
    }


def _finding_row(study_id: int, assessment_id: int, finding: Finding) -> dict[str, object]:
    return {
        "assessment_id": assessment_id,
        "study_id": study_id,
        "kind": str(finding.kind),
        "severity": str(finding.severity),
        "detector": finding.detector,
        "score": finding.score,
        "sentence": finding.sentence,
        "details": asdict(finding),
    }
