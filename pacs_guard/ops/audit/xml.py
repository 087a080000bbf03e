"""An audit message's parts, and how they are written as XML (PS3.15 A.5.1)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pacs_guard.ops.audit.codes import Code

_LONGEST_TEXT = 1024
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (its section 2.2)."""


@dataclass(frozen=True, slots=True)
class Participant:
    """An ActiveParticipant.

    Attributes
    ----------
    user_id : str
    requestor : bool
        Whether it began what happened.
    roles : tuple of Code
    alternative_id : str or None
        For a node ``AETITLES=…`` (A.5.2.2).
    address : str or None
        IP address or host name.
    """

    user_id: str
    requestor: bool
    roles: tuple[Code, ...] = ()
    alternative_id: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Object:
    """A ParticipantObjectIdentification.

    Attributes
    ----------
    object_id : str
    id_type : Code
    type_code, role : str
        RFC 3881's numbers: 1 person or 2 system object; 1 patient, 3 report, 4 resource, 13 security resource.
    name : str
        The schema asks for a name or a query.
    details : mapping of str to str
        Type and value pairs.
    sop_classes : sequence of str
        Of a study.
    instances : int or None
        Of a study, how many.
    """

    object_id: str
    id_type: Code
    type_code: str
    role: str
    name: str
    details: Mapping[str, str] = field(default_factory=dict)
    sop_classes: Sequence[str] = ()
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """Everything of one audit message.

    Attributes
    ----------
    event_id : Code
    types : tuple of Code
    action : str
        C, R, U, D or E.
    at : float
        Seconds since the epoch.
    outcome : int
        0 success, 4 minor, 8 serious or 12 major failure.
    description : str
        Of the outcome; empty for none.
    participants : tuple of Participant
    objects : tuple of Object
    """

    event_id: Code
    types: tuple[Code, ...]
    action: str
    at: float
    outcome: int
    description: str
    participants: tuple[Participant, ...]
    objects: tuple[Object, ...]


def to_xml(message: Message, *, source_id: str, site_id: str | None) -> bytes:
    """Return a message as an XML document in UTF-8.

    Parameters
    ----------
    message : Message
    source_id : str
        AuditSourceID.
    site_id : str or None
        AuditEnterpriseSiteID.
    """
    root = ET.Element("AuditMessage")
    event = _element(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=datetime.fromtimestamp(message.at, UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=str(message.outcome),
    )
    _coded(event, "EventID", message.event_id)
    for code in message.types:
        _coded(event, "EventTypeCode", code)
    if message.description:
        ET.SubElement(event, "EventOutcomeDescription").text = clean(message.description)
    for participant in message.participants:
        _participant(root, participant)
    source = _element(root, "AuditSourceIdentification", AuditEnterpriseSiteID=site_id, AuditSourceID=source_id)
    _element(source, "AuditSourceTypeCode", **{"csd-code": "4"})  # an application server process
    for one in message.objects:
        _object(root, one)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def clean(text: str) -> str:
    """Return text without what XML cannot carry, and not longer than a message should be."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)[:_LONGEST_TEXT]


def _participant(root: ET.Element, participant: Participant) -> None:
    element = _element(
        root,
        "ActiveParticipant",
        UserID=participant.user_id,
        AlternativeUserID=participant.alternative_id,
        UserIsRequestor="true" if participant.requestor else "false",
        NetworkAccessPointID=participant.address,
        NetworkAccessPointTypeCode=_access_point(participant.address),
    )
    for role in participant.roles:
        _coded(element, "RoleIDCode", role)


def _access_point(address: str | None) -> str | None:
    """Return 1 for a machine's name, 2 for an IP address."""
    if address is None:
        return None
    return "2" if ":" in address or address.replace(".", "").isdigit() else "1"


def _object(root: ET.Element, one: Object) -> None:
    element = _element(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=one.object_id,
        ParticipantObjectTypeCode=one.type_code,
        ParticipantObjectTypeCodeRole=one.role,
    )
    _coded(element, "ParticipantObjectIDTypeCode", one.id_type)
    ET.SubElement(element, "ParticipantObjectName").text = clean(one.name)
    for name, value in one.details.items():
        encoded = base64.b64encode(clean(value).encode()).decode()
        _element(element, "ParticipantObjectDetail", type=name, value=encoded)
    if one.instances is None:
        return
    description = _element(element, "ParticipantObjectDescription")
    # the number is of all of them; only where there is one class is it that class's
    only = one.sop_classes[0] if len(one.sop_classes) == 1 else None
    _element(description, "SOPClass", UID=only, NumberOfInstances=str(one.instances))


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    _element(parent, name, displayName=code.meaning, **attributes)


def _element(parent: ET.Element, name: str, **attributes: str | None) -> ET.Element:
    given = {key: clean(value) for key, value in attributes.items() if value is not None}
    return ET.SubElement(parent, name, given)
