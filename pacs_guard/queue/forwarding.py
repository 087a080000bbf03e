"""From a cleared study to its destinations: the deliverer's side of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import ItemState, StudyEvent, StudyState, advance
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.auditing import note
from pacs_guard.queue.deliveries import finish_study, locked_state
from pacs_guard.queue.proofrows import ask_for_proof, lock_study
from pacs_guard.queue.rows import ClaimedDelivery, Lease, stored_instance
from pacs_guard.queue.schema import deliveries, delivery_items, instances, studies
from pacs_guard.queue.statements import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database
    from pacs_guard.queue.rows import DeliveredItem


class Forwarding:
    """Claims and progress of deliveries.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        dialect, value = database.engine.dialect, sa.bindparam
        # these are executed again and again: compiled once
        due = _due(value("name"), value("now"))
        self._select_due = Prepared(due.with_only_columns(deliveries.c.id), dialect)
        self._claim_due = Prepared(due.with_for_update(skip_locked=True, of=deliveries), dialect)
        self._lease = Prepared(
            sa.update(deliveries)
            .where(deliveries.c.id == value("row"))
            .values(lease_owner=value("owner"), lease_until=value("until")),
            dialect,
        )
        self._select_pending = Prepared(
            sa.select(instances)
            .join(delivery_items, delivery_items.c.instance_id == instances.c.id)
            .where(delivery_items.c.delivery_id == value("row"), delivery_items.c.state == str(ItemState.PENDING))
            .order_by(delivery_items.c.attempts, instances.c.id),
            dialect,
        )
        self._end_lease = Prepared(
            sa.update(deliveries)
            .where(deliveries.c.id == value("row"), deliveries.c.lease_owner == value("owner"))
            .values(lease_owner=None, lease_until=None, last_error=value("error")),
            dialect,
        )
        self._count_items = Prepared(
            sa.select(delivery_items.c.state, sa.func.count())
            .where(delivery_items.c.delivery_id == value("row"))
            .group_by(delivery_items.c.state),
            dialect,
        )
        self._end_delivery = Prepared(
            sa.update(deliveries)
            .where(deliveries.c.id == value("row"))
            .values(state=value("v_state"), finished_at=value("now")),
            dialect,
        )
        self._extend_lease = Prepared(
            sa.update(deliveries)
            .where(
                deliveries.c.id == value("row"),
                deliveries.c.lease_owner == value("owner"),
                sa.select(sa.literal_column("1"))
                .where(studies.c.id == deliveries.c.study_id, studies.c.state == str(StudyState.FORWARDING))
                .exists(),
            )
            .values(lease_until=value("until")),
            dialect,
        )
        self._mark_delivered = Prepared(
            sa.update(delivery_items)
            .where(delivery_items.c.delivery_id == value("row"), delivery_items.c.instance_id == value("instance"))
            .values(
                state=str(ItemState.DELIVERED),
                error=None,
                status=value("v_status"),
                transcoded_to=value("v_transcoded_to"),
                delivered_at=value("v_delivered_at"),
            ),
            dialect,
        )

    def is_due(self, destination: str) -> bool:
        """Whether a delivery to `destination` waits to be claimed; a look that takes no writer's turn."""
        now = self._clock()
        with self._database.read() as connection:
            return bool(self._select_due.execute(connection, name=destination, now=now))

    def claim(self, destination: str, owner: str, seconds: float) -> ClaimedDelivery | None:
        """Lease the next due delivery to `destination`, or return None."""
        now = self._clock()
        lease = Lease(owner, now + seconds)
        with self._database.write() as connection:
            found = self._claim_due.mappings(connection, name=destination, now=now)
            if not found:
                return None
            row = found[0]
            self._lease.count(connection, row=row["id"], owner=owner, until=lease.until)
            pending = self._select_pending.mappings(connection, row=row["id"])
        return ClaimedDelivery(
            id=row["id"],
            study_id=row["study_id"],
            study_uid=row["study_uid"],
            destination=row["destination"],
            attempts=row["attempts"],
            pending=tuple([stored_instance(member, row["study_uid"]) for member in pending]),
            lease=lease,
        )

    def release_leases(self, owner_prefix: str) -> None:
        """Give back what an earlier life of this deliverer had leased."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.lease_owner.startswith(owner_prefix, autoescape=True))
                .values(lease_owner=None, lease_until=None)
            )

    def renew(self, delivery: ClaimedDelivery, seconds: float) -> None:
        """Extend the lease while one instance is still under way.

        Raises
        ------
        LeaseLostError
            If the study may no longer be forwarded, or the lease is lost.
        """
        with self._database.write() as connection:
            extended = self._extend(connection, delivery, seconds)
        _raise_if_lost(extended, delivery)

    def items_delivered(self, delivery: ClaimedDelivery, items: Sequence[DeliveredItem], *, seconds: float) -> None:
        """Write down in one commit that the destination has some instances, and extend the lease.

        Raises
        ------
        LeaseLostError
            If the study may no longer be forwarded, or the lease is lost. The instances count as delivered all the
            same.
        """
        rows = [
            {
                "row": delivery.id,
                "instance": item.instance_id,
                "v_status": item.status,
                "v_transcoded_to": item.transcoded_to,
                "v_delivered_at": item.at,
            }
            for item in items
        ]
        with self._database.write() as connection:
            extended = self._extend(connection, delivery, seconds)
            self._mark_delivered.execute_many(connection, rows)
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
        """Write down that the destination did not take an instance, and extend the lease.

        Raises
        ------
        LeaseLostError
            If the study may no longer be forwarded, or the lease is lost.
        """
        with self._database.write() as connection:
            extended = self._extend(connection, delivery, seconds)
            connection.execute(
                sa.update(delivery_items)
                .where(delivery_items.c.delivery_id == delivery.id, delivery_items.c.instance_id == instance_id)
                .values(
                    state=ItemState.FAILED if permanent else ItemState.PENDING,
                    status=status,
                    error=error,
                    attempts=delivery_items.c.attempts + 1,
                )
            )
        _raise_if_lost(extended, delivery)

    def _extend(self, connection: Connection, delivery: ClaimedDelivery, seconds: float) -> bool:
        until, owner = self._clock() + seconds, delivery.lease.owner
        return self._extend_lease.count(connection, row=delivery.id, owner=owner, until=until) == 1

    def finish(self, delivery: ClaimedDelivery, *, error: str | None, retry_in: float | None) -> StudyState:
        """End an attempt.

        Parameters
        ----------
        delivery : ClaimedDelivery
        error : str or None
            What went wrong, for people.
        retry_in : float or None
            Seconds until what is still pending is tried again; None gives it up, unless nothing went wrong.

        Returns
        -------
        StudyState
            Where the study stands now.
        """
        now = self._clock()
        with self._database.write() as connection:
            locked_state(connection, delivery.study_id)
            leased = self._end_lease.count(connection, row=delivery.id, owner=delivery.lease.owner, error=error)
            if leased:
                give_up = retry_in is None and error is not None
                pending, failed = self._left(connection, delivery, error if give_up else None)
                if pending:
                    _try_again(connection, delivery, pending, now + (retry_in or 0.0))
                else:
                    self._end(connection, delivery, failed, now)
            return finish_study(connection, delivery.study_id, now)

    def _left(self, connection: Connection, delivery: ClaimedDelivery, error: str | None) -> tuple[int, int]:
        """Return how many items are pending and how many failed; with an `error` those that are pending fail of it."""
        counts = dict(self._count_items.execute(connection, row=delivery.id))
        pending, failed = counts.get(str(ItemState.PENDING), 0), counts.get(str(ItemState.FAILED), 0)
        if not pending or error is None:
            return pending, failed
        connection.execute(
            sa.update(delivery_items)
            .where(delivery_items.c.delivery_id == delivery.id, delivery_items.c.state == ItemState.PENDING)
            .values(state=ItemState.FAILED, error=sa.func.coalesce(delivery_items.c.error, error))
        )
        return 0, failed + pending

    def _end(self, connection: Connection, delivery: ClaimedDelivery, failed: int, now: float) -> None:
        facts = {"destination": delivery.destination, "failed": failed, "instances": len(delivery.pending)}
        note(connection, AuditEvent.DELIVERED, now, study_id=delivery.study_id, **facts)
        ask_for_proof(connection, delivery.id, delivery.destination, now)
        state = str(ItemState.FAILED if failed else ItemState.DELIVERED)
        self._end_delivery.count(connection, row=delivery.id, v_state=state, now=now)

    def postpone(self, delivery: ClaimedDelivery) -> None:
        """Give a lease back without an attempt having been made."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(deliveries).where(_leased_to(delivery)).values(lease_owner=None, lease_until=None)
            )

    def give_up_unconfigured(self, destinations: Sequence[str], *, grace_seconds: float = 0.0) -> list[tuple[int, str]]:
        """Give up what waits for a destination that is no longer configured, so that it is listed and not forgotten.

        Parameters
        ----------
        destinations : sequence of str
            Names of those configured.
        grace_seconds : float
            How long a delivery must have waited: another role may know a new destination earlier than the caller.

        Returns
        -------
        list of (int, str)
            Study and destination of each delivery given up.
        """
        now = self._clock()
        with self._database.write() as connection:
            query = sa.select(deliveries.c.id, deliveries.c.study_id, deliveries.c.destination).where(
                deliveries.c.state == ItemState.PENDING,
                deliveries.c.destination.not_in(list(destinations)),
                deliveries.c.started_at <= now - grace_seconds,
            )
            found = connection.execute(query).all()
            for delivery_id, study_id, destination in found:
                lock_study(connection, study_id)
                error = f"the destination {destination} is no longer configured"
                connection.execute(
                    sa.update(delivery_items)
                    .where(delivery_items.c.delivery_id == delivery_id, delivery_items.c.state == ItemState.PENDING)
                    .values(state=ItemState.FAILED, error=error)
                )
                connection.execute(
                    sa.update(deliveries)
                    .where(deliveries.c.id == delivery_id)
                    .values(state=ItemState.FAILED, last_error=error, finished_at=now)
                )
                finish_study(connection, study_id, now)
        return [(study_id, destination) for _, study_id, destination in found]

    def retry(self, study_id: int, destination: str | None = None) -> int:
        """Try again what was given up, and return how many instances that is.

        Raises
        ------
        NotFoundError
            If there is no such study.
        """
        now = self._clock()
        with self._database.write() as connection:
            study = lock_study(connection, study_id)
            failed = sa.select(deliveries.c.id).where(
                deliveries.c.study_id == study_id,
                deliveries.c.state == ItemState.FAILED,
                *([deliveries.c.destination == destination] if destination else []),
            )
            ids = list(connection.execute(failed).scalars())
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id.in_(ids))
                .values(state=ItemState.PENDING, attempts=0, not_before=now, finished_at=None)
            )
            count = connection.execute(
                sa.update(delivery_items)
                .where(delivery_items.c.delivery_id.in_(ids), delivery_items.c.state == ItemState.FAILED)
                .values(state=ItemState.PENDING, attempts=0, error=None, proof=None, resends=0)
            ).rowcount
            if count and study["state"] == StudyState.FAILED:
                connection.execute(
                    sa.update(studies)
                    .where(studies.c.id == study_id)
                    .values(state=advance(StudyState.FAILED, StudyEvent.RETRIED), finished_at=None)
                )
        return count


