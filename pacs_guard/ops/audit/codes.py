"""The codes of audit messages: PS3.16 CID 400, 401, 402 and 404, RFC 3881, and a few of this project's own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PRIVATE_SCHEME = "99PACSGUARD"
"""Coding scheme designator of codes that no standard context group has (PS3.16 8.2)."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value (PS3.15 A.5.1, CodedValueType).

    Attributes
    ----------
    value : str
    meaning : str
    scheme : str
    """

    value: str
    meaning: str
    scheme: str = "DCM"


class EventId(Enum):
    """CID 400, Audit Event ID."""

    APPLICATION_ACTIVITY = Code("110100", "Application Activity")
    INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
    SECURITY_ALERT = Code("110113", "Security Alert")
    USER_AUTHENTICATION = Code("110114", "User Authentication")


class EventType(Enum):
    """CID 401, Audit Event Type Code, and what it has no code for."""

    APPLICATION_START = Code("110120", "Application Start")
    APPLICATION_STOP = Code("110121", "Application Stop")
    LOGIN = Code("110122", "Login")
    LOGOUT = Code("110123", "Logout")
    NODE_AUTHENTICATION = Code("110126", "Node Authentication")
    EMERGENCY_OVERRIDE_STARTED = Code("110127", "Emergency Override Started")
    SECURITY_CONFIGURATION = Code("110129", "Security Configuration")
    SOFTWARE_CONFIGURATION = Code("110131", "Software Configuration")
    OBJECT_SECURITY_CHANGED = Code("110135", "Object Security Attributes Changed")
    EMERGENCY_OVERRIDE_STOPPED = Code("110138", "Emergency Override Stopped")
    ASSESSED = Code("assessed", "Study assessed for altered pixels", PRIVATE_SCHEME)
    QUARANTINED = Code("quarantined", "Study quarantined", PRIVATE_SCHEME)
    LATE_FINDING = Code("late-finding", "Suspected alteration in a study already forwarded", PRIVATE_SCHEME)
    RELEASED = Code("released", "Study released from quarantine", PRIVATE_SCHEME)
    REJECTED = Code("rejected", "Study rejected", PRIVATE_SCHEME)
    PROOF = Code("delivery-proof", "Whether a destination vouches for what it took of a study", PRIVATE_SCHEME)
    PROOF_WAIVED = Code("proof-waived", "Proof of delivery waived", PRIVATE_SCHEME)
    COMMITMENT = Code("commitment-report", "Storage commitment reported to its asker", PRIVATE_SCHEME)


class RoleId(Enum):
    """CID 402, Audit Active Participant Role ID Code."""

    APPLICATION = Code("110150", "Application")
    APPLICATION_LAUNCHER = Code("110151", "Application Launcher")
    DESTINATION = Code("110152", "Destination Role ID")
    SOURCE = Code("110153", "Source Role ID")


class ObjectIdType(Enum):
    """CID 404, Audit Participant Object ID Type Code, and RFC 3881 5.5.4."""

    STUDY = Code("110180", "Study Instance UID")
    NODE = Code("110182", "Node ID")
    PATIENT = Code("2", "Patient Number", "RFC-3881")
