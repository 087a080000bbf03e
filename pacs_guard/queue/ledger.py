"""Where every acknowledged instance is, counted in exactly one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import OPEN, Proof
from pacs_guard.queue.schema import delivery_items, instances, studies, tallies

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HELD = (StudyState.HELD, StudyState.REJECTED)
DELIVERED = ("proved", "proving", "unproved", "unasked")
"""The places of what every destination took."""


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """Where the acknowledged instances of one source are.

    Attributes
    ----------
    source : str
    received : int
        Instances answered 0x0000 that were new; counted when they were answered, apart from what follows.
    delivered : int
        Every destination has them; the sum of the four that follow.
    proved : int
        Every destination that can be asked vouches for them.
    proving : int
        At least one destination is still to be asked, or to answer, and all others proved.
    unproved : int
        At least one destination gave no proof.
    unasked : int
        No destination is to be asked, or can be.
    held : int
        In quarantine, or rejected by a person.
    waiting : int
        For more instances, a verdict, or a destination.
    failed : int
        Given up on for at least one destination, and listed.
    missing : int
        Not delivered, and their bytes are gone from the spool.
    duplicates : int
        Answered 0x0000 without being stored, as they were here already.
    refused : int
        Answered with a failure.
    """

    source: str
    received: int = 0
    delivered: int = 0
    proved: int = 0
    proving: int = 0
    unproved: int = 0
    unasked: int = 0
    held: int = 0
    waiting: int = 0
    failed: int = 0
    missing: int = 0
    duplicates: int = 0
    refused: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether every acknowledged instance is somewhere."""
        known = self.proved + self.proving + self.unproved + self.unasked
        whole = self.received == self.delivered + self.held + self.waiting + self.failed
        return self.missing == 0 and whole and self.delivered == known


def answered(connection: Connection) -> dict[str, dict[str, int]]:
    """Return how many instances were answered, by source and outcome."""
    found: dict[str, dict[str, int]] = {}
    for source, outcome, count in connection.execute(
        sa.select(tallies.c.source, tallies.c.outcome, tallies.c.instances)
    ):
        found.setdefault(source, {})[outcome] = count
    return found


def placed_by_source(connection: Connection, received: tuple[float, float] | None = None) -> dict[str, dict[str, int]]:
    """Count every instance in exactly one place, by source; of those received in a time, if one is given."""
    items = (
        sa.select(
            delivery_items.c.instance_id,
            _number(delivery_items.c.state == ItemState.PENDING).label("pending"),
            _number(delivery_items.c.state == ItemState.FAILED).label("failed"),
            _number(delivery_items.c.proof == Proof.PROVED).label("proved"),
            _number(delivery_items.c.proof == Proof.UNPROVED).label("unproved"),
            _number(sa.or_(delivery_items.c.proof.is_(None), delivery_items.c.proof.in_(OPEN))).label("proving"),
        )
        .group_by(delivery_items.c.instance_id)
        .subquery()
    )
    delivered = sa.and_(items.c.pending == 0, items.c.failed == 0)
    place = sa.case(
        (sa.and_(delivered, items.c.unproved > 0), "unproved"),
        (sa.and_(delivered, items.c.proving > 0), "proving"),
        (sa.and_(delivered, items.c.proved > 0), "proved"),
        (delivered, "unasked"),
        (instances.c.missing, "missing"),
        (sa.and_(items.c.pending == 0, items.c.failed > 0), "failed"),
        (studies.c.state.in_(HELD), "held"),
        else_="waiting",
    )
    query = (
        sa.select(instances.c.source, place.label("place"), sa.func.count())
        .select_from(instances.join(studies).outerjoin(items, items.c.instance_id == instances.c.id))
        .group_by(instances.c.source, place)
    )
    if received is not None:
        query = query.where(instances.c.received_at >= received[0], instances.c.received_at < received[1])
    found: dict[str, dict[str, int]] = {}
    for source, name, count in connection.execute(query):
        places = found.setdefault(source, {})
        places[name] = count
        if name in DELIVERED:
            places["delivered"] = places.get("delivered", 0) + count
    return found


def _number(condition: sa.ColumnElement[bool]) -> Any:
    return sa.func.sum(sa.case((condition, 1), else_=0))
