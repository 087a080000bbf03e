"""Counts: the ledger, and what the metrics show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.queue.assessing import ASSOCIATION_STALE_SECONDS
from pacs_guard.queue.bypass import active_bypasses
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import (
    actions,
    associations,
    audit_events,
    deliveries,
    delivery_items,
    instances,
    notifications,
    refusals,
    results,
    studies,
    tallies,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """Where the acknowledged instances of one source are.

    Attributes
    ----------
    source : str
    received : int
        Instances answered 0x0000 that were new; counted when they were answered, apart from what follows.
    delivered : int
        Every destination has them.
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
    held: int = 0
    waiting: int = 0
    failed: int = 0
    missing: int = 0
    duplicates: int = 0
    refused: int = 0

    @property
    def adds_up(self) -> bool:
        """Whether every acknowledged instance is somewhere."""
        return self.missing == 0 and self.received == self.delivered + self.held + self.waiting + self.failed


@dataclass(frozen=True, slots=True)
class QueueGauges:
    """What the queue looks like now.

    Attributes
    ----------
    studies : dict of (str, str) to int
        Count by state and verdict ("none" before one).
    oldest_seconds : dict of str to float
        Age of the oldest study by stage: receiving, detect, deliver, held.
    depth : dict of str to int
        Studies by the same stages.
    delivery_backlog : dict of str to int
        Studies waiting for each destination.
    quarantine_instances, quarantine_bytes : int
    missing_instances : int
    refusals : int
    bypasses : int
        By deadline or switch, ever.
    bypass_on : tuple of str
        Sources whose bypass is switched on.
    late_findings : int
        Suspicions in studies that were forwarded before, ever.
    audit_failing : int
        Audit events sent in vain so far.
    results : dict of str to int
        Studies' results as DICOM objects, by state.
    notifications_waiting : int
    associations_open : int
    """

    studies: dict[tuple[str, str], int] = field(default_factory=dict)
    oldest_seconds: dict[str, float] = field(default_factory=dict)
    depth: dict[str, int] = field(default_factory=dict)
    delivery_backlog: dict[str, int] = field(default_factory=dict)
    quarantine_instances: int = 0
    quarantine_bytes: int = 0
    missing_instances: int = 0
    refusals: int = 0
    bypasses: int = 0
    bypass_on: tuple[str, ...] = ()
    late_findings: int = 0
    audit_failing: int = 0
    results: dict[str, int] = field(default_factory=dict)
    notifications_waiting: int = 0
    associations_open: int = 0


_STAGES = {
    "receiving": ((StudyState.RECEIVING,), studies.c.opened_at),
    "detect": ((StudyState.READY, StudyState.ASSESSING), studies.c.completed_at),
    "deliver": ((StudyState.FORWARDING,), studies.c.decided_at),
    "held": ((StudyState.HELD,), studies.c.decided_at),
}
_HELD = (StudyState.HELD, StudyState.REJECTED)


