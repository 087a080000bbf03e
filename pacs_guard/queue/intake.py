"""What the receiver writes: associations, instances and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent, Throttle
from pacs_guard.domain.lifecycle import ItemState, StudyEvent, StudyState, advance
from pacs_guard.queue.auditing import note, note_end_of_association
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import (
    association_studies,
    associations,
    deliveries,
    delivery_items,
    instances,
    refusals,
    studies,
    tallies,
)
from pacs_guard.queue.statements import insert_or_add, insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.database import Database


_LONGEST_REASON = 2000
_SAME_REFUSAL_SECONDS = 10.0


class Intake:
    """The receiver's side of the queue.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    receiver : str
        Name of this receiver process, kept over restarts, so that it can clear what an earlier life left open.
    """

    def __init__(self, database: Database, clock: Callable[[], float], receiver: str) -> None:
        self._database = database
        self._clock = clock
        self._receiver = receiver
        self._refused = Throttle(_SAME_REFUSAL_SECONDS)

    def forget_associations(self) -> None:
        """Drop what an earlier life of this receiver left open."""
        mine = associations.c.receiver == self._receiver
        with self._database.write() as connection:
            for association_id in list(connection.execute(sa.select(associations.c.id).where(mine)).scalars()):
                note_end_of_association(connection, association_id, self._clock())
            connection.execute(sa.delete(associations).where(mine))

    def open_association(self, association_id: str, *, calling_ae: str, address: str, source: str) -> None:
        """Note an association that may send studies."""
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(
                sa.insert(associations).values(
                    id=association_id,
                    receiver=self._receiver,
                    calling_ae=calling_ae,
                    address=address,
                    source=source,
                    opened_at=now,
                    heartbeat_at=now,
                )
            )
            facts: dict[str, Any] = {
                "calling_ae": calling_ae,
                "address": address,
                "source": source,
                "association": association_id,
            }
            note(connection, AuditEvent.ASSOCIATION_OPENED, now, **facts)

    def refuse_association(self, *, calling_ae: str, called_ae: str, address: str, reason: str) -> None:
        """Note an association that was refused; of many alike in a short time only some are written, with their count.

        Raises
        ------
        QueueUnavailableError
            If the database cannot take it.
        """
        now = self._clock()
        count = self._refused.passes((address, reason), now)
        if not count:
            return
        facts: dict[str, Any] = {
            "calling_ae": _fitting(calling_ae, 16),
            "called_ae": _fitting(called_ae, 16),
            "address": address,
        }
        with self._database.write() as connection:
            note(connection, AuditEvent.ASSOCIATION_REFUSED, now, reason=reason, count=count, **facts)

    def heartbeat(self) -> None:
        """Say that this receiver's associations are still alive."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(associations)
                .where(associations.c.receiver == self._receiver)
                .values(heartbeat_at=self._clock())
            )

    def close_association(self, association_id: str) -> None:
        """Note that an association ended."""
        with self._database.write() as connection:
            note_end_of_association(connection, association_id, self._clock())
            connection.execute(sa.delete(associations).where(associations.c.id == association_id))

    def record(self, instance: StoredInstance, *, calling_ae: str, association_id: str) -> Outcome:
        """Write an instance down, durably, and re-open its study.

        Returns
        -------
        Outcome
            STORED or CONFLICT if `instance.path` now belongs to the queue; DUPLICATE if it does not.

        Raises
        ------
        QueueUnavailableError
            If the database cannot take it; nothing was written then.
        CommitUnknownError
            If it stopped answering while it was committing: `instance.path` may belong to the queue.
        """
        now = self._clock()
        with self._database.write() as connection:
            study = _open_study(connection, instance.key.study_uid, now)
            outcome, counted_as = _store(connection, study, instance, calling_ae, now)
            if outcome is not Outcome.DUPLICATE:
                _reopen(connection, study, now)
            connection.execute(
                insert_or_add(
                    connection, association_studies, association_id=association_id, study_id=study["id"], instances=1
                )
            )
            _tally(connection, instance.source, counted_as, instance.length)
        return outcome

    def record_refusal(
        self,
        *,
        source: str,
        calling_ae: str,
        sop_uid: str,
        status: int,
        reason: str,
        path: str | None,
        length: int,
        association_id: str | None = None,
    ) -> None:
        """Write down that an object was answered with a failure, and where it was kept."""
        with self._database.write() as connection:
            connection.execute(
                sa.insert(refusals).values(
                    source=source,
                    calling_ae=_fitting(calling_ae, 16),
                    sop_uid=_fitting(sop_uid, 64),
                    status=status,
                    reason=_fitting(reason, _LONGEST_REASON),
                    path=path,
                    refused_at=self._clock(),
                    association_id=association_id,
                )
            )
            _tally(connection, source, Outcome.REFUSED, length)


