"""What a person says a study is, for training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pacs_guard.domain.verdict import FindingKind

PLACED = (FindingKind.FB, FindingKind.FM)
"""Kinds that lie in a place of their own."""


class Label(StrEnum):
    """What to learn from a study."""

    CLEAN = "clean"
    """Untampered; what was suspected in it was a false alarm."""
    TAMPERED = "tampered"
    """Altered, at the places that are given, or else at those that were found."""
    NONE = "none"
    """Nothing; it is of no use for training."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a study was altered.

    Attributes
    ----------
    kind : FindingKind
        FB or FM.
    sop_uid : str
        SOPInstanceUID of the slice.
    x, y : float
        Column and row, from 0.
    """

    kind: FindingKind
    sop_uid: str
    x: float
    y: float

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read ``KIND:SOP_INSTANCE_UID:COLUMN:ROW``.

        Raises
        ------
        ValueError
            If it is none.

        Examples
        --------
        >>> Place.parse("FM:1.2.3:210:305")
        Place(kind=<FindingKind.FM: 'FM'>, sop_uid='1.2.3', x=210.0, y=305.0)
        """
        try:
            kind, sop_uid, x, y = text.split(":")
            place = cls(FindingKind(kind), sop_uid, float(x), float(y))
        except ValueError as error:
            raise ValueError(f"{text!r} was given; expected KIND:SOP_INSTANCE_UID:COLUMN:ROW") from error
        if place.kind not in PLACED or not 0 <= place.x < 65536 or not 0 <= place.y < 65536:
            raise ValueError(f"{text!r} was given; expected FB or FM, and a column and a row of the slice")
        return place

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"kind": str(self.kind), "sop_uid": self.sop_uid, "x": self.x, "y": self.y}
