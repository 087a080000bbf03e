"""Proof that a destination keeps what it took, beyond its answer to a C-STORE (PS3.4 annexes J and C).

One study's proof at one destination:

    delivered ──▶ DUE ──N-ACTION accepted──▶ ASKED ──all reported──▶ SETTLED ──more delivered──▶ DUE
                  ▲ │                          │
                  │ └──counted, given up───────┼──▶ SETTLED
                  └──overdue, some denied──────┘

What is denied is sent again a few times, and failed after that; what nobody says anything about ends unproved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pacs_guard.errors import LifecycleError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ProofState(StrEnum):
    """Where the proof of one delivery stands."""

    DUE = "due"
    """The destination is to be asked, now or after a while."""
    ASKED = "asked"
    """It took on the request; its report is awaited for a while."""
    SETTLED = "settled"
    """There is nothing more to ask: every instance is proved, unproved or failed."""


class ProofEvent(StrEnum):
    """What can happen to a delivery's proof."""

    DELIVERED = "delivered"
    """Something arrived that is not proved yet."""
    ASKED = "asked"
    """A request is about to go out; written down first, so that its report is known whatever happens."""
    ASKED_IN_VAIN = "asked in vain"
    """It was refused, or nobody was there."""
    REPORTED_IN_PART = "reported in part"
    """Something is left to be decided."""
    ALL_DECIDED = "all decided"


_S, _E = ProofState, ProofEvent

TRANSITIONS: dict[tuple[ProofState, ProofEvent], ProofState] = {
    **{(state, _E.DELIVERED): _S.DUE for state in ProofState},
    (_S.DUE, _E.ASKED): _S.ASKED,
    # the report did not come in time
    (_S.ASKED, _E.ASKED): _S.ASKED,
    (_S.DUE, _E.ASKED_IN_VAIN): _S.DUE,
    (_S.ASKED, _E.ASKED_IN_VAIN): _S.DUE,
    (_S.DUE, _E.REPORTED_IN_PART): _S.DUE,
    (_S.ASKED, _E.REPORTED_IN_PART): _S.DUE,
    # a report may come late, after all was given up
    (_S.SETTLED, _E.REPORTED_IN_PART): _S.SETTLED,
    **{(state, _E.ALL_DECIDED): _S.SETTLED for state in ProofState},
}