def _fitting(text: str, length: int) -> str:
    """Cut what a peer sent to what a column holds; PostgreSQL takes no NUL."""
    return text.replace("\0", "")[:length]


def _open_study(connection: Connection, study_uid: str, now: float) -> RowMapping:
    connection.execute(
        insert_or_ignore(connection, studies).values(
            study_uid=study_uid,
            state=StudyState.RECEIVING,
            kinds="",
            standing_hold=False,
            bypassed=False,
            received_count=0,
            revision=0,
            attempts=0,
            created_at=now,
            opened_at=now,
            last_instance_at=now,
        )
    )
    query = sa.select(studies).where(studies.c.study_uid == study_uid).with_for_update()
    return connection.execute(query).mappings().one()


def _store(
    connection: Connection, study: RowMapping, instance: StoredInstance, calling_ae: str, now: float
) -> tuple[Outcome, Outcome]:
    """Write an instance down; return what became of it, and what the ledger counts it as."""
    same_uid = (
        connection.execute(sa.select(instances).where(instances.c.sop_uid == instance.key.sop_uid)).mappings().all()
    )
    known = next((row for row in same_uid if _is_same(row, study["id"], instance)), None)
    if known is not None:
        # one whose bytes had gone is stored, but its row was counted as received when it first came
        return _repeat(connection, known, instance, now), Outcome.DUPLICATE
    connection.execute(
        sa.insert(instances).values(
            study_id=study["id"],
            series_uid=instance.key.series_uid,
            sop_uid=instance.key.sop_uid,
            sha256=instance.key.sha256,
            sop_class_uid=instance.sop_class_uid,
            transfer_syntax_uid=instance.transfer_syntax_uid,
            path=instance.path,
            offset=instance.offset,
            length=instance.length,
            source=instance.source,
            calling_ae=calling_ae,
            received_at=now,
        )
    )
    connection.execute(
        sa.update(studies).where(studies.c.id == study["id"]).values(received_count=studies.c.received_count + 1)
    )
    conflicting = any(row["sha256"] != instance.key.sha256 for row in same_uid)
    outcome = Outcome.CONFLICT if conflicting else Outcome.STORED
    return outcome, outcome


def _is_same(row: RowMapping, study_id: int, instance: StoredInstance) -> bool:
    return (row["study_id"], row["series_uid"], row["sha256"]) == (
        study_id,
        instance.key.series_uid,
        instance.key.sha256,
    )


def _repeat(connection: Connection, known: RowMapping, instance: StoredInstance, now: float) -> Outcome:
    """Count a duplicate; one whose bytes are no longer here is taken in again and sent on again."""
    here = known["purged_at"] is None and not known["missing"]
    changes: dict[str, object] = {"duplicates": known["duplicates"] + 1}
    if not here:
        changes |= {
            "path": instance.path,
            "offset": instance.offset,
            "length": instance.length,
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "received_at": now,
            "purged_at": None,
            "missing": False,
        }
        _send_again(connection, known["id"], now)
    connection.execute(sa.update(instances).where(instances.c.id == known["id"]).values(changes))
    return Outcome.DUPLICATE if here else Outcome.STORED


def _send_again(connection: Connection, instance_id: int, now: float) -> None:
    items = delivery_items.c.instance_id == instance_id
    affected = sa.select(delivery_items.c.delivery_id).where(items)
    # rows are always locked in the order study, delivery, items, so that no two transactions wait for each other
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id.in_(affected))
        .values(state=ItemState.PENDING, attempts=0, not_before=now, finished_at=None)
    )
    connection.execute(
        sa.update(delivery_items).where(items).values(state=ItemState.PENDING, attempts=0, delivered_at=None)
    )


# a study that keeps waiting for its verdict keeps its age, so that a trickle of instances cannot postpone it for ever
_UNDECIDED = (StudyState.RECEIVING, StudyState.READY, StudyState.ASSESSING)


def _reopen(connection: Connection, study: RowMapping, now: float) -> None:
    state = StudyState(study["state"])
    changes: dict[str, object] = {
        "state": advance(state, StudyEvent.INSTANCE_RECEIVED),
        "last_instance_at": now,
        "revision": study["revision"] + 1,
    }
    if state not in _UNDECIDED:
        changes["opened_at"] = now
    if state is not StudyState.RECEIVING:
        changes |= {
            "completed_at": None,
            "finished_at": None,
            "lease_owner": None,
            "lease_until": None,
        }
    connection.execute(sa.update(studies).where(studies.c.id == study["id"]).values(changes))


def _tally(connection: Connection, source: str, outcome: Outcome, length: int) -> None:
    connection.execute(
        insert_or_ignore(connection, tallies).values(source=source, outcome=outcome, instances=0, bytes=0)
    )
    connection.execute(
        sa.update(tallies)
        .where(tallies.c.source == source, tallies.c.outcome == outcome)
        .values(instances=tallies.c.instances + 1, bytes=tallies.c.bytes + length)
    )
