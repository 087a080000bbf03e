"""What an audit repository hears of: the events, and how often a flood of one kind is told."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class AuditEvent(StrEnum):
    """What happened; how each is told is the business of the message that is made of it."""

    STARTED = "application started"
    STOPPED = "application stopped"
    MODELS = "models in force"
    """The detectors with which a worker starts, or to which it was switched."""
    SETTINGS_CHANGED = "settings changed"
    """A role took changed settings while it ran."""
    SETTINGS_REFUSED = "settings refused"
    """A role was asked to read settings that cannot be used, and goes on with the old ones."""
    ASSOCIATION_OPENED = "association opened"
    ASSOCIATION_REFUSED = "association refused"
    INSTANCES_RECEIVED = "instances received"
    """Of one study over one association, told when that ends."""
    INSTANCES_REFUSED = "instances refused"
    """Over one association, told when that ends."""
    ASSESSED = "study assessed"
    QUARANTINED = "study quarantined"
    RELEASED = "study released"
    REJECTED = "study rejected"
    BYPASSED = "study bypassed"
    """The longest hold was over: forwarded without a verdict."""
    LATE_FINDING = "late finding"
    """A suspicion in a study that was forwarded before."""
    BYPASS_ON = "bypass switched on"
    BYPASS_OFF = "bypass switched off"
    DELIVERED = "study delivered"
    PROOF = "proof of delivery"
    """All is decided about what a destination took of a study: what it vouches for and what it does not."""
    PROOF_WAIVED = "proof waived"
    """A person does without the proof that a destination did not give."""
    COMMITMENT = "commitment reported"
    """A modality took the report that it had asked for: what the node, or the PACS behind it, vouches for."""
    LOGIN = "login"
    LOGIN_FAILED = "login failed"
    LOGOUT = "logout"


class Throttle:
    """Lets one of a kind through in a while and counts the others, so that a flood from outside fills no disk.

    Parameters
    ----------
    seconds : float
        Shortest time between two of a kind.
    most_kinds : int
        So many kinds are told apart; all further ones count as one.

    Examples
    --------
    >>> throttle = Throttle(10.0)
    >>> throttle.passes("a", now=0.0), throttle.passes("a", now=1.0), throttle.passes("a", now=11.0)
    (1, 0, 2)
    """

    def __init__(self, seconds: float, *, most_kinds: int = 256) -> None:
        self._seconds = seconds
        self._most_kinds = most_kinds
        self._kinds: dict[Hashable, tuple[float, int]] = {}

    def passes(self, kind: Hashable, now: float) -> int:
        """Return how many this one stands for, itself included; 0 if it is not let through."""
        if kind not in self._kinds and len(self._kinds) >= self._most_kinds:
            self._forget(now)
            kind = kind if len(self._kinds) < self._most_kinds else None
        last, suppressed = self._kinds.get(kind, (float("-inf"), 0))
        if now - last < self._seconds:
            self._kinds[kind] = (last, suppressed + 1)
            return 0
        self._kinds[kind] = (now, 0)
        return suppressed + 1

    def _forget(self, now: float) -> None:
        # those with something still to tell stay, so that no count is lost
        self._kinds = {kind: entry for kind, entry in self._kinds.items() if entry[1] or now - entry[0] < self._seconds}
