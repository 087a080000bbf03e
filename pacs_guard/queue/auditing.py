"""Audit events wait here until the audit repository has them, so that none is lost with a process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.commitment import COMMITTED
from pacs_guard.domain.proof import Proof
from pacs_guard.queue.schema import (
    association_studies,
    associations,
    audit_events,
    deliveries,
    delivery_items,
    instances,
    refusals,
    studies,
)
from pacs_guard.queue.statements import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.domain.commitment import Reference
    from pacs_guard.queue.database import Database

_BATCH = 400
_MOST_REASONS = 10
_MOST_REFUSED = 100
_LONGEST_REASON = 200
_INSERT_EVENT = Lasting(
    lambda _: sa.insert(audit_events).values(
        {name: sa.bindparam(name) for name in ("event", "study_id", "facts", "at")} | {"attempts": 0}
    )
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event to tell.

    Attributes
    ----------
    id : int
    event : AuditEvent
    at : float
        When it happened, seconds since the epoch.
    facts : dict
        What the message needs; carries no patient identifiers.
    study_id : int or None
    study_uid : str or None
    attempts : int
        How often it was sent in vain.
    """

    id: int
    event: AuditEvent
    at: float
    facts: dict[str, Any]
    study_id: int | None = None
    study_uid: str | None = None
    attempts: int = 0


def note(connection: Connection, event: AuditEvent, now: float, *, study_id: int | None = None, **facts: Any) -> None:
    """Write an event down in the transaction of what happened."""
    _INSERT_EVENT.on(connection).execute(
        connection, event=event.name.lower(), study_id=study_id, facts=json.dumps(facts), at=now
    )


def note_end_of_association(connection: Connection, association_id: str, now: float) -> None:
    """Write down what came over an association: one event for each study, one for all that was refused."""
    peer = (
        connection.execute(sa.select(associations).where(associations.c.id == association_id)).mappings().one_or_none()
    )
    if peer is None:  # its end was noted before
        return
    facts = {key: peer[key] for key in ("calling_ae", "address", "source")} | {"association": association_id}
    query = sa.select(association_studies.c.study_id, association_studies.c.instances).where(
        association_studies.c.association_id == association_id
    )
    for study_id, count in connection.execute(query).all():
        classes = sa.select(instances.c.sop_class_uid).where(instances.c.study_id == study_id).distinct()
        found = sorted(connection.execute(classes).scalars())
        note(
            connection,
            AuditEvent.INSTANCES_RECEIVED,
            now,
            study_id=study_id,
            instances=count,
            sop_classes=found,
            **facts,
        )
    _note_refused(connection, association_id, facts, now)


def _note_refused(connection: Connection, association_id: str, facts: dict[str, Any], now: float) -> None:
    query = (
        sa.select(refusals.c.status, refusals.c.reason, sa.func.count())
        .where(refusals.c.association_id == association_id)
        .group_by(refusals.c.status, refusals.c.reason)
        .order_by(sa.func.count().desc())
    )
    found = connection.execute(query).all()
    if not found:
        return
    reasons = [f"{count} x {status:04X} {reason}" for status, reason, count in found[:_MOST_REASONS]]
    named = (
        sa.select(refusals.c.sop_uid, refusals.c.status, refusals.c.reason)
        .where(refusals.c.association_id == association_id)
        .order_by(refusals.c.id)
        .limit(_MOST_REFUSED)
    )
    note(
        connection,
        AuditEvent.INSTANCES_REFUSED,
        now,
        instances=sum(count for _, _, count in found),
        reason="; ".join(reasons),
        refused=[
            f"{sop_uid or 'without UID'}: {status:04X} {reason[:_LONGEST_REASON]}"
            for sop_uid, status, reason in connection.execute(named).all()
        ],
        **facts,
    )


