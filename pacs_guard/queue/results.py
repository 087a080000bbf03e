"""Findings as DICOM objects: to be made, made, and on their way; the makers' and senders' side of the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.lifecycle import ItemState, ResultState
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.rows import ClaimedDelivery, Lease, stored_instance
from pacs_guard.queue.schema import assessments, instances, result_objects, results, studies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.queue.database import Database
    from pacs_guard.queue.rows import DeliveredItem


@dataclass(frozen=True, slots=True)
class ClaimedResult:
    """A suspected study whose findings are to be made into DICOM objects.

    Attributes
    ----------
    id, study_id : int
    study_uid : str
    evidence : str
        Folder of the assessment's evidence, relative to the data folder.
    instances : tuple of StoredInstance
        The study's instances whose bytes are in the spool.
    attempts : int
        How often it was tried in vain.
    """

    id: int
    study_id: int
    study_uid: str
    evidence: str
    instances: tuple[StoredInstance, ...]
    attempts: int


def enqueue_result(connection: Connection, study_id: int, assessment_id: int, now: float) -> None:
    """Have an assessment's findings made into DICOM objects, in the transaction that writes it down."""
    connection.execute(
        sa.insert(results).values(
            study_id=study_id,
            assessment_id=assessment_id,
            state=ResultState.WAITING,
            attempts=0,
            not_before=now,
            created_at=now,
        )
    )


