"""What a detector says of a series: findings, scores, operating points and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pacs_guard.domain.drift import Observation


class FindingKind(StrEnum):
    """What a finding claims was done."""

    FB = "FB"
    """False benign: a tumour was removed."""
    FM = "FM"
    """False malignant: a tumour was injected."""
    WHOLE = "whole"
    """The series was altered as a whole: resampled, or taken to few grey levels. Harmless re-formatting does it too."""
    INTEGRITY = "integrity"
    """The instances contradict themselves or one another."""


class Severity(StrEnum):
    """How much weight the policy gives a finding."""

    SUSPECT = "suspect"
    """Reason enough to hold the study."""
    NOTICE = "notice"
    """Worth recording and showing, not worth holding a study."""


class Verdict(StrEnum):
    """What the detectors together say of a series or a study."""

    CLEAN = "CLEAN"
    """Every detector judged it and none found anything at its operating point."""
    SUSPECTED = "SUSPECTED"
    """At least one finding is suspect."""
    UNDETERMINED = "UNDETERMINED"
    """It could not be judged; never to be read as clean."""


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle on a slice, in pixels; `x` counts columns and `y` rows, both from 0.

    Attributes
    ----------
    x0, y0 : int
        First column and first row inside.
    x1, y1 : int
        First column and first row beyond.
    """

    x0: int
    y0: int
    x1: int
    y1: int

    def as_list(self) -> list[int]:
        """Return ``[x0, y0, x1, y1]``."""
        return [self.x0, self.y0, self.x1, self.y1]


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspicious place, or one contradiction.

    Attributes
    ----------
    kind : FindingKind
        What was done.
    detector : str
        Name of the detector that says so.
    sentence : str
        Why, for a person.
    severity : Severity
        Whether it is reason enough to hold the study.
    score : float
        The detector's score, larger is more suspicious; 1.0 for a plain fact.
    p_value : float or None
        Probability of such a score on a clean series, calibrated; None for a plain fact.
    series_uid, sop_uid : str or None
        The series and the instance it was found in, if it lies in one.
    x, y : float or None
        Column and row of the most suspicious pixel.
    box : Box or None
        Extent on that slice.
    position_mm : tuple of float or None
        (x, y, z) in the patient coordinate system, mm (PS3.3 C.7.6.2).
    picture : str or None
        File name of its picture, in the evidence folder.
    cues : dict of str to float
        Named measurements that spoke for it.
    """

    kind: FindingKind
    detector: str
    sentence: str
    severity: Severity = Severity.SUSPECT
    score: float = 1.0
    p_value: float | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    x: float | None = None
    y: float | None = None
    box: Box | None = None
    position_mm: tuple[float, float, float] | None = None
    picture: str | None = None
    cues: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SliceScore:
    """The most suspicious place of one slice, whether or not it amounts to a finding.

    Attributes
    ----------
    sop_uid : str
        SOPInstanceUID of the slice.
    z_mm : float
        Position along the series normal, mm.
    score_fb, score_fm : float
        Larger is more suspicious.
    x, y : float
        Column and row of the most suspicious place.
    """

    sop_uid: str
    z_mm: float
    score_fb: float
    score_fm: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class CleanTable:
    """The clean patients with which a p-value compares.

    Attributes
    ----------
    name : str
        ``"all"``, or the stratum that the series was measured to be of.
    patients : int
        How many; no p-value under 1 / (patients + 1) exists.
    """

    name: str
    patients: int


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Scores from which on a finding is made.

    Attributes
    ----------
    fb, fm : float
        Threshold of each head on the series score.
    """

    fb: float
    fm: float


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """What the detectors say of one series.

    Attributes
    ----------
    series_uid : str
        SeriesInstanceUID.
    verdict : Verdict
        The worst of the detectors' answers.
    reason : str
        Why, in one sentence.
    score : float or None
        Highest calibrated series score; None where nothing was scored.
    p_value : float or None
        Its conformal p-value.
    slices : tuple of SliceScore
        In the order of the volume.
    findings : tuple of Finding
        Everything found.
    out_of_scope : bool
        Whether it is undetermined because nothing in it is a CT slice at all.
    observed : tuple of Observation
        What it adds to the histograms that show drift.
    p_value_from : CleanTable or None
        With whom the p-value compares; None where the detector does not say.
    """

    series_uid: str
    verdict: Verdict
    reason: str
    score: float | None = None
    p_value: float | None = None
    slices: tuple[SliceScore, ...] = ()
    findings: tuple[Finding, ...] = ()
    out_of_scope: bool = False
    observed: tuple[Observation, ...] = ()
    p_value_from: CleanTable | None = None


def series_verdict(findings: tuple[Finding, ...], failures: tuple[str, ...]) -> tuple[Verdict, str]:
    """Combine what the detectors found in a series and where they failed.

    A suspect finding outweighs a failure; a failure outweighs silence.

    Returns
    -------
    verdict : Verdict
    reason : str
        The sentence of the strongest finding, or of the first failure.
    """
    suspects = [finding for finding in findings if finding.severity is Severity.SUSPECT]
    if suspects:
        return Verdict.SUSPECTED, max(suspects, key=lambda finding: finding.score).sentence
    if failures:
        return Verdict.UNDETERMINED, failures[0]
    return Verdict.CLEAN, "nothing suspicious at the operating point"
