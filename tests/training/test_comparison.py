"""Champion against challenger, by patient."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pacs_guard.detect.detector import DetectorResult
from pacs_guard.domain.verdict import Finding, FindingKind, Severity
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.simulate import make_phantom
from training.comparison import Judged, Share, compare, judge_both, outcome, what_n_allows
from training.labelled import CLEAN, PRESUMED, TAMPERED


def judged(label, *pairs):
    """One patient for each pair of champion and challenger."""
    return [Judged(f"{label}{i}", label, bool(old), bool(new)) for i, (old, new) in enumerate(pairs)]


def proposed(*studies):
    return outcome(compare([one for group in studies for one in group]))


def test_losing_an_altered_patient_is_never_recommended():
    word, why = proposed(judged(TAMPERED, (1, 1), (1, 0)), judged(CLEAN, (1, 0), (1, 0), (1, 0)))
    assert word == "not recommended"
    assert "loses 1 altered patients" in why


def test_fewer_false_alarms_or_more_found_is_recommended():
    assert proposed(judged(TAMPERED, (1, 1)), judged(CLEAN, (1, 0)))[0] == "recommended"
    word, why = proposed(judged(TAMPERED, (0, 1)), judged(CLEAN, (1, 1)))
    assert (word, why) == ("recommended", "1 more altered patients found, 0 fewer false alarms, none lost")


def test_false_alarms_among_what_passed_count_against_it():
    word, why = proposed(
        judged(TAMPERED, (1, 1), (0, 1)), judged(CLEAN, (1, 0)), judged(PRESUMED, (0, 1), (0, 1), (0, 0))
    )
    assert word == "not recommended"
    assert "raises 1 more false alarms" in why
    assert (
        proposed(judged(TAMPERED, (1, 1)), judged(CLEAN, (1, 1)))[1]
        == "the challenger is no better on anyone held back"
    )


def test_a_patient_counts_once_and_is_found_only_if_every_altered_study_is():
    twice = [
        Judged("a", TAMPERED, champion=True, challenger=True),
        Judged("a", TAMPERED, champion=True, challenger=False),
    ]
    alarms = [Judged("b", CLEAN, champion=False, challenger=False), Judged("b", CLEAN, champion=True, challenger=False)]
    figures = compare([*twice, *alarms])
    assert (figures["found"].champion.count, figures["found"].challenger.count, figures["found"].challenger.n) == (
        1,
        0,
        1,
    )
    assert (figures["false_alarms"].champion.count, figures["false_alarms"].lost) == (1, 1)


def test_intervals_are_exact_and_the_paired_test_needs_six_of_one_kind():
    assert Share.of([True] * 6).low == pytest.approx(0.541, abs=1e-3)
    assert str(Share.of([])) == "none"
    assert compare(judged(TAMPERED, *[(0, 1)] * 5))["found"].p_value > 0.05
    assert compare(judged(TAMPERED, *[(0, 1)] * 6))["found"].p_value < 0.05
    assert "finding all cannot show more than 0.00" in what_n_allows(0, 3)


class Fixed:
    name, version = "fixed", "1"

    def __init__(self, *findings):
        self.findings = findings

    def assess(self, series, evidence=None):
        return DetectorResult(findings=self.findings)


def test_a_notice_is_no_suspicion_and_a_finding_counts_as_placed_only_where_the_label_is():
    volume = make_phantom(slices=4, size=64, slice_mm=5.0)
    place = {"kind": "FB", "sop_uid": volume.sop_uids[2], "x": 20.0, "y": 30.0}
    series = AssembledSeries(volume.study_uid, volume.series_uid, (), volume=volume)
    study = SimpleNamespace(
        patient="a", label=TAMPERED, places=(place,), folder=SimpleNamespace(name="s"), series=lambda: [series]
    )

    def finding(x, severity=Severity.SUSPECT):
        at = volume.position_of(2, x, 30.0)
        return Finding(FindingKind.FB, "fixed", "noise", severity=severity, position_mm=at)

    [one] = judge_both([study], Fixed(finding(55.0)), Fixed(finding(21.0)), lambda _: None)
    assert (one.champion, one.champion_hit, one.challenger, one.challenger_hit) == (True, False, True, True)
    [one] = judge_both([study], Fixed(finding(20.0, Severity.NOTICE)), Fixed(), lambda _: None)
    assert (one.champion, one.challenger) == (False, False)
