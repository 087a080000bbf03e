"""What a C-STORE response's status means for an instance (PS3.4 B.2.3, PS3.7 annex C)."""

from __future__ import annotations

from enum import StrEnum

from pacs_guard.domain.text import printable


class Disposition(StrEnum):
    """What becomes of an instance after an answer."""

    DELIVERED = "delivered"
    """The destination has it."""
    TRANSIENT = "transient"
    """Worth another attempt."""
    PERMANENT = "permanent"
    """The same instance will be refused again."""


_D = Disposition

SINGLE: dict[int, tuple[Disposition, str]] = {
    0x0000: (_D.DELIVERED, "success"),
    0x0001: (_D.DELIVERED, "warning"),
    0x0107: (_D.DELIVERED, "warning: attribute list error"),
    0x0110: (_D.TRANSIENT, "processing failure"),
    0x0111: (_D.DELIVERED, "already stored"),
    0x0116: (_D.DELIVERED, "warning: attribute value out of range"),
    0x0117: (_D.PERMANENT, "invalid SOP instance"),
    0x0122: (_D.PERMANENT, "SOP class not supported"),
    # the peer looked at this very request and refused it; whoever lifts the refusal retries by command
    0x0124: (_D.PERMANENT, "not authorised"),
    0x0210: (_D.TRANSIENT, "duplicate invocation"),
    0x0211: (_D.PERMANENT, "unrecognised operation"),
    0x0212: (_D.PERMANENT, "mistyped argument"),
    0x0213: (_D.TRANSIENT, "resource limitation"),
    0xB000: (_D.DELIVERED, "warning: coercion of data elements"),
    0xB006: (_D.DELIVERED, "warning: elements discarded"),
    0xB007: (_D.DELIVERED, "warning: data set does not match SOP class"),
    0xFE00: (_D.TRANSIENT, "cancelled"),
}

RANGES: tuple[tuple[int, int, Disposition, str], ...] = (
    (0xA700, 0xA7FF, _D.TRANSIENT, "out of resources"),
    (0xA900, 0xA9FF, _D.PERMANENT, "data set does not match SOP class"),
    (0xB000, 0xBFFF, _D.DELIVERED, "warning"),
    (0xC000, 0xCFFF, _D.PERMANENT, "cannot understand"),
)


def _lookup(status: int) -> tuple[Disposition, str]:
    if status in SINGLE:
        return SINGLE[status]
    for first, last, disposition, meaning in RANGES:
        if first <= status <= last:
            return disposition, meaning
    # unknown to the standard: never counted as delivered, and given up only after the attempts allowed
    return _D.TRANSIENT, "a status that the standard does not know"


def disposition(status: int) -> Disposition:
    """Return what becomes of an instance answered with `status`."""
    return _lookup(status)[0]


def sentence(status: int, comment: str = "") -> str:
    """Return a status as a person reads it.

    Examples
    --------
    >>> sentence(0xA700, "disk full")
    'answered 0xA700 (out of resources): disk full'
    """
    text = f"answered 0x{status:04X} ({_lookup(status)[1]})"
    return f"{text}: {printable(comment)}" if comment else text
