from __future__ import annotations

import pytest

from pacs_guard.detect.conflicts import uid_conflicts
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.verdict import Severity
from pacs_guard.domain.volume import AssembledSeries, InstanceFacts

CT = "1.2.840.10008.5.1.4.1.1.2"


def series(*sop_uids, pixels="p1"):
    facts = tuple(InstanceFacts(uid, "1.2.1", "1.2", CT, "hash-mine", pixel_sha256=pixels) for uid in sop_uids)
    return AssembledSeries("1.2", "1.2.1", facts)


def elsewhere(sop_uid, *, study="9.9", series_uid="9.9.1", sha256="hash-other"):
    return StoredInstance(7, InstanceKey(study, series_uid, sop_uid, sha256), CT, "1.2.840.10008.1.2", "f.dcm", 0, 1)


@pytest.mark.parametrize(
    ("theirs", "severity", "words"),
    [
        ("p2", Severity.SUSPECT, "other pixels"),
        ("p1", Severity.NOTICE, "the same pixels under another header"),
        (None, Severity.NOTICE, "cannot be compared any more"),
    ],
)
def test_pixels_decide_how_much_a_repeated_uid_weighs(theirs, severity, words):
    (finding,) = uid_conflicts(series("1.2.3"), [elsewhere("1.2.3")], {"hash-other": theirs})
    assert (finding.severity, finding.sop_uid) == (severity, "1.2.3")
    assert "in another study" in finding.sentence
    assert words in finding.sentence


def test_another_series_of_the_study_is_named_as_such():
    (finding,) = uid_conflicts(series("1.2.3"), [elsewhere("1.2.3", study="1.2")], {"hash-other": "p2"})
    assert "in another series of this study" in finding.sentence


def test_many_alike_are_one_finding_and_other_uids_are_none():
    others = [elsewhere("1.2.3"), elsewhere("1.2.4", sha256="hash-4"), elsewhere("1.2.5")]
    (finding,) = uid_conflicts(series("1.2.3", "1.2.4"), others, {"hash-other": "p2", "hash-4": "p2"})
    assert finding.sentence.startswith("2 SOP Instance UID(s)")


def test_conflicts_within_the_series_are_left_to_the_integrity_detector():
    assert uid_conflicts(series("1.2.3"), [elsewhere("1.2.3", study="1.2", series_uid="1.2.1")], {}) == ()
