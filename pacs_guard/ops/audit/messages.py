"""Which message each event becomes: one table, and the participants and objects that its rows name (PS3.15 A.5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.ops.audit.codes import Code, EventId, EventType, ObjectIdType, RoleId
from pacs_guard.ops.audit.xml import Message, Object, Participant, to_xml

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.queue.auditing import StoredEvent

WITHHELD = "withheld"
"""Stands for a patient ID where the site does not want it in its audit trail; the standard asks for the object."""

_SUCCESS, _MINOR, _SERIOUS = 0, 4, 8
_STUDY_DETAILS = ("verdict", "decision", "kinds", "models", "proved", "unproved", "unasked", "question", "transaction")
_TRANSIENT = (
    *("too_many_associations", "too_many_associations_of_source", "disk_watermark"),
    *("database_unavailable", "stopping", "internal_error"),
)


@dataclass(frozen=True, slots=True)
class Node:
    """The node that reports.

    Attributes
    ----------
    ae_title : str
    host : str
        Name of the machine.
    source_id : str
        How the audit repository knows it.
    site_id : str or None
    """

    ae_title: str
    host: str
    source_id: str
    site_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Told:
    """What a message is made from.

    Attributes
    ----------
    facts : dict
    study_uid : str or None
    patient_id : str or None
        None where it is not to be told.
    node : Node
    """

    facts: dict[str, Any]
    study_uid: str | None
    patient_id: str | None
    node: Node

    def text(self, name: str) -> str:
        """Return a fact as text, empty if it is not known."""
        return str(self.facts.get(name, ""))

    def details(self, *names: str) -> dict[str, str]:
        """Return those of the named facts that are known, as text."""
        return {name: _joined(self.facts[name]) for name in names if name in self.facts}


def _peer(*roles: RoleId, requestor: bool) -> Callable[[_Told], Participant]:
    return lambda told: Participant(
        told.text("calling_ae") or "unknown",
        requestor,
        tuple(role.value for role in roles),
        f"AETITLES={told.text('calling_ae')}",
        told.text("address") or None,
    )


def _node(*roles: RoleId, requestor: bool = False) -> Callable[[_Told], Participant]:
    return lambda told: Participant(
        told.node.ae_title,
        requestor,
        tuple(role.value for role in roles),
        f"AETITLES={told.node.ae_title}",
        told.node.host,
    )


def _person(told: _Told) -> Participant:
    return Participant(told.text("who") or "unknown", requestor=True, address=told.text("address") or None)


def _application(told: _Told) -> Participant:
    role = (RoleId.APPLICATION.value,)
    return Participant(f"pacs-guard {told.text('role')}".strip(), requestor=False, roles=role, address=told.node.host)


def _switcher(told: _Told) -> Participant:
    """Return the person who switched models, or the role that starts with them."""
    return _person(told) if "who" in told.facts else _application(told)


def _destination(told: _Told) -> Participant:
    return Participant(told.text("destination"), requestor=False, roles=(RoleId.DESTINATION.value,))


def _study(told: _Told) -> Object:
    return Object(
        told.study_uid or "unknown",
        ObjectIdType.STUDY.value,
        type_code="2",
        role="3",
        name="study",
        details=told.details(*_STUDY_DETAILS) | _refused(told),
        sop_classes=told.facts.get("sop_classes", ()),
        instances=told.facts.get("instances"),
    )


def _refused(told: _Told) -> dict[str, str]:
    """Return a detail for each instance that was refused: its UID, the status answered and why."""
    return {f"refused {number}": str(one) for number, one in enumerate(told.facts.get("refused", ()), start=1)}


def _patient(told: _Told) -> Object:
    return Object(told.patient_id or WITHHELD, ObjectIdType.PATIENT.value, type_code="1", role="1", name=WITHHELD)


def _source(told: _Told) -> Object:
    """Return what an alert of the node is about: a source, a peer, or the node itself."""
    about = told.text("source") or told.text("calling_ae") or told.node.ae_title
    details = told.details("association", "called_ae", "count", "models", "role", "action")
    return Object(about, ObjectIdType.NODE.value, type_code="2", role="13", name=about, details=details)


def _joined(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return str(value)


def _success(_told: _Told) -> int:
    return _SUCCESS


def _minor(_told: _Told) -> int:
    return _MINOR


def _serious(_told: _Told) -> int:
    return _SERIOUS


def _refusal(told: _Told) -> int:
    return _MINOR if told.text("reason") in _TRANSIENT else _SERIOUS


def _delivery(told: _Told) -> int:
    return _MINOR if told.facts.get("failed") else _SUCCESS


def _vouched(told: _Told) -> int:
    return _MINOR if told.facts.get("unproved") else _SUCCESS


@dataclass(frozen=True, slots=True)
class _Row:
    """How an event is told."""

    event_id: EventId
    types: tuple[EventType, ...]
    action: str
    participants: tuple[Callable[[_Told], Participant], ...]
    objects: tuple[Callable[[_Told], Object], ...] = ()
    outcome: Callable[[_Told], int] = _success


_ALERT, _TRANSFER, _ACCESS = EventId.SECURITY_ALERT, EventId.INSTANCES_TRANSFERRED, EventId.INSTANCES_ACCESSED
_ARRIVAL = (_peer(RoleId.SOURCE, requestor=True), _node(RoleId.DESTINATION))
_DECISION = (EventType.OBJECT_SECURITY_CHANGED,)
_OF_STUDY = (_study, _patient)
_E, _T = AuditEvent, EventType

MESSAGES: dict[AuditEvent, _Row] = {
    _E.STARTED: _Row(EventId.APPLICATION_ACTIVITY, (_T.APPLICATION_START,), "E", (_application,)),
    _E.STOPPED: _Row(EventId.APPLICATION_ACTIVITY, (_T.APPLICATION_STOP,), "E", (_application,)),
    _E.MODELS: _Row(_ALERT, (_T.SOFTWARE_CONFIGURATION,), "E", (_switcher,), (_source,)),
    _E.SETTINGS_CHANGED: _Row(_ALERT, (_T.SECURITY_CONFIGURATION,), "E", (_application,), (_source,)),
    _E.SETTINGS_REFUSED: _Row(_ALERT, (_T.SECURITY_CONFIGURATION,), "E", (_application,), (_source,), _minor),
    _E.ASSOCIATION_OPENED: _Row(_ALERT, (_T.NODE_AUTHENTICATION,), "E", (_peer(requestor=True), _node()), (_source,)),
    _E.ASSOCIATION_REFUSED: _Row(
        _ALERT, (_T.NODE_AUTHENTICATION,), "E", (_peer(requestor=True), _node()), (_source,), _refusal
    ),
    _E.INSTANCES_RECEIVED: _Row(_TRANSFER, (), "C", _ARRIVAL, _OF_STUDY),
    _E.INSTANCES_REFUSED: _Row(_TRANSFER, (), "C", _ARRIVAL, _OF_STUDY, _minor),
    _E.DELIVERED: _Row(_TRANSFER, (), "R", (_node(RoleId.SOURCE, requestor=True), _destination), _OF_STUDY, _delivery),
    _E.PROOF: _Row(_ACCESS, (_T.PROOF,), "R", (_node(requestor=True), _destination), _OF_STUDY, _vouched),
    _E.PROOF_WAIVED: _Row(_ALERT, (*_DECISION, _T.PROOF_WAIVED), "E", (_person, _node()), (_study,), _minor),
    _E.COMMITMENT: _Row(_ACCESS, (_T.COMMITMENT,), "R", (_peer(requestor=True), _node()), _OF_STUDY, _vouched),
    _E.ASSESSED: _Row(_ACCESS, (_T.ASSESSED,), "R", (_node(requestor=True),), _OF_STUDY),
    _E.QUARANTINED: _Row(_ALERT, (*_DECISION, _T.QUARANTINED), "E", (_node(requestor=True),), (_study,), _serious),
    _E.RELEASED: _Row(_ALERT, (*_DECISION, _T.RELEASED), "E", (_person, _node()), (_study,)),
    _E.REJECTED: _Row(_ALERT, (*_DECISION, _T.REJECTED), "E", (_person, _node()), (_study,)),
    _E.LATE_FINDING: _Row(_ALERT, (_T.LATE_FINDING,), "E", (_node(requestor=True),), (_study,), _serious),
    _E.BYPASSED: _Row(_ALERT, (_T.EMERGENCY_OVERRIDE_STARTED,), "E", (_node(requestor=True),), (_study,), _minor),
    _E.BYPASS_ON: _Row(_ALERT, (_T.EMERGENCY_OVERRIDE_STARTED,), "E", (_person, _node()), (_source,), _minor),
    _E.BYPASS_OFF: _Row(_ALERT, (_T.EMERGENCY_OVERRIDE_STOPPED,), "E", (_person, _node()), (_source,)),
    _E.LOGIN: _Row(EventId.USER_AUTHENTICATION, (_T.LOGIN,), "E", (_person, _node())),
    _E.LOGIN_FAILED: _Row(EventId.USER_AUTHENTICATION, (_T.LOGIN,), "E", (_person, _node()), (), _minor),
    _E.LOGOUT: _Row(EventId.USER_AUTHENTICATION, (_T.LOGOUT,), "E", (_person, _node())),
}


def audit_message(event: StoredEvent, node: Node, patient_id: str | None = None) -> bytes:
    """Return the audit message of an event.

    Parameters
    ----------
    event : StoredEvent
    node : Node
    patient_id : str, optional
        Of the event's study, where the site wants it told.

    Returns
    -------
    bytes
        An XML document as PS3.15 A.5.1 describes it.
    """
    row = MESSAGES[event.event]
    told = _Told(event.facts, event.study_uid, patient_id, node)
    types: tuple[Code, ...] = tuple(one.value for one in row.types)
    message = Message(
        event_id=row.event_id.value,
        types=types,
        action=row.action,
        at=event.at,
        outcome=row.outcome(told),
        description=told.text("reason"),
        participants=tuple(make(told) for make in row.participants),
        objects=tuple(make(told) for make in row.objects),
    )
    return to_xml(message, source_id=node.source_id, site_id=node.site_id)
