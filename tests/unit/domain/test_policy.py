"""What becomes of a study, for every mode, verdict, failure and fallback."""

from __future__ import annotations

import itertools

import pytest

from pacs_guard.domain.policy import Decision, Fallback, Mode, Policy, judge, study_verdict, suspect_kinds
from pacs_guard.domain.verdict import Finding, FindingKind, SeriesResult, Severity, Verdict, series_verdict

FAILURE = "the detector ran out of memory"


@pytest.mark.parametrize(
    ("mode", "verdict", "failure", "undetermined", "on_failure"),
    list(itertools.product(Mode, Verdict, [None, FAILURE], Fallback, Fallback)),
)
def test_judgement(mode, verdict, failure, undetermined, on_failure):
    judgement = judge(Policy(mode, undetermined, on_failure), [SeriesResult("1", verdict, "why")], failure=failure)

    judged = Verdict.UNDETERMINED if failure and verdict is Verdict.CLEAN else verdict
    fallback = on_failure if failure else undetermined
    held = mode is Mode.ENFORCE and (
        judged is Verdict.SUSPECTED or (judged is Verdict.UNDETERMINED and fallback is Fallback.HOLD)
    )
    assert judgement.verdict is judged
    assert (judgement.decision is Decision.QUARANTINE) is held
    assert judgement.bypassed is (not held and judged is not Verdict.CLEAN)
    assert judgement.reason == (FAILURE if failure and judged is Verdict.UNDETERMINED else "why")


def test_suspicion_outweighs_doubt_and_doubt_outweighs_silence():
    clean, doubt, bad = (
        SeriesResult(value, value, value) for value in (Verdict.CLEAN, Verdict.UNDETERMINED, Verdict.SUSPECTED)
    )
    assert study_verdict([clean, doubt, bad])[0] is Verdict.SUSPECTED
    assert study_verdict([clean, doubt])[0] is Verdict.UNDETERMINED
    assert study_verdict([clean])[0] is Verdict.CLEAN
    assert study_verdict([])[0] is Verdict.UNDETERMINED


def test_series_out_of_scope_makes_no_doubt_of_a_clean_study_and_is_not_clean_alone():
    clean = SeriesResult("1", Verdict.CLEAN, "fine")
    outside = SeriesResult("2", Verdict.UNDETERMINED, "a localizer", out_of_scope=True)
    assert study_verdict([outside, clean]) == (Verdict.CLEAN, "fine; not judged: a localizer")
    assert study_verdict([outside]) == (Verdict.UNDETERMINED, "a localizer")


def test_series_verdict_weighs_findings_before_failures():
    strong = Finding(FindingKind.FM, "d", "strong", score=2)
    weak = Finding(FindingKind.FB, "d", "weak", score=1)
    notice = Finding(FindingKind.INTEGRITY, "d", "notice", Severity.NOTICE, score=9)
    assert series_verdict((weak, strong, notice), ("f",)) == (Verdict.SUSPECTED, "strong")
    assert series_verdict((notice,), ("f",)) == (Verdict.UNDETERMINED, "f")
    assert series_verdict((notice,), ())[0] is Verdict.CLEAN
    series = SeriesResult("1", Verdict.SUSPECTED, "x", findings=(weak, strong, notice, strong))
    assert suspect_kinds([series]) == ("FB", "FM")


def test_strictest_policy_holds_whatever_either_holds():
    one = Policy(Mode.SHADOW, Fallback.HOLD, Fallback.FORWARD, 5)
    other = Policy(Mode.ENFORCE, Fallback.FORWARD, Fallback.HOLD, 1)
    assert one.strictest(other) == other.strictest(one) == Policy(Mode.ENFORCE, Fallback.HOLD, Fallback.HOLD, 5)


@pytest.mark.parametrize(("mode", "wish"), list(itertools.product(Mode, Fallback)))
def test_what_was_altered_as_a_whole_is_held_only_where_the_policy_says_so(mode, wish):
    notice = Finding(FindingKind.WHOLE, "d", "resampled", Severity.NOTICE)
    series = [SeriesResult("1", Verdict.CLEAN, "fine", findings=(notice,))]
    judgement = judge(Policy(mode, altered_as_a_whole=wish), series)
    held = mode is Mode.ENFORCE and wish is Fallback.HOLD
    assert judgement.verdict is Verdict.CLEAN
    assert (judgement.decision is Decision.QUARANTINE) is held
    assert judgement.reason == ("resampled" if held else "fine")
    assert not judgement.bypassed


def test_the_stricter_source_decides_on_what_was_altered_as_a_whole():
    strict = Policy(altered_as_a_whole=Fallback.HOLD)
    assert Policy().strictest(strict).altered_as_a_whole is Fallback.HOLD
    assert Policy().strictest(Policy()).altered_as_a_whole is Fallback.FORWARD