class Results:
    """Claims and progress of results; as a sender's queue it is to results what `Forwarding` is to studies.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # making them

    def claim_to_make(self, owner: str, seconds: float) -> ClaimedResult | None:
        """Lease the oldest result whose objects are to be made, or return None."""
        now = self._clock()
        waiting = _due(ResultState.WAITING, now)
        with self._database.read() as connection:
            if connection.execute(waiting.with_only_columns(results.c.id)).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(waiting.with_for_update(skip_locked=True, of=results)).mappings().first()
            if row is None:
                return None
            _lease(connection, row["id"], Lease(owner, now + seconds))
            members = sa.select(instances).where(
                instances.c.study_id == row["study_id"], instances.c.purged_at.is_(None), sa.not_(instances.c.missing)
            )
            found = connection.execute(members.order_by(instances.c.id)).mappings().all()
            return ClaimedResult(
                id=row["id"],
                study_id=row["study_id"],
                study_uid=row["study_uid"],
                evidence=row["evidence"],
                instances=tuple(stored_instance(member, row["study_uid"]) for member in found),
                attempts=row["attempts"],
            )

    def made(self, result: ClaimedResult, objects: Sequence[StoredInstance], destination: str | None) -> None:
        """Write down the objects that were made, and that they are to be sent to `destination` if there is one."""
        now = self._clock()
        rows = [
            {
                "result_id": result.id,
                "series_uid": one.key.series_uid,
                "sop_uid": one.key.sop_uid,
                "sha256": one.key.sha256,
                "sop_class_uid": one.sop_class_uid,
                "transfer_syntax_uid": one.transfer_syntax_uid,
                "path": one.path,
                "offset": one.offset,
                "length": one.length,
                "state": ItemState.PENDING,
                "attempts": 0,
            }
            for one in objects
        ]
        state = ResultState.SENDING if destination is not None else ResultState.KEPT
        with self._database.write() as connection:
            connection.execute(sa.insert(result_objects), rows)
            changes = {"state": state, "destination": destination, "attempts": 0, "not_before": now, "last_error": None}
            finished = now if destination is None else None
            _update(connection, result.id, lease_owner=None, lease_until=None, finished_at=finished, **changes)

    def not_made(self, result: ClaimedResult, error: str, retry_in: float | None) -> None:
        """Note that the objects could not be made; `retry_in` is the seconds to wait, None gives up."""
        changes: dict[str, Any] = {"attempts": result.attempts + 1, "last_error": error}
        now = self._clock()
        if retry_in is None:
            changes |= {"state": ResultState.FAILED, "finished_at": now}
        else:
            changes["not_before"] = now + retry_in
        with self._database.write() as connection:
            _update(connection, result.id, lease_owner=None, lease_until=None, **changes)

    # sending them

    def is_due(self, destination: str) -> bool:
        """Whether a result waits to be sent; a look that takes no writer's turn."""
        query = _due(ResultState.SENDING, self._clock(), destination).with_only_columns(results.c.id)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def claim(self, destination: str, owner: str, seconds: float) -> ClaimedDelivery | None:
        """Lease the next result for `destination`, or return None."""
        now = self._clock()
        lease = Lease(owner, now + seconds)
        query = _due(ResultState.SENDING, now, destination).with_for_update(skip_locked=True, of=results)
        with self._database.write() as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            _lease(connection, row["id"], lease)
            return ClaimedDelivery(
                id=row["id"],
                study_id=row["study_id"],
                study_uid=row["study_uid"],
                destination=destination,
                attempts=row["attempts"],
                pending=_pending(connection, row["id"], row["study_uid"]),
                lease=lease,
            )

    def release_leases(self, owner_prefix: str) -> None:
        """Give back what an earlier life on this machine had leased."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(results)
                .where(results.c.lease_owner.startswith(owner_prefix, autoescape=True))
                .values(lease_owner=None, lease_until=None)
            )

    def renew(self, delivery: ClaimedDelivery, seconds: float) -> None:
        """Extend the lease while one object is still under way.

        Raises
        ------
        LeaseLostError
            If the lease is lost.
        """
        with self._database.write() as connection:
            extended = self._extend(connection, delivery, seconds)
        _raise_if_lost(extended, delivery)

    def items_delivered(self, delivery: ClaimedDelivery, items: Sequence[DeliveredItem], *, seconds: float) -> None:
        """Write down that the destination has some objects, and extend the lease.

        Raises
        ------
        LeaseLostError
            If the lease is lost; the objects count as delivered all the same.
        """
        statement = (
            sa.update(result_objects)
            .where(result_objects.c.id == sa.bindparam("object_id"))
            .values(state=ItemState.DELIVERED, error=None)
        )
        rows = [{"object_id": item.instance_id, "status": item.status, "delivered_at": item.at} for item in items]
        with self._database.write() as connection:
            extended = self._extend(connection, delivery, seconds)
            connection.execute(statement, rows)
        _raise_if_lost(extended, delivery)

    def item_failed(
        self,
        delivery: ClaimedDelivery,
        instance_id: int,
        *,
        status: int | None,
        error: str,
        permanent: bool,
        seconds: float,
    ) -> None:
        """Write down that the destination did not take an object, and extend the lease.

        Raises
        ------
        LeaseLostError
            If the lease is lost.
        """
        changes = {"status": status, "error": error, "attempts": result_objects.c.attempts + 1}
        state = ItemState.FAILED if permanent else ItemState.PENDING
        with self._database.write() as connection:
            extended = self._extend(connection, delivery, seconds)
            connection.execute(
                sa.update(result_objects).where(result_objects.c.id == instance_id).values(state=state, **changes)
            )
        _raise_if_lost(extended, delivery)

    def finish(self, delivery: ClaimedDelivery, *, error: str | None, retry_in: float | None) -> ResultState:
        """End an attempt; `retry_in` is the seconds until what is pending is tried again, None gives it up."""
        now = self._clock()
        with self._database.write() as connection:
            mine = result_objects.c.result_id == delivery.id
            found = connection.execute(sa.select(result_objects.c.state).where(mine)).scalars()
            state = _state_of(set(found), give_up=retry_in is None and error is not None)
            changes: dict[str, Any] = {"state": state, "last_error": error, "lease_owner": None, "lease_until": None}
            if state is ResultState.SENDING:
                changes |= {"attempts": results.c.attempts + 1, "not_before": now + (retry_in or 0.0)}
            else:
                changes["finished_at"] = now
            # another sender may have taken over meanwhile
            connection.execute(sa.update(results).where(_leased_to(delivery)).values(**changes))
        return state

    def postpone(self, delivery: ClaimedDelivery) -> None:
        """Give a lease back without an attempt having been made."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(results).where(_leased_to(delivery)).values(lease_owner=None, lease_until=None)
            )

    def retry(self, study_id: int) -> int:
        """Make or send again what failed of a study's results, and return how many results that is."""
        failed = sa.and_(results.c.study_id == study_id, results.c.state == ResultState.FAILED)
        made = sa.select(result_objects.c.id).where(result_objects.c.result_id == results.c.id).exists()
        changes = {"attempts": 0, "not_before": self._clock(), "finished_at": None}
        with self._database.write() as connection:
            ids = list(connection.execute(sa.select(results.c.id).where(failed)).scalars())
            objects = result_objects.c.result_id.in_(ids)
            connection.execute(
                sa.update(result_objects)
                .where(objects, result_objects.c.state == ItemState.FAILED)
                .values(state=ItemState.PENDING, attempts=0)
            )
            state = sa.case((made, str(ResultState.SENDING)), else_=str(ResultState.WAITING))
            connection.execute(sa.update(results).where(failed).values(state=state, **changes))
        return len(ids)

    def of_study(self, study_id: int) -> list[dict[str, Any]]:
        """Return what became of a study's results, the oldest first."""
        query = sa.select(results).where(results.c.study_id == study_id).order_by(results.c.id)
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _extend(self, connection: Connection, delivery: ClaimedDelivery, seconds: float) -> bool:
        until = self._clock() + seconds
        statement = sa.update(results).where(_leased_to(delivery)).values(lease_until=until)
        return connection.execute(statement).rowcount == 1


