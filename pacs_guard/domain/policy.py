"""Findings and failures in, a decision and its reasons out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pacs_guard.domain.verdict import FindingKind, SeriesResult, Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Mode(StrEnum):
    """What a source's verdicts lead to."""

    ENFORCE = "enforce"
    """Suspected studies are quarantined."""
    SHADOW = "shadow"
    """Studies are scored and counted, and nothing is held."""


class Fallback(StrEnum):
    """What happens to a study that could not be judged."""

    FORWARD = "forward"
    """It is forwarded, and the forwarding is counted as a bypass."""
    HOLD = "hold"
    """It is held for a person."""


class Decision(StrEnum):
    """What becomes of a study."""

    FORWARD = "forward"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a source's studies are treated.

    Attributes
    ----------
    mode : Mode
        Whether a suspicion holds the study.
    undetermined : Fallback
        For studies without anything that a detector can judge (not CT, no volume).
    detector_failure : Fallback
        For studies whose detector failed.
    longest_hold_seconds : float
        How long after its first instance a study may wait for a verdict before it is forwarded without one. A
        suspected study is never forwarded by the passing of time.
    altered_as_a_whole : Fallback
        For studies judged clean with a series that was resampled or re-exported as a whole. Harmless re-formatting
        does that too.
    """

    mode: Mode = Mode.ENFORCE
    undetermined: Fallback = Fallback.FORWARD
    detector_failure: Fallback = Fallback.FORWARD
    longest_hold_seconds: float = 3600.0
    altered_as_a_whole: Fallback = Fallback.FORWARD

    def strictest(self, other: Policy) -> Policy:
        """Return the policy that holds whatever either of the two holds."""
        return Policy(
            mode=Mode.ENFORCE if Mode.ENFORCE in (self.mode, other.mode) else Mode.SHADOW,
            undetermined=_stricter(self.undetermined, other.undetermined),
            detector_failure=_stricter(self.detector_failure, other.detector_failure),
            longest_hold_seconds=max(self.longest_hold_seconds, other.longest_hold_seconds),
            altered_as_a_whole=_stricter(self.altered_as_a_whole, other.altered_as_a_whole),
        )


def _stricter(one: Fallback, other: Fallback) -> Fallback:
    return Fallback.HOLD if Fallback.HOLD in (one, other) else Fallback.FORWARD


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision on a study, with its verdict and reasons.

    Attributes
    ----------
    decision : Decision
        What becomes of the study.
    verdict : Verdict
        What the detectors say; kept apart from the decision, which is the policy's.
    reason : str
        Why, in one sentence.
    bypassed : bool
        Whether it is forwarded although it was not judged clean.
    """

    decision: Decision
    verdict: Verdict
    reason: str
    bypassed: bool = False


def study_verdict(series: Iterable[SeriesResult]) -> tuple[Verdict, str]:
    """Combine the verdicts of a study's series: a suspicion outweighs all, a doubt outweighs silence.

    A CT study nearly always brings a localizer and a dose report along. Such series are out of scope: they stay
    undetermined themselves, and do not make a doubt of a study in which every CT series was judged clean. A study
    with nothing but such series, or with no series at all, is undetermined.
    """
    results = list(series)
    for verdict in (Verdict.SUSPECTED, Verdict.UNDETERMINED):
        reasons = [
            result.reason
            for result in results
            if result.verdict is verdict and (verdict is Verdict.SUSPECTED or not result.out_of_scope)
        ]
        if reasons:
            return verdict, reasons[0]
    clean = [result for result in results if result.verdict is Verdict.CLEAN]
    outside = [result for result in results if result.verdict is not Verdict.CLEAN]
    if clean:
        return Verdict.CLEAN, clean[0].reason + _aside(outside)
    if outside:
        return Verdict.UNDETERMINED, outside[0].reason
    return Verdict.UNDETERMINED, "the study has no series that could be judged"


def _aside(outside: list[SeriesResult]) -> str:
    return f"; not judged: {'; '.join(sorted({result.reason for result in outside}))}" if outside else ""


def judge(policy: Policy, series: Sequence[SeriesResult], *, failure: str | None = None) -> Judgement:
    """Decide what becomes of a study.

    Parameters
    ----------
    policy : Policy
        The strictest of the policies of the study's sources.
    series : sequence of SeriesResult
        What the detectors say of each series.
    failure : str, optional
        Why a detector could not be run, if one could not.

    Returns
    -------
    Judgement
    """
    verdict, reason = study_verdict(series)
    if verdict is not Verdict.SUSPECTED and failure is not None:
        verdict, reason = Verdict.UNDETERMINED, failure
    if verdict is Verdict.CLEAN:
        whole = _altered_as_a_whole(series)
        held = whole and policy.mode is Mode.ENFORCE and policy.altered_as_a_whole is Fallback.HOLD
        return Judgement(Decision.QUARANTINE, verdict, whole) if held else Judgement(Decision.FORWARD, verdict, reason)
    if policy.mode is Mode.SHADOW:
        return Judgement(Decision.FORWARD, verdict, reason, bypassed=True)
    if verdict is Verdict.SUSPECTED:
        return Judgement(Decision.QUARANTINE, verdict, reason)
    fallback = policy.detector_failure if failure is not None else policy.undetermined
    if fallback is Fallback.HOLD:
        return Judgement(Decision.QUARANTINE, verdict, reason)
    return Judgement(Decision.FORWARD, verdict, reason, bypassed=True)


def _altered_as_a_whole(series: Iterable[SeriesResult]) -> str:
    """Return what the first notice of that kind says; empty if there is none."""
    said = (one.sentence for result in series for one in result.findings if one.kind is FindingKind.WHOLE)
    return next(said, "")


def suspect_kinds(series: Iterable[SeriesResult]) -> tuple[str, ...]:
    """Return the kinds of the suspect findings, sorted, each once."""
    return tuple(
        sorted(
            {
                str(finding.kind)
                for result in series
                for finding in result.findings
                if finding.severity is Severity.SUSPECT
            }
        )
    )
