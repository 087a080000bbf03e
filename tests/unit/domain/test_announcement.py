from __future__ import annotations

import pytest

from pacs_guard.domain.announcement import BODY, SUBJECT, fill, problems

PAYLOAD = {
    "event": "study_quarantined",
    "study": 7,
    "time": 0.0,
    "kinds": ["FB", "FM"],
    "reason": "$study {0.__class__} %(x)s ${who}",
    "detectors": {"forensic": "1.4"},
}


def test_the_shipped_templates_name_known_fields_only():
    assert problems(SUBJECT, study_uid=False) == problems(BODY, study_uid=False) == []


@pytest.mark.parametrize(
    ("template", "clue"),
    [
        ("$patient_name", r"$patient_name was given; expected one of detectors, event"),
        ("$study_uid", r"$study_uid was given (set include_study_uid for it)"),
        ("costs 5 $", "a $ stands alone"),
        ("${study.__class__}", "a $ stands alone"),
    ],
)
def test_anything_else_is_refused(template, clue):
    [problem] = problems(template, study_uid=False)
    assert problem.startswith(clue)


def test_values_are_text_and_nothing_in_them_is_looked_at():
    assert fill("$study $kinds $detectors $time $reason $$", PAYLOAD, node="PACSGUARD") == (
        "7 FB FM forensic 1.4 1970-01-01T00:00:00+00:00 $study {0.__class__} %(x)s ${who} $"
    )


def test_the_study_uid_is_filled_only_if_it_is_handed_over():
    assert fill("$study_uid", PAYLOAD, node="N") == ""
    assert fill("$study_uid", PAYLOAD, node="N", study_uid="1.2.3") == "1.2.3"