def _due(state: ResultState, now: float, destination: str | None = None) -> Select[Any]:
    query = (
        sa.select(results, studies.c.study_uid, assessments.c.evidence)
        .join(studies, studies.c.id == results.c.study_id)
        .join(assessments, assessments.c.id == results.c.assessment_id)
        .where(
            results.c.state == state,
            results.c.not_before <= now,
            sa.or_(results.c.lease_until.is_(None), results.c.lease_until < now),
        )
        .order_by(results.c.not_before, results.c.id)
        .limit(1)
    )
    return query if destination is None else query.where(results.c.destination == destination)


def _pending(connection: Connection, result_id: int, study_uid: str) -> tuple[StoredInstance, ...]:
    query = (
        sa.select(result_objects)
        .where(result_objects.c.result_id == result_id, result_objects.c.state == ItemState.PENDING)
        .order_by(result_objects.c.attempts, result_objects.c.id)
    )
    return tuple(_stored_object(row, study_uid) for row in connection.execute(query).mappings())


def _stored_object(row: RowMapping, study_uid: str) -> StoredInstance:
    return StoredInstance(
        id=row["id"],
        key=InstanceKey(study_uid, row["series_uid"], row["sop_uid"], row["sha256"]),
        sop_class_uid=row["sop_class_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        path=row["path"],
        offset=row["offset"],
        length=row["length"],
    )


def _state_of(objects: set[str], *, give_up: bool) -> ResultState:
    if ItemState.PENDING in objects:
        return ResultState.FAILED if give_up else ResultState.SENDING
    return ResultState.FAILED if ItemState.FAILED in objects else ResultState.DELIVERED


def _lease(connection: Connection, result_id: int, lease: Lease) -> None:
    _update(connection, result_id, lease_owner=lease.owner, lease_until=lease.until)


def _update(connection: Connection, result_id: int, **changes: Any) -> None:
    connection.execute(sa.update(results).where(results.c.id == result_id).values(**changes))


def _leased_to(delivery: ClaimedDelivery) -> Any:
    return sa.and_(results.c.id == delivery.id, results.c.lease_owner == delivery.lease.owner)


def _raise_if_lost(extended: bool, delivery: ClaimedDelivery) -> None:
    if not extended:
        raise LeaseLostError(f"result {delivery.id} is no longer leased to {delivery.lease.owner}")
