"""Counts: the ledger, and what the metrics show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import Proof, ProofState
from pacs_guard.queue.assessing import ASSOCIATION_STALE_SECONDS
from pacs_guard.queue.bypass import active_bypasses
from pacs_guard.queue.ledger import DELIVERED, HELD, LedgerLine, answered, placed_by_source
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import (
    actions,
    associations,
    audit_events,
    commitment_requests,
    deliveries,
    delivery_items,
    instances,
    notifications,
    proofs,
    refusals,
    results,
    studies,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database


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
    proofs : dict of (str, str) to int
        Delivered instances by destination and what is known: pending, proved, unproved, unasked.
    oldest_proof_seconds : dict of str to float
        By destination: since the oldest delivery that is not wholly proved.
    commitment_requests : dict of str to int
        Modalities' requests for storage commitment, by state.
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
    proofs: dict[tuple[str, str], int] = field(default_factory=dict)
    oldest_proof_seconds: dict[str, float] = field(default_factory=dict)
    commitment_requests: dict[str, int] = field(default_factory=dict)


_STAGES = {
    "receiving": ((StudyState.RECEIVING,), studies.c.opened_at),
    "detect": ((StudyState.READY, StudyState.ASSESSING), studies.c.completed_at),
    "deliver": ((StudyState.FORWARDING,), studies.c.decided_at),
    "held": ((StudyState.HELD,), studies.c.decided_at),
}


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
            told = answered(connection)
            placed = placed_by_source(connection)
        lines = []
        for source in sorted(set(told) | set(placed)):
            outcomes, places = told.get(source, {}), placed.get(source, {})
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

    def received_between(self, start: float, end: float) -> list[LedgerLine]:
        """Return one line for each source, of what came from `start` until before `end`, and where it is now.

        Both are seconds since the epoch. Duplicates are not counted by time.
        """
        with self._database.read() as connection:
            placed = placed_by_source(connection, (start, end))
            counted = (
                sa.select(refusals.c.source, sa.func.count())
                .where(refusals.c.refused_at >= start, refusals.c.refused_at < end)
                .group_by(refusals.c.source)
            )
            refused: dict[str, int] = {row[0]: row[1] for row in connection.execute(counted)}
        lines = []
        for source in sorted(set(placed) | set(refused)):
            places = placed.get(source, {})
            received = sum(count for name, count in places.items() if name not in DELIVERED)
            lines.append(LedgerLine(source=source, received=received, refused=refused.get(source, 0), **places))
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
                .where(studies.c.state.in_(HELD), instances.c.purged_at.is_(None))
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
                proofs=_proofs(connection),
                oldest_proof_seconds=_oldest_proofs(connection, now),
                commitment_requests=_by_state(connection, commitment_requests),
            )

    def given_up(self) -> list[dict[str, object]]:
        """Return every instance that was given up on, with its destination and the reason."""
        return self._listed(delivery_items.c.state == ItemState.FAILED)

    def unproved(self) -> list[dict[str, object]]:
        """Return every delivered instance that its destination did not vouch for, with the reason."""
        some = sa.select(proofs.c.delivery_id).where(proofs.c.unproved > 0)
        return self._listed(
            sa.and_(
                deliveries.c.id.in_(some),
                delivery_items.c.state == ItemState.DELIVERED,
                delivery_items.c.proof == Proof.UNPROVED,
            )
        )

    def _listed(self, condition: sa.ColumnElement[bool]) -> list[dict[str, object]]:
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
            .where(condition)
            .order_by(deliveries.c.id, instances.c.id)
        )
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


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


def _proofs(connection: Connection) -> dict[tuple[str, str], int]:
    counted = (proofs.c.pending, proofs.c.proved, proofs.c.unproved, proofs.c.unasked)
    query = sa.select(proofs.c.destination, *map(sa.func.sum, counted)).group_by(proofs.c.destination)
    return {
        (destination, column.name): int(count)
        for destination, *counts in connection.execute(query)
        for column, count in zip(counted, counts, strict=True)
    }


def _oldest_proofs(connection: Connection, now: float) -> dict[str, float]:
    waiting = sa.case((proofs.c.state != ProofState.SETTLED, proofs.c.delivered_at))
    query = sa.select(proofs.c.destination, sa.func.min(waiting)).group_by(proofs.c.destination)
    return {row[0]: max(0.0, now - row[1]) if row[1] is not None else 0.0 for row in connection.execute(query)}


def _backlog(connection: Connection) -> dict[str, int]:
    query = (
        sa.select(deliveries.c.destination, sa.func.count())
        .where(deliveries.c.state == ItemState.PENDING)
        .group_by(deliveries.c.destination)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _count(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(table).where(condition)).scalar_one()
