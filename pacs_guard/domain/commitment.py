"""Storage commitment's requests and reports as values (PS3.4 J.3), and who answers for what a modality asks about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pacs_guard.domain.identifiers import uid
from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import CLASS_CONFLICT, NO_SUCH_INSTANCE, PROCESSING_FAILURE, Proof
from pacs_guard.errors import DataSetError, IdentifierError

if TYPE_CHECKING:
    from collections.abc import Sequence

SOP_CLASS = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model."""
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Its well-known instance."""
REQUEST = 1
"""Action Type ID of a request."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type IDs of a report."""
INVALID_ARGUMENT = 0x0115
NO_SUCH_EVENT = 0x0113
NO_SUCH_ACTION = 0x0123


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A SOP Class and SOP Instance UID."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What is asked about.

    Attributes
    ----------
    transaction_uid : str
    instances : tuple of Reference
    """

    transaction_uid: str
    instances: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What became of a request.

    Attributes
    ----------
    transaction_uid : str
    committed : tuple of Reference
    failed : tuple of (Reference, int)
        With the Failure Reason of each.
    """

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    failed: tuple[tuple[Reference, int], ...] = ()


def read_request(action_type: int, information: Any) -> CommitmentRequest:
    """Read an N-ACTION's Action Information (PS3.4 table J.3-1).

    Raises
    ------
    DataSetError
        With the N-ACTION status that says what is wrong.
    """
    if action_type != REQUEST:
        raise DataSetError(f"Action Type ID {action_type} was given; expected {REQUEST}", status=NO_SUCH_ACTION)
    instances = tuple(dict.fromkeys(_references(information.get("ReferencedSOPSequence"))))
    if not instances:
        raise DataSetError("Referenced SOP Sequence is empty or missing", status=INVALID_ARGUMENT)
    return CommitmentRequest(_uid(information, "TransactionUID"), instances)


def read_report(event_type: int, information: Any) -> CommitmentReport:
    """Read an N-EVENT-REPORT's Event Information (PS3.4 table J.3-2).

    Raises
    ------
    DataSetError
        With the N-EVENT-REPORT status that says what is wrong.
    """
    if event_type not in {ALL_COMMITTED, SOME_FAILED}:
        raise DataSetError(f"Event Type ID {event_type} was given; expected 1 or 2", status=NO_SUCH_EVENT)
    failed = information.get("FailedSOPSequence") or ()
    reasons = [int(item.get("FailureReason") or PROCESSING_FAILURE) for item in failed]
    return CommitmentReport(
        _uid(information, "TransactionUID"),
        tuple(_references(information.get("ReferencedSOPSequence"))),
        tuple(zip(_references(failed), reasons, strict=True)),
    )


def _references(sequence: Any) -> list[Reference]:
    return [
        Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))
        for item in sequence or ()
    ]


def _uid(information: Any, name: str) -> str:
    try:
        return uid(str(information.get(name) or ""), name=name)
    except IdentifierError as error:
        raise DataSetError(str(error), status=INVALID_ARGUMENT) from error


class Holder(StrEnum):
    """Who holds responsibility for what a modality asks to be committed."""

    NODE = "node"
    """This node: it says yes once its own copy is durable and its bytes are those that came."""
    PACS = "pacs"
    """The destinations: the node says yes once each of them proved that it has the instance."""
    REFUSE = "refuse"
    """Nobody: storage commitment is not offered."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What the node knows of one instance with the UID asked about.

    Attributes
    ----------
    sop_class_uid : str
    is_here : bool
        Whether its bytes are in the spool, and are those that came.
    study_state : StudyState
    ways : tuple of (ItemState, Proof or None)
        For each destination that it is to go to, or went to.
    """

    sop_class_uid: str
    is_here: bool
    study_state: StudyState
    ways: tuple[tuple[ItemState, Proof | None], ...] = ()


COMMITTED = 0
"""What `answer` returns where the holder vouches for the instance."""

_HELD = {StudyState.HELD, StudyState.REJECTED}
_WITHOUT_PROOF = {Proof.UNPROVED, Proof.UNASKED}


def answer(holder: Holder, sop_class_uid: str, copies: Sequence[Copy]) -> int | None:
    """Return whether `holder` vouches for an instance.

    Of several instances with one UID each has to be vouched for: nobody can tell which of them is meant.

    Returns
    -------
    int or None
        `COMMITTED`, a Failure Reason, or None if that cannot be said yet.
    """
    if not copies:
        return NO_SUCH_INSTANCE
    if any(copy.sop_class_uid != sop_class_uid for copy in copies):
        return CLASS_CONFLICT
    judge = _by_node if holder is Holder.NODE else _by_pacs
    answers = [judge(copy) for copy in copies]
    failures = [found for found in answers if found]
    if failures:
        return max(failures)
    return None if None in answers else COMMITTED


def _by_node(copy: Copy) -> int | None:
    if copy.is_here or _is_proved(copy):
        return COMMITTED
    return NO_SUCH_INSTANCE


def _by_pacs(copy: Copy) -> int | None:
    if _is_proved(copy):
        return COMMITTED
    # the modality must keep what the PACS does not have: a held study's original is evidence besides
    if copy.study_state in _HELD or any(_is_in_vain(*way) for way in copy.ways):
        return PROCESSING_FAILURE
    return None


def _is_proved(copy: Copy) -> bool:
    return bool(copy.ways) and all(way == (ItemState.DELIVERED, Proof.PROVED) for way in copy.ways)


def _is_in_vain(state: ItemState, proof: Proof | None) -> bool:
    return state is ItemState.FAILED or (state is ItemState.DELIVERED and proof in _WITHOUT_PROOF)
