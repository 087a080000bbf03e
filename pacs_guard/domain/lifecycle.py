"""The life of a study as one table.

RECEIVING ──quiet──▶ READY ──claimed──▶ ASSESSING ──cleared──▶ FORWARDING ──all delivered──▶ DELIVERED
    ▲                  ▲                   │  │                     │
    │                  └───lease expired───┘  └──suspected──▶ HELD ─┤released
    └── a late instance, from any state                        │    └──given up──▶ FAILED ──retried──▶ FORWARDING
                                                               └──rejected──▶ REJECTED
"""

from __future__ import annotations

from enum import StrEnum

from pacs_guard.errors import LifecycleError


class StudyState(StrEnum):
    """Where a study stands."""

    RECEIVING = "receiving"
    """Instances may still come."""
    READY = "ready"
    """Whole, waiting for a detector."""
    ASSESSING = "assessing"
    """Leased by a detector worker."""
    FORWARDING = "forwarding"
    """Cleared, on its way to the destinations."""
    DELIVERED = "delivered"
    """Every destination has every instance."""
    FAILED = "failed"
    """At least one destination was given up on."""
    HELD = "held"
    """In quarantine, waiting for a person."""
    REJECTED = "rejected"
    """A person confirmed that it must not be forwarded."""


class StudyEvent(StrEnum):
    """What can happen to a study."""

    INSTANCE_RECEIVED = "instance received"
    COMPLETED = "completed"
    CLAIMED = "claimed"
    LEASE_EXPIRED = "lease expired"
    CLEARED = "cleared"
    SUSPECTED = "suspected"
    BYPASSED = "bypassed"
    ALL_DELIVERED = "all delivered"
    GIVEN_UP = "given up"
    RETRIED = "retried"
    RELEASED = "released"
    REJECTED = "rejected"


_S, _E = StudyState, StudyEvent

TRANSITIONS: dict[tuple[StudyState, StudyEvent], StudyState] = {
    # a late instance re-opens the study, wherever it stands; a hold that no person has lifted comes back afterwards
    **{(state, _E.INSTANCE_RECEIVED): _S.RECEIVING for state in StudyState},
    (_S.RECEIVING, _E.COMPLETED): _S.READY,
    (_S.READY, _E.CLAIMED): _S.ASSESSING,
    (_S.ASSESSING, _E.LEASE_EXPIRED): _S.READY,
    (_S.ASSESSING, _E.CLEARED): _S.FORWARDING,
    (_S.ASSESSING, _E.SUSPECTED): _S.HELD,
    # the longest hold is over without a verdict: care is not blocked
    (_S.READY, _E.BYPASSED): _S.FORWARDING,
    (_S.ASSESSING, _E.BYPASSED): _S.FORWARDING,
    (_S.FORWARDING, _E.ALL_DELIVERED): _S.DELIVERED,
    (_S.FORWARDING, _E.GIVEN_UP): _S.FAILED,
    (_S.FAILED, _E.RETRIED): _S.FORWARDING,
    # a destination that answered with success denies that it has an instance
    (_S.DELIVERED, _E.RETRIED): _S.FORWARDING,
    (_S.DELIVERED, _E.GIVEN_UP): _S.FAILED,
    (_S.HELD, _E.RELEASED): _S.FORWARDING,
    (_S.HELD, _E.REJECTED): _S.REJECTED,
    # a person may change their mind, on record
    (_S.REJECTED, _E.RELEASED): _S.FORWARDING,
}


def advance(state: StudyState, event: StudyEvent) -> StudyState:
    """Return the state that `event` leads to from `state`.

    Raises
    ------
    LifecycleError
        If the table has no such pair.

    Examples
    --------
    >>> advance(StudyState.READY, StudyEvent.CLAIMED)
    <StudyState.ASSESSING: 'assessing'>
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise LifecycleError(f"a study that is {state} does not know the event {event!r}") from None


class ItemState(StrEnum):
    """Where one instance stands on its way to one destination."""

    PENDING = "pending"
    """Still to be sent."""
    DELIVERED = "delivered"
    """The destination answered that it has it."""
    FAILED = "failed"
    """The destination will not take it; listed until a person retries."""


class ResultState(StrEnum):
    """Where a suspected study's findings stand on their way into DICOM objects."""

    WAITING = "waiting"
    """The objects are still to be made."""
    KEPT = "kept"
    """Made and kept with the evidence; nobody is to be sent them."""
    SENDING = "sending"
    """Made, and on their way to the destination of results."""
    DELIVERED = "delivered"
    """The destination has them."""
    FAILED = "failed"
    """They could not be made, or the destination will not take them; the reason is written down."""
