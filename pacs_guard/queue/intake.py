"""What the receiver writes: associations, instances and refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent, Throttle
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.queue.assessing import ASSOCIATION_STALE_SECONDS
from pacs_guard.queue.auditing import note, note_end_of_association
from pacs_guard.queue.recording import Arrival, Recorder
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import associations, instances, refusals, studies
from pacs_guard.queue.upkeep import paths_of_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.engine import Connection

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.database import Database


_LONGEST_REASON = 2000
_GONE_SECONDS = 86400.0
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
        self._recorder = Recorder(database.engine.dialect)
        self._refused = Throttle(_SAME_REFUSAL_SECONDS)

    def has_associations(self) -> bool:
        """Whether any association is written down as open."""
        with self._database.read() as connection:
            return connection.execute(sa.select(associations.c.id).limit(1)).first() is not None

    def forget_associations(self) -> None:
        """Drop what an earlier life of this receiver left open, and what no receiver has been heard of for a day."""
        mine = sa.or_(
            associations.c.receiver == self._receiver,
            associations.c.heartbeat_at < self._clock() - _GONE_SECONDS,
        )
        with self._database.write() as connection:
            for association_id in list(connection.execute(sa.select(associations.c.id).where(mine)).scalars()):
                note_end_of_association(connection, association_id, self._clock())
            connection.execute(sa.delete(associations).where(mine))

    def open_association(
        self, association_id: str, *, calling_ae: str, address: str, source: str, certificate: str | None = None
    ) -> None:
        """Note an association that may send studies; `certificate` is the subject of that which was shown, if any."""
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
                **_shown(certificate),
            }
            note(connection, AuditEvent.ASSOCIATION_OPENED, now, **facts)

    def refuse_association(
        self, *, calling_ae: str, called_ae: str, address: str, reason: str, certificate: str | None = None
    ) -> None:
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
            **_shown(certificate),
        }
        with self._database.write() as connection:
            note(connection, AuditEvent.ASSOCIATION_REFUSED, now, reason=reason, count=count, **facts)

    def count_associations(self) -> dict[str, int]:
        """Return how many associations are open on all receivers that have been heard of lately, by source."""
        alive = associations.c.heartbeat_at > self._clock() - ASSOCIATION_STALE_SECONDS
        query = sa.select(associations.c.source, sa.func.count()).where(alive).group_by(associations.c.source)
        with self._database.read() as connection:
            return {source: int(count) for source, count in connection.execute(query)}

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
        """Write one instance down, as `record_all` does."""
        [outcome] = self.record_all([Arrival(instance, calling_ae, association_id)])
        return outcome

    def record_all(self, arrivals: Sequence[Arrival], *, durable: bool = True) -> list[Outcome]:
        """Write instances down in one transaction, and re-open their studies.

        Parameters
        ----------
        arrivals : sequence of Arrival
        durable : bool
            False if their rows can be written again after a power failure (`pacs_guard.receive.recovery`).

        Returns
        -------
        list of Outcome
            For each arrival: STORED or CONFLICT if its path now belongs to the queue; DUPLICATE if it does not.

        Raises
        ------
        QueueUnavailableError
            If the database cannot take them; nothing was written then.
        CommitUnknownError
            If it stopped answering while it was committing: the paths may belong to the queue.
        QueueError
            If it refuses one of them; nothing was written then.
        """
        with self._database.write(durable=durable) as connection:
            return self._recorder.record(connection, arrivals, self._clock())

    def written_paths(self, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that a row has, whether its bytes are still needed or not."""
        return paths_of_rows(self._database, paths)

    def write_again(self, arrivals: Sequence[Arrival]) -> list[Outcome | None]:
        """Write those down that came over an association that is written down as open.

        Returns
        -------
        list of Outcome or None
            As of `record_all`, and DUPLICATE, uncounted, for what is here already; None for an arrival over any other
            association.

        Raises
        ------
        QueueUnavailableError
            If the database cannot take them; nothing was written then.
        """
        with self._database.write() as connection:
            open_ones = set(connection.execute(sa.select(associations.c.id)).scalars())
            here = self._here(connection, [arrival.instance.key.sop_uid for arrival in arrivals])
            new = [
                arrival
                for arrival in arrivals
                if arrival.association_id in open_ones and arrival.instance.key not in here
            ]
            outcomes = iter(self._recorder.record(connection, new, self._clock()) if new else ())
        return [
            None
            if arrival.association_id not in open_ones
            else Outcome.DUPLICATE
            if arrival.instance.key in here
            else next(outcomes)
            for arrival in arrivals
        ]

    def _here(self, connection: Connection, sop_uids: Sequence[str]) -> set[InstanceKey]:
        """Return the keys of the rows that have one of some UIDs, and their bytes."""
        query = (
            sa.select(studies.c.study_uid, instances.c.series_uid, instances.c.sop_uid, instances.c.sha256)
            .join(studies)
            .where(instances.c.sop_uid.in_(sop_uids), instances.c.purged_at.is_(None), sa.not_(instances.c.missing))
        )
        return {InstanceKey(*row) for row in connection.execute(query)}

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
            self._recorder.count(connection, source, Outcome.REFUSED, instances=1, length=length)


def _shown(certificate: str | None) -> dict[str, str]:
    return {"certificate": certificate} if certificate is not None else {}


def _fitting(text: str, length: int) -> str:
    """Cut what a peer sent to what a column holds; PostgreSQL takes no NUL."""
    return text.replace("\0", "")[:length]
