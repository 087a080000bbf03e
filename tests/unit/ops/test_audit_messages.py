from __future__ import annotations

import base64
from xml.etree import ElementTree as ET

import pytest

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.ops.audit.messages import MESSAGES, WITHHELD, Node, audit_message
from pacs_guard.queue.auditing import StoredEvent
from tests.unit.ops.audit_schema import problems

NODE = Node("PACSGUARD", "node.example.org", "guard-1", "Example Hospital")
FACTS = {
    "calling_ae": "CT1",
    "called_ae": "PACSGUARD",
    "address": "10.1.2.3",
    "source": "ct-1",
    "association": "a1",
    "instances": 3,
    "sop_classes": ["1.2.840.10008.5.1.4.1.1.2"],
    "reason": "a nodule was painted in",
    "verdict": "SUSPECTED",
    "decision": "quarantine",
    "kinds": ["FM", "integrity"],
    "models": {"forensic": "1.2"},
    "who": "Dr. Jones",
    "destination": "pacs",
    "failed": 0,
    "role": "detect",
    "count": 2,
    "certificate": "CN=ct1",
    "settings": ["tls.cert_file"],
    "proved": 2,
    "unproved": 1,
    "unasked": 0,
    "question": "commitment",
    "transaction": "1.2.9",
}


def stored(event, **facts) -> StoredEvent:
    return StoredEvent(1, event, 1_790_000_000.25, FACTS | facts, study_id=7, study_uid="1.2.3")


def parsed(document: bytes) -> ET.Element:
    return ET.fromstring(document)  # noqa: S314  # written by the code under test


def built(event, patient_id=None, **facts) -> ET.Element:
    return parsed(audit_message(stored(event, **facts), NODE, patient_id))


@pytest.mark.parametrize("event", AuditEvent)
def test_every_event_becomes_a_message_of_the_standards_structure(event):
    assert problems(audit_message(stored(event), NODE)) == []
    assert problems(audit_message(StoredEvent(1, event, 0.0, {}), NODE)) == []  # even if nothing is known


def test_the_table_has_every_event_and_only_those():
    assert set(MESSAGES) == set(AuditEvent)


@pytest.mark.parametrize(
    ("change", "clue"),
    [
        (lambda root: root.remove(root[0]), "has 0 EventIdentification"),
        (lambda root: root.append(root[0]), "the order is"),
        (lambda root: root[0].set("EventDateTime", "2026-01-01T00:00:00"), "EventDateTime="),
        (lambda root: root[0].set("EventOutcomeIndicator", "5"), "EventOutcomeIndicator="),
        (lambda root: root[0][0].attrib.pop("originalText"), "EventID has no originalText"),
        (lambda root: root[2].set("UserIsRequestor", "true"), "more than one requestor"),
        (lambda root: root[-1].remove(root[-1][1]), "has 0 ParticipantObjectName"),
        (lambda root: root[1].set("Name", "x"), "ActiveParticipant has Name"),
    ],
)
def test_the_check_finds_what_departs_from_the_structure(change, clue):
    root = built(AuditEvent.INSTANCES_RECEIVED)
    change(root)
    assert clue in "\n".join(problems(ET.tostring(root)))