class Reports:
    """Counts over the whole queue.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def ledger(self) -> list[LedgerLine]:
        """Return one line for each source."""
        with self._database.read() as connection:
            answered = _answered(connection)
            placed = _placed(connection)
        lines = []
        for source in sorted(set(answered) | set(placed)):
            outcomes, places = answered.get(source, {}), placed.get(source, {})
            lines.append(
                LedgerLine(
                    source=source,
                    received=outcomes.get(Outcome.STORED, 0) + outcomes.get(Outcome.CONFLICT, 0),
                    duplicates=outcomes.get(Outcome.DUPLICATE, 0),
                    refused=outcomes.get(Outcome.REFUSED, 0),
                    **places,
                )
            )
        return lines

    def gauges(self) -> QueueGauges:
        """Return what the queue looks like now."""
        now = self._clock()
        with self._database.read() as connection:
            by_state = connection.execute(
                sa.select(studies.c.state, sa.func.coalesce(studies.c.verdict, "none"), sa.func.count()).group_by(
                    studies.c.state, studies.c.verdict
                )
            )
            held = connection.execute(
                sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(instances.c.length), 0))
                .join(studies)
                .where(studies.c.state.in_(_HELD))
            ).one()
            depth, oldest = _stages(connection, now)
            return QueueGauges(
                studies={(state, verdict): count for state, verdict, count in by_state},
                oldest_seconds=oldest,
                depth=depth,
                delivery_backlog=_backlog(connection),
                quarantine_instances=int(held[0]),
                quarantine_bytes=int(held[1]),
                missing_instances=_count(connection, instances, instances.c.missing),
                refusals=_count(connection, refusals, sa.true()),
                bypasses=_count(connection, actions, actions.c.action == "bypass"),
                bypass_on=tuple(active_bypasses(connection)),
                late_findings=_count(connection, actions, actions.c.action == "late finding"),
                audit_failing=_count(
                    connection, audit_events, sa.and_(audit_events.c.sent_at.is_(None), audit_events.c.attempts > 0)
                ),
                results=_by_state(connection, results),
                notifications_waiting=_count(
                    connection,
                    notifications,
                    sa.and_(notifications.c.sent_at.is_(None), sa.not_(notifications.c.given_up)),
                ),
                associations_open=_count(
                    connection, associations, associations.c.heartbeat_at > now - ASSOCIATION_STALE_SECONDS
                ),
            )

    def given_up(self) -> list[dict[str, object]]:
        """Return every instance that was given up on, with its destination and the reason."""
        query = (
            sa.select(
                deliveries.c.study_id,
                studies.c.study_uid,
                deliveries.c.destination,
                instances.c.sop_uid,
                delivery_items.c.status,
                delivery_items.c.error,
            )
            .select_from(delivery_items)
            .join(deliveries)
            .join(instances, instances.c.id == delivery_items.c.instance_id)
            .join(studies, studies.c.id == deliveries.c.study_id)
            .where(delivery_items.c.state == ItemState.FAILED)
            .order_by(deliveries.c.id, instances.c.id)
        )
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _answered(connection: Connection) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for source, outcome, count in connection.execute(
        sa.select(tallies.c.source, tallies.c.outcome, tallies.c.instances)
    ):
        found.setdefault(source, {})[outcome] = count
    return found


def _placed(connection: Connection) -> dict[str, dict[str, int]]:
    """Count every instance in exactly one place, by source."""
    items = (
        sa.select(
            delivery_items.c.instance_id,
            sa.func.sum(sa.case((delivery_items.c.state == ItemState.PENDING, 1), else_=0)).label("pending"),
            sa.func.sum(sa.case((delivery_items.c.state == ItemState.FAILED, 1), else_=0)).label("failed"),
        )
        .group_by(delivery_items.c.instance_id)
        .subquery()
    )
    place = sa.case(
        (sa.and_(items.c.pending == 0, items.c.failed == 0), "delivered"),
        (instances.c.missing, "missing"),
        (sa.and_(items.c.pending == 0, items.c.failed > 0), "failed"),
        (studies.c.state.in_(_HELD), "held"),
        else_="waiting",
    )
    query = (
        sa.select(instances.c.source, place.label("place"), sa.func.count())
        .select_from(instances.join(studies).outerjoin(items, items.c.instance_id == instances.c.id))
        .group_by(instances.c.source, place)
    )
    found: dict[str, dict[str, int]] = {}
    for source, name, count in connection.execute(query):
        found.setdefault(source, {})[name] = count
    return found


def _stages(connection: Connection, now: float) -> tuple[dict[str, int], dict[str, float]]:
    depth: dict[str, int] = {}
    oldest: dict[str, float] = {}
    for stage, (states, since) in _STAGES.items():
        count, first = connection.execute(
            sa.select(sa.func.count(), sa.func.min(since)).where(studies.c.state.in_(states))
        ).one()
        depth[stage] = count
        oldest[stage] = max(0.0, now - first) if first is not None else 0.0
    return depth, oldest


def _by_state(connection: Connection, table: sa.Table) -> dict[str, int]:
    query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def _backlog(connection: Connection) -> dict[str, int]:
    query = (
        sa.select(deliveries.c.destination, sa.func.count())
        .where(deliveries.c.state == ItemState.PENDING)
        .group_by(deliveries.c.destination)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _count(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table).where(condition)).scalar_one()
