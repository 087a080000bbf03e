"""The structure of an audit message as PS3.15 A.5.1 gives it, as a table that documents are checked against."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, OPTIONAL, SOME, ANY = (1, 1), (0, 1), (1, None), (0, None)
TOKEN = re.compile(r"\S(.*\S)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+")
BOOLEAN = re.compile("true|false|0|1")


def numbers(last: int) -> re.Pattern:
    return re.compile("|".join(str(number) for number in range(1, last + 1)))


def is_moment(value: str) -> bool:
    return datetime.fromisoformat(value).tzinfo is not None


def is_base64(value: str) -> bool:
    return base64.b64decode(value, validate=True) is not None


@dataclass
class Element:
    """What an element must and may have; children come in this order."""

    required: dict = field(default_factory=dict)
    optional: dict = field(default_factory=dict)
    children: list = field(default_factory=list)
    text: bool = False


CODED = Element({"csd-code": TOKEN, "codeSystemName": TOKEN, "originalText": TOKEN}, {"displayName": TOKEN})
EVENT = Element(
    {"EventDateTime": is_moment, "EventOutcomeIndicator": re.compile("0|4|8|12")},
    {"EventActionCode": re.compile("[CRUDE]")},
    [("EventID", ONE, CODED), ("EventTypeCode", ANY, CODED), ("EventOutcomeDescription", OPTIONAL, Element(text=True))],
)
PARTICIPANT = Element(
    {"UserID": re.compile(".*", re.DOTALL), "UserIsRequestor": BOOLEAN},
    {
        "AlternativeUserID": TOKEN,
        "UserName": TOKEN,
        "NetworkAccessPointID": TOKEN,
        "NetworkAccessPointTypeCode": numbers(5),
    },
    [("RoleIDCode", ANY, CODED)],
)
SOURCE = Element(
    {"AuditSourceID": TOKEN},
    {"AuditEnterpriseSiteID": TOKEN},
    [("AuditSourceTypeCode", ANY, Element({"csd-code": numbers(9)}))],
)
SOP_CLASS = Element({"NumberOfInstances": NUMBER}, {"UID": TOKEN}, [("Instance", ANY, Element({"UID": TOKEN}))])
OBJECT = Element(
    {"ParticipantObjectID": TOKEN},
    {
        "ParticipantObjectTypeCode": numbers(4),
        "ParticipantObjectTypeCodeRole": numbers(26),
        "ParticipantObjectDataLifeCycle": numbers(15),
        "ParticipantObjectSensitivity": TOKEN,
    },
    [
        ("ParticipantObjectIDTypeCode", ONE, CODED),
        ("ParticipantObjectName", ONE, Element(text=True)),
        ("ParticipantObjectDetail", ANY, Element({"type": TOKEN, "value": is_base64})),
        ("ParticipantObjectDescription", ANY, Element(children=[("SOPClass", ANY, SOP_CLASS)])),
    ],
)
MESSAGE = Element(
    children=[
        ("EventIdentification", ONE, EVENT),
        ("ActiveParticipant", SOME, PARTICIPANT),
        ("AuditSourceIdentification", ONE, SOURCE),
        ("ParticipantObjectIdentification", ANY, OBJECT),
    ]
)


def problems(document: bytes) -> list[str]:
    """Return everything in which a document departs from the schema."""
    root = ET.fromstring(document)  # noqa: S314  # written by the code under test
    if root.tag != "AuditMessage":
        return [f"the root is {root.tag}"]
    requestors = [one for one in root.iter("ActiveParticipant") if one.get("UserIsRequestor") in {"true", "1"}]
    many = ["more than one requestor"] if len(requestors) > 1 else []  # A.5.2
    return [*_problems(root, MESSAGE), *many]


def _problems(element: ET.Element, rule: Element) -> Iterator[str]:
    allowed = rule.required | rule.optional
    for name in rule.required.keys() - element.keys():
        yield f"{element.tag} has no {name}"
    for name, value in element.items():
        if name not in allowed:
            yield f"{element.tag} has {name}"
        elif not _fits(value, allowed[name]):
            yield f"{element.tag} has {name}={value!r}"
    if not rule.text and (element.text or "").strip():
        yield f"{element.tag} has text"
    yield from _order(element, rule)
    rules = {name: child for name, _, child in rule.children}
    for child in element:
        if child.tag in rules:
            yield from _problems(child, rules[child.tag])


def _fits(value: str, rule) -> bool:
    if isinstance(rule, re.Pattern):
        return rule.fullmatch(value) is not None
    try:
        return rule(value)
    except ValueError:
        return False


def _order(element: ET.Element, rule: Element) -> Iterator[str]:
    names = [child.tag for child in element]
    known = [name for name, _, _ in rule.children]
    if unknown := set(names) - set(known):
        yield f"{element.tag} contains {sorted(unknown)}"
        return
    if names != sorted(names, key=known.index):
        yield f"{element.tag}: the order is {names}"
    for name, (least, most), _ in rule.children:
        count = names.count(name)
        if count < least or (most is not None and count > most):
            yield f"{element.tag} has {count} {name}"