def test_instances_received_name_source_destination_study_and_number():
    root = built(AuditEvent.INSTANCES_RECEIVED)
    assert root.find("EventIdentification/EventID").attrib == {
        "csd-code": "110104",
        "codeSystemName": "DCM",
        "displayName": "DICOM Instances Transferred",
        "originalText": "DICOM Instances Transferred",
    }
    assert root.find("EventIdentification").get("EventDateTime") == "2026-09-21T14:13:20.250+00:00"
    source, destination = root.findall("ActiveParticipant")
    assert (source.get("UserID"), source.get("NetworkAccessPointID"), source.get("NetworkAccessPointTypeCode")) == (
        "CT1",
        "10.1.2.3",
        "2",
    )
    assert source.find("RoleIDCode").get("csd-code") == "110153"
    assert destination.get("AlternativeUserID") == "AETITLES=PACSGUARD"
    assert destination.find("RoleIDCode").get("csd-code") == "110152"
    study, patient = root.findall("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2.3"
    assert study.find("ParticipantObjectDescription/SOPClass").attrib == {
        "UID": "1.2.840.10008.5.1.4.1.1.2",
        "NumberOfInstances": "3",
    }
    assert patient.get("ParticipantObjectID") == WITHHELD


def test_the_patient_is_named_only_where_the_site_wants_it():
    patient = built(AuditEvent.ASSESSED, "P-17").findall("ParticipantObjectIdentification")[1]
    assert patient.get("ParticipantObjectID") == "P-17"


def test_details_are_base64():
    study = built(AuditEvent.QUARANTINED).find("ParticipantObjectIdentification")
    details = {
        one.get("type"): base64.b64decode(one.get("value")).decode() for one in study.iter("ParticipantObjectDetail")
    }
    expected = {"verdict": "SUSPECTED", "decision": "quarantine", "kinds": "FM integrity", "models": "forensic 1.2"}
    assert {name: details[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("event", "facts", "outcome"),
    [
        (AuditEvent.ASSOCIATION_OPENED, {}, "0"),
        (AuditEvent.ASSOCIATION_REFUSED, {"reason": "calling_ae_title"}, "8"),
        (AuditEvent.ASSOCIATION_REFUSED, {"reason": "disk_watermark"}, "4"),
        (AuditEvent.DELIVERED, {"failed": 1}, "4"),
        (AuditEvent.DELIVERED, {"failed": 0}, "0"),
        (AuditEvent.INSTANCES_REFUSED, {}, "4"),
        (AuditEvent.PROOF, {"unproved": 1}, "4"),
        (AuditEvent.PROOF, {"unproved": 0}, "0"),
        (AuditEvent.COMMITMENT, {"unproved": 0}, "0"),
        (AuditEvent.PROOF_WAIVED, {}, "4"),
    ],
)
def test_outcome(event, facts, outcome):
    assert built(event, **facts).find("EventIdentification").get("EventOutcomeIndicator") == outcome


def test_what_a_peer_sends_cannot_leave_its_place_in_the_document():
    hostile = '"/><ActiveParticipant UserID="root" x="\x00\x1b[2J\ud800'
    document = audit_message(stored(AuditEvent.ASSOCIATION_REFUSED, calling_ae=hostile, reason=hostile), NODE)
    assert problems(document) == []
    assert len(parsed(document).findall("ActiveParticipant")) == 2
    assert b"\x00" not in document
    assert b"\x1b" not in document


def test_text_without_end_does_not_make_a_message_without_end():
    assert len(audit_message(stored(AuditEvent.RELEASED, reason="x" * 10**6), NODE)) < 5000


def test_each_refused_instance_is_named_with_its_reason():
    refused = ["1.2.3.4: A900 no", "1.2.3.5: C000 cut short"]
    assert problems(audit_message(stored(AuditEvent.INSTANCES_REFUSED, refused=refused), NODE)) == []
    details = built(AuditEvent.INSTANCES_REFUSED, refused=refused).findall(".//ParticipantObjectDetail")
    told = {one.get("type"): base64.b64decode(one.get("value")).decode() for one in details}
    assert told["refused 1"] == "1.2.3.4: A900 no"
    assert told["refused 2"] == "1.2.3.5: C000 cut short"


def test_whoever_asked_for_commitment_and_what_was_told_stand_in_the_message():
    root = built(AuditEvent.COMMITMENT)
    asker, node = root.findall("ActiveParticipant")
    assert (asker.get("UserID"), asker.get("UserIsRequestor"), node.get("UserIsRequestor")) == ("CT1", "true", "false")
    assert root.find("EventIdentification/EventTypeCode").get("csd-code") == "commitment-report"
    details = {
        one.get("type"): base64.b64decode(one.get("value")).decode() for one in root.iter("ParticipantObjectDetail")
    }
    assert (details["proved"], details["unproved"], details["transaction"]) == ("2", "1", "1.2.9")


def test_a_waived_proof_names_who_did_without():
    person, _ = built(AuditEvent.PROOF_WAIVED).findall("ActiveParticipant")
    assert (person.get("UserID"), person.get("UserIsRequestor")) == ("Dr. Jones", "true")