def advance(state: ProofState, event: ProofEvent) -> ProofState:
    """Return the state that `event` leads to from `state`.

    Raises
    ------
    LifecycleError
        If the table has no such pair.

    Examples
    --------
    >>> advance(ProofState.DUE, ProofEvent.ASKED)
    <ProofState.ASKED: 'asked'>
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise LifecycleError(f"a proof that is {state} does not know the event {event!r}") from None


class Proof(StrEnum):
    """What is known of one delivered instance at one destination; nothing is known of one that was not asked about."""

    ASKED = "asked"
    """A report is awaited."""
    DENIED = "denied"
    """The destination does not vouch for it; what follows from that is still to be decided."""
    PROVED = "proved"
    """The destination took responsibility, or lists it."""
    UNPROVED = "unproved"
    """It answered the C-STORE with success, and every further question in vain."""
    UNASKED = "unasked"
    """It is not to be asked, or offers no way to."""


OPEN = (Proof.ASKED, Proof.DENIED)
"""Not decided yet, besides those that nothing is known of."""


class ProofMethod(StrEnum):
    """How a destination is to be asked."""

    AUTO = "auto"
    """By storage commitment if it accepts that, else by a count if it answers queries, else not at all."""
    COMMITMENT = "commitment"
    """By storage commitment only."""
    COUNT = "count"
    """By a query (C-FIND) for what it has of the study."""
    NONE = "none"
    """Its answers to C-STORE are enough."""


class Question(StrEnum):
    """One way to ask."""

    COMMITMENT = "commitment"
    COUNT = "count"


def questions(method: ProofMethod, attempts: int, limit: int) -> tuple[Question, ...]:
    """Return the ways to ask that are left after `attempts` in vain, the best first; empty to give up.

    Parameters
    ----------
    method : ProofMethod
    attempts : int
        How often it was asked in vain.
    limit : int
        How often each way is tried.

    Examples
    --------
    >>> questions(ProofMethod.AUTO, 3, limit=3)
    (<Question.COUNT: 'count'>,)
    """
    both = Question.COMMITMENT, Question.COUNT
    table: dict[ProofMethod, tuple[tuple[Question, ...], ...]] = {
        ProofMethod.AUTO: (both, both[1:]),
        ProofMethod.COMMITMENT: (both[:1],),
        ProofMethod.COUNT: (both[1:],),
        ProofMethod.NONE: (),
    }
    stages = table[method]
    stage = attempts // limit
    return stages[stage] if stage < len(stages) else ()


class Remedy(StrEnum):
    """What follows when a destination does not vouch for an instance."""

    RESEND = "resend"
    """It does not have it: it is sent again."""
    ASK_AGAIN = "ask again"
    """It cannot say just now."""
    FAIL = "fail"
    """It has something else under this UID, which sending again does not change."""
    GIVE_UP = "give up"
    """It has no means to vouch for such an instance."""


FAILURE_REASONS: dict[int, tuple[Remedy, str]] = {
    0x0110: (Remedy.ASK_AGAIN, "processing failure"),
    0x0112: (Remedy.RESEND, "no such object instance"),
    0x0119: (Remedy.FAIL, "class-instance conflict"),
    0x0122: (Remedy.GIVE_UP, "referenced SOP class not supported"),
    0x0131: (Remedy.ASK_AGAIN, "duplicate transaction UID"),
    0x0213: (Remedy.ASK_AGAIN, "resource limitation"),
}
"""Failure Reason (0008,1197) as PS3.3 C.14 lists it."""

NO_SUCH_INSTANCE, CLASS_CONFLICT, PROCESSING_FAILURE = 0x0112, 0x0119, 0x0110


def remedy(reason: int) -> Remedy:
    """Return what follows from a Failure Reason; of one that the standard does not know, asking again."""
    return FAILURE_REASONS.get(reason, (Remedy.ASK_AGAIN, ""))[0]


def failure_sentence(reason: int) -> str:
    """Return a Failure Reason as a person reads it.

    Examples
    --------
    >>> failure_sentence(0x0112)
    'storage commitment failed with 0x0112 (no such object instance)'
    """
    meaning = FAILURE_REASONS.get(reason, (Remedy.ASK_AGAIN, "a reason that the standard does not know"))[1]
    return f"storage commitment failed with 0x{reason:04X} ({meaning})"


@dataclass(frozen=True, slots=True)
class ProofItem:
    """A delivered instance that is not proved.

    Attributes
    ----------
    instance_id : int
    series_uid, sop_class_uid, sop_uid : str
    proof : Proof or None
    reason : int or None
        Failure Reason with which it was denied; None where it is missing in what the destination lists.
    resends : int
        How often it was sent again for want of proof.
    is_ambiguous : bool
        Whether the destination was sent other content under the same SOP Instance UID too: whichever it kept, its word
        cannot be about both.
    """

    instance_id: int
    series_uid: str
    sop_class_uid: str
    sop_uid: str
    proof: Proof | None = None
    reason: int | None = None
    resends: int = 0
    is_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class ProofRules:
    """How far a destination is asked.

    Attributes
    ----------
    method : ProofMethod
    attempts : int
        How often each way of asking is tried.
    resends : int
        How often an instance that it denies is sent again.
    """

    method: ProofMethod = ProofMethod.AUTO
    attempts: int = 3
    resends: int = 2


@dataclass(frozen=True, slots=True)
class ProofPlan:
    """What is to be done about the instances of one delivery; each is in one of the lists.

    Attributes
    ----------
    resend, fail, give_up, unasked, ask : tuple of ProofItem
    questions : tuple of Question
        How to ask about `ask`.
    """

    resend: tuple[ProofItem, ...] = ()
    fail: tuple[ProofItem, ...] = ()
    give_up: tuple[ProofItem, ...] = ()
    unasked: tuple[ProofItem, ...] = ()
    ask: tuple[ProofItem, ...] = ()
    questions: tuple[Question, ...] = field(default=())


def plan(items: Sequence[ProofItem], attempts: int, rules: ProofRules) -> ProofPlan:
    """Decide what is to be done about the instances that are not proved after `attempts` in vain."""
    if rules.method is ProofMethod.NONE:
        return ProofPlan(unasked=tuple(items))
    left = questions(rules.method, attempts, rules.attempts)
    lists: dict[str, list[ProofItem]] = {"resend": [], "fail": [], "give_up": [], "ask": []}
    for item in items:
        lists[_place(item, rules, can_ask=bool(left))].append(item)
    return ProofPlan(**{name: tuple(chosen) for name, chosen in lists.items()}, questions=left)


def _place(item: ProofItem, rules: ProofRules, *, can_ask: bool) -> str:
    if item.is_ambiguous:
        return "give_up"
    if item.proof is Proof.DENIED and item.reason is None:  # it is not listed, which is less than being denied
        return "resend" if item.resends < rules.resends else "give_up"
    found = remedy(item.reason) if item.proof is Proof.DENIED and item.reason is not None else Remedy.ASK_AGAIN
    if found is Remedy.RESEND:
        return "resend" if item.resends < rules.resends else "fail"
    if found is Remedy.ASK_AGAIN:
        return "ask" if can_ask else "give_up"
    return "fail" if found is Remedy.FAIL else "give_up"
