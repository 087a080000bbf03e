"""Storage commitment that modalities ask of this node: requests, what is known of their instances, and the reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.commitment import Copy, Reference
from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import Proof
from pacs_guard.errors import TransactionInUseError
from pacs_guard.queue.auditing import note_commitment
from pacs_guard.queue.rows import Lease, stored_instance
from pacs_guard.queue.schema import commitment_request_items, commitment_requests, delivery_items, instances, studies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.domain.commitment import CommitmentRequest
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.database import Database

_BATCH = 400


class RequestState(StrEnum):
    """Where a modality's request stands."""

    WAITING = "waiting"
    """Not everything that it asks about can be said yet, or nobody was told."""
    ANSWERED = "answered"
    """The modality took the report."""
    FAILED = "failed"
    """The modality could not be told; it may ask again."""


@dataclass(frozen=True, slots=True)
class ClaimedRequest:
    """A modality's request, leased to whoever answers it.

    Attributes
    ----------
    id : int
    transaction_uid, calling_ae, source, address : str
        What was asked, by whom, and where from.
    instances : tuple of Reference
    received_at : float
        Seconds since the epoch.
    attempts : int
        How often its sender was told in vain.
    lease : Lease
    """

    id: int
    transaction_uid: str
    calling_ae: str
    source: str
    address: str
    instances: tuple[Reference, ...]
    received_at: float
    attempts: int
    lease: Lease


@dataclass(frozen=True, slots=True)
class KnownCopy:
    """An instance that was received under a UID asked about.

    Attributes
    ----------
    instance : StoredInstance
    copy : Copy
        Its bytes count as here if the spool should have them; whoever answers looks.
    """

    instance: StoredInstance
    copy: Copy