def _due(destination: Any, now: Any) -> Select[Any]:
    """Return the query for the delivery to a destination that is next."""
    return (
        sa.select(deliveries, studies.c.study_uid)
        .join(studies)
        .where(
            deliveries.c.destination == destination,
            deliveries.c.state == str(ItemState.PENDING),
            deliveries.c.not_before <= now,
            sa.or_(deliveries.c.lease_until.is_(None), deliveries.c.lease_until < now),
            studies.c.state == str(StudyState.FORWARDING),
        )
        .order_by(deliveries.c.not_before, deliveries.c.id)
        .limit(1)
    )


def _raise_if_lost(extended: bool, delivery: ClaimedDelivery) -> None:
    if not extended:
        raise LeaseLostError(f"study {delivery.study_id} may no longer be forwarded to {delivery.destination}")


def _leased_to(delivery: ClaimedDelivery) -> Any:
    return sa.and_(deliveries.c.id == delivery.id, deliveries.c.lease_owner == delivery.lease.owner)


def _try_again(connection: Connection, delivery: ClaimedDelivery, pending: int, at: float) -> None:
    # only attempts in vain count towards giving up
    attempts = 1 if pending < len(delivery.pending) else deliveries.c.attempts + 1
    connection.execute(
        sa.update(deliveries).where(deliveries.c.id == delivery.id).values(attempts=attempts, not_before=at)
    )