def note_proof(connection: Connection, before: RowMapping, now: float) -> None:
    """Write down what a destination vouches for of a study, once all is decided; nothing if it was never asked.

    Parameters
    ----------
    connection : Connection
    before : mapping
        The row of ``proofs`` as it was.
    now : float
        Seconds since the epoch.
    """
    of_delivery = delivery_items.c.delivery_id == before["delivery_id"]
    query = sa.select(delivery_items.c.proof, sa.func.count()).where(of_delivery).group_by(delivery_items.c.proof)
    found: dict[str | None, int] = {row[0]: row[1] for row in connection.execute(query)}
    counts = {str(proof): found.get(proof, 0) for proof in (Proof.PROVED, Proof.UNPROVED, Proof.UNASKED)}
    is_known = before["settled_at"] is not None and all(before[name] == count for name, count in counts.items())
    if is_known or not (counts[Proof.PROVED] or counts[Proof.UNPROVED]):
        return
    study = sa.select(deliveries.c.study_id).where(deliveries.c.id == before["delivery_id"])
    facts = {"destination": before["destination"], "instances": sum(counts.values()), **counts}
    if before["question"] is not None:
        facts["question"] = before["question"]
    note(connection, AuditEvent.PROOF, now, study_id=connection.execute(study).scalar_one(), **facts)


def note_commitment(connection: Connection, answers: Mapping[Reference, int], now: float, **facts: Any) -> None:
    """Write down what a modality was told when it asked for storage commitment: one event for each study.

    What it asked about and the node never received is told without a study.
    """
    of: dict[str, set[int]] = {}
    uids = sorted({one.sop_uid for one in answers})
    for start in range(0, len(uids), _BATCH):
        query = sa.select(instances.c.sop_uid, instances.c.study_id).where(
            instances.c.sop_uid.in_(uids[start : start + _BATCH])
        )
        for sop_uid, study_id in connection.execute(query):
            of.setdefault(sop_uid, set()).add(study_id)
    told: dict[int | None, list[int]] = {}
    for one, answer in answers.items():
        for study in of.get(one.sop_uid, {None}):
            told.setdefault(study, []).append(answer)
    for study, given in told.items():
        proved = sum(answer == COMMITTED for answer in given)
        counts = {"instances": len(given), "proved": proved, "unproved": len(given) - proved}
        note(connection, AuditEvent.COMMITMENT, now, study_id=study, **counts, **facts)


class Auditing:
    """The queue of audit events.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def note(self, event: AuditEvent, *, study_id: int | None = None, **facts: Any) -> None:
        """Write down an event that has no transaction of its own."""
        with self._database.write() as connection:
            note(connection, event, self._clock(), study_id=study_id, **facts)

    def due(self, limit: int = 100) -> list[StoredEvent]:
        """Return events that are still to be told, the oldest first."""
        return self._select(audit_events.c.sent_at.is_(None), limit=limit)

    def since(self, at: float) -> list[StoredEvent]:
        """Return every event kept here from a time on, told or not, the oldest first."""
        return self._select(audit_events.c.at >= at)

    def _select(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[StoredEvent]:
        query = (
            sa.select(audit_events, studies.c.study_uid)
            .outerjoin(studies, studies.c.id == audit_events.c.study_id)
            .where(*conditions)
            .order_by(audit_events.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            StoredEvent(
                id=row["id"],
                event=AuditEvent[row["event"].upper()],
                at=row["at"],
                facts=row["facts"],
                study_id=row["study_id"],
                study_uid=row["study_uid"],
                attempts=row["attempts"],
            )
            for row in rows
        ]

    def sent(self, events: Sequence[StoredEvent]) -> None:
        """Note that the repository was told."""
        self._update(events, sent_at=self._clock(), last_error=None)

    def failed(self, events: Sequence[StoredEvent], error: str) -> None:
        """Note a failed attempt; another is made for as long as the events are kept."""
        self._update(events, attempts=audit_events.c.attempts + 1, last_error=error)

    def _update(self, events: Sequence[StoredEvent], **changes: Any) -> None:
        with self._database.write() as connection:
            ids = [event.id for event in events]
            connection.execute(sa.update(audit_events).where(audit_events.c.id.in_(ids)).values(**changes))

    def purge(self, older_than_seconds: float, *, unsent: bool) -> int:
        """Remove old events and return how many; those not yet told only if `unsent`."""
        old = [audit_events.c.at < self._clock() - older_than_seconds]
        if not unsent:
            old.append(audit_events.c.sent_at.is_not(None))
        with self._database.write() as connection:
            return connection.execute(sa.delete(audit_events).where(*old)).rowcount

    def patient_source(self, study_id: int) -> str | None:
        """Return the path of an instance that tells whose study it is, relative to the spool; None if none is left."""
        query = (
            sa.select(instances.c.path)
            .where(instances.c.study_id == study_id, instances.c.purged_at.is_(None), sa.not_(instances.c.missing))
            .order_by(instances.c.id)
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar()