class CommitmentRequests:
    """The requests of modalities.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def receive(self, request: CommitmentRequest, *, calling_ae: str, source: str, address: str) -> None:
        """Write a request down, durably; the same one again is answered again.

        Raises
        ------
        TransactionInUseError
            If `calling_ae` asked about other instances under this transaction UID before.
        """
        now = self._clock()
        with self._database.write() as connection:
            known = _find(connection, calling_ae, request.transaction_uid)
            if known is not None:
                if set(_instances(connection, known)) != set(request.instances):
                    raise TransactionInUseError(
                        f"the transaction {request.transaction_uid} of {calling_ae} is about other instances"
                    )
                _update(connection, known, state=RequestState.WAITING, not_before=now, attempts=0, finished_at=None)
                return
            row = sa.insert(commitment_requests).values(
                calling_ae=calling_ae,
                transaction_uid=request.transaction_uid,
                source=source,
                address=address,
                state=RequestState.WAITING,
                received_at=now,
                not_before=now,
                attempts=0,
            )
            [request_id] = connection.execute(row).inserted_primary_key or [0]
            connection.execute(
                sa.insert(commitment_request_items),
                [
                    {"request_id": request_id, "sop_uid": one.sop_uid, "sop_class_uid": one.sop_class_uid}
                    for one in request.instances
                ],
            )

    def is_due(self) -> bool:
        """Whether a request is to be looked at."""
        with self._database.read() as connection:
            return connection.execute(self._due().with_only_columns(commitment_requests.c.id)).first() is not None

    def claim(self, owner: str, seconds: float) -> ClaimedRequest | None:
        """Lease the next request, or return None."""
        lease = Lease(owner, self._clock() + seconds)
        with self._database.write() as connection:
            row = connection.execute(self._due().with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            _update(connection, row["id"], lease_owner=owner, lease_until=lease.until)
            named = ("id", "transaction_uid", "calling_ae", "source", "address", "received_at", "attempts")
            found = tuple(_instances(connection, row["id"]))
            return ClaimedRequest(**{name: row[name] for name in named}, instances=found, lease=lease)

    def release_leases(self, owner_prefix: str) -> None:
        """Give back what an earlier life of the answerer had leased."""
        held = commitment_requests.c.lease_owner.startswith(owner_prefix, autoescape=True)
        with self._database.write() as connection:
            connection.execute(sa.update(commitment_requests).where(held).values(lease_owner=None, lease_until=None))

    def copies(self, request: ClaimedRequest) -> dict[str, list[KnownCopy]]:
        """Return what was received under each SOP Instance UID that a request names."""
        found: dict[str, list[KnownCopy]] = {}
        uids = sorted({one.sop_uid for one in request.instances})
        with self._database.read() as connection:
            for start in range(0, len(uids), _BATCH):
                wanted = instances.c.sop_uid.in_(uids[start : start + _BATCH])
                query = sa.select(instances, studies.c.study_uid, studies.c.state).join(studies).where(wanted)
                rows = connection.execute(query).mappings().all()
                ways = _ways(connection, [row["id"] for row in rows])
                for row in rows:
                    found.setdefault(row["sop_uid"], []).append(_known(row, ways.get(row["id"], ())))
        return found

    def wait(self, request: ClaimedRequest, seconds: float) -> None:
        """Look at a request again after a while."""
        self._finish(request, not_before=self._clock() + seconds)

    def answered(self, request: ClaimedRequest, answers: Mapping[Reference, int]) -> None:
        """Write down that the modality took the report, and what it was told of each instance."""
        now = self._clock()
        self._finish(request, answers, state=RequestState.ANSWERED, finished_at=now, last_error=None)

    def not_told(self, request: ClaimedRequest, error: str, *, retry_in: float | None) -> None:
        """Write down that the modality did not take the report; None gives up."""
        now = self._clock()
        changes: dict[str, Any] = {"attempts": request.attempts + 1, "last_error": error}
        if retry_in is None:
            changes |= {"state": RequestState.FAILED, "finished_at": now}
        else:
            changes |= {"not_before": now + retry_in}
        self._finish(request, **changes)

    def purge(self, older_than_seconds: float) -> int:
        """Remove requests that ended long enough ago, and return how many that is."""
        ended = commitment_requests.c.finished_at < self._clock() - older_than_seconds
        old = sa.select(commitment_requests.c.id).where(ended)
        with self._database.write() as connection:
            items = commitment_request_items.c.request_id.in_(old)
            connection.execute(sa.delete(commitment_request_items).where(items))
            return connection.execute(sa.delete(commitment_requests).where(ended)).rowcount

    def _finish(self, request: ClaimedRequest, answers: Mapping[Reference, int] | None = None, **changes: Any) -> None:
        with self._database.write() as connection:
            connection.execute(
                sa.update(commitment_requests)
                .where(commitment_requests.c.id == request.id, commitment_requests.c.lease_owner == request.lease.owner)
                .values(lease_owner=None, lease_until=None, **changes)
            )
            if answers:
                asker = {"calling_ae": request.calling_ae, "address": request.address, "source": request.source}
                note_commitment(connection, answers, self._clock(), transaction=request.transaction_uid, **asker)
                items = commitment_request_items.c
                statement = sa.update(commitment_request_items).where(
                    items.request_id == request.id,
                    items.sop_uid == sa.bindparam("uid"),
                    items.sop_class_uid == sa.bindparam("sop_class"),
                )
                rows = [
                    {"uid": one.sop_uid, "sop_class": one.sop_class_uid, "answer": found}
                    for one, found in answers.items()
                ]
                connection.execute(statement, rows)

    def _due(self) -> sa.Select[Any]:
        now = self._clock()
        return (
            sa.select(commitment_requests)
            .where(
                commitment_requests.c.state == RequestState.WAITING,
                commitment_requests.c.not_before <= now,
                sa.or_(commitment_requests.c.lease_until.is_(None), commitment_requests.c.lease_until < now),
            )
            .order_by(commitment_requests.c.not_before, commitment_requests.c.id)
            .limit(1)
        )


def _find(connection: Connection, calling_ae: str, transaction_uid: str) -> int | None:
    query = sa.select(commitment_requests.c.id).where(
        commitment_requests.c.calling_ae == calling_ae, commitment_requests.c.transaction_uid == transaction_uid
    )
    return connection.execute(query).scalar()


def _instances(connection: Connection, request_id: int) -> list[Reference]:
    query = (
        sa.select(commitment_request_items.c.sop_class_uid, commitment_request_items.c.sop_uid)
        .where(commitment_request_items.c.request_id == request_id)
        .order_by(commitment_request_items.c.sop_uid)
    )
    return [Reference(*row) for row in connection.execute(query)]


def _update(connection: Connection, request_id: int, **changes: Any) -> None:
    connection.execute(sa.update(commitment_requests).where(commitment_requests.c.id == request_id).values(**changes))


def _ways(connection: Connection, instance_ids: Sequence[int]) -> dict[int, tuple[tuple[ItemState, Proof | None], ...]]:
    query = (
        sa.select(delivery_items.c.instance_id, delivery_items.c.state, delivery_items.c.proof)
        .where(delivery_items.c.instance_id.in_(list(instance_ids)))
        .order_by(delivery_items.c.delivery_id)
    )
    found: dict[int, tuple[tuple[ItemState, Proof | None], ...]] = {}
    for instance_id, state, proof in connection.execute(query):
        way = ItemState(state), Proof(proof) if proof is not None else None
        found[instance_id] = (*found.get(instance_id, ()), way)
    return found


def _known(row: RowMapping, ways: tuple[tuple[ItemState, Proof | None], ...]) -> KnownCopy:
    is_here = row["purged_at"] is None and not row["missing"]
    copy = Copy(row["sop_class_uid"], is_here, StudyState(row["state"]), ways)
    return KnownCopy(stored_instance(row, row["study_uid"]), copy)
