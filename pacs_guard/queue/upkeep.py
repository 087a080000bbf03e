"""Rows against disk: what reconciliation and retention ask of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.domain.proof import OPEN, Proof
from pacs_guard.domain.selftest import SELF_TEST
from pacs_guard.queue.rows import stored_instance
from pacs_guard.queue.schema import deliveries, delivery_items, instances, studies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.database import Database

_BATCH = 500


class Upkeep:
    """Instances as files.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def expected_files(self) -> Iterator[tuple[int, str, int]]:
        """Yield (instance id, path, smallest size in bytes) of every instance whose bytes should be in the spool."""
        last = 0
        while True:
            query = (
                sa.select(instances.c.id, instances.c.path, instances.c.offset + instances.c.length)
                .where(instances.c.id > last, instances.c.purged_at.is_(None))
                .order_by(instances.c.id)
                .limit(_BATCH)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            yield from rows
            last = rows[-1][0]

    def undelivered(self) -> Iterator[StoredInstance]:
        """Yield every instance that at least one destination does not have, the given-up ones included."""
        open_items = sa.select(delivery_items.c.instance_id).where(
            delivery_items.c.instance_id == instances.c.id, delivery_items.c.state != ItemState.DELIVERED
        )
        any_item = sa.select(delivery_items.c.instance_id).where(delivery_items.c.instance_id == instances.c.id)
        last = 0
        while True:
            query = (
                sa.select(instances, studies.c.study_uid)
                .join(studies)
                .where(
                    instances.c.id > last,
                    sa.or_(open_items.exists(), sa.not_(any_item.exists())),
                    # only a self-test's instances are removed without having been delivered
                    sa.or_(instances.c.purged_at.is_(None), instances.c.source != SELF_TEST),
                )
                .order_by(instances.c.id)
                .limit(_BATCH)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).mappings().all()
            if not rows:
                return
            yield from (stored_instance(row, row["study_uid"]) for row in rows)
            last = rows[-1]["id"]

    def known_paths(self, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that belong to an instance whose bytes are still needed."""
        return paths_of_rows(self._database, paths, instances.c.purged_at.is_(None))

    def needed_in(self, segment: str) -> set[str]:
        """Return the paths in a segment that belong to an instance whose bytes are still needed."""
        query = sa.select(instances.c.path).where(
            instances.c.path.startswith(f"{segment}/", autoescape=True), instances.c.purged_at.is_(None)
        )
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def mark_missing(self, instance_ids: Collection[int], *, missing: bool) -> None:
        """Note that the bytes of instances are gone from the spool, or back in it."""
        listed = list(instance_ids)
        for start in range(0, len(listed), _BATCH):  # a statement takes only so many parameters
            with self._database.write() as connection:
                connection.execute(
                    sa.update(instances)
                    .where(
                        instances.c.id.in_(listed[start : start + _BATCH]),
                        instances.c.missing != missing,
                        instances.c.purged_at.is_(None),  # retention may have come in between
                    )
                    .values(missing=missing)
                )

    def purge_delivered(self, older_than_seconds: float, *, unproved_at: Collection[str] = ()) -> list[str]:
        """Mark instances of studies delivered long enough ago as purged, and return their paths for removal.

        Nothing of a held, rejected or failed study is ever returned, and no instance that a destination is still to
        prove, or could not.

        Parameters
        ----------
        older_than_seconds : float
        unproved_at : collection of str
            Destinations whose answers to C-STORE are enough where they gave no proof.
        """
        now = self._clock()
        due = sa.select(instances.c.id, instances.c.path).where(_removable(now - older_than_seconds, unproved_at))
        with self._database.read() as connection:  # a long look that takes no writer's turn
            found = list(connection.execute(due.limit(_BATCH)).scalars())
        if not found:
            return []
        with self._database.write() as connection:  # what came in between is seen here
            rows = connection.execute(due.where(instances.c.id.in_(found))).all()
            connection.execute(
                sa.update(instances).where(instances.c.id.in_([row[0] for row in rows])).values(purged_at=now)
            )
        return [row[1] for row in rows]


def paths_of_rows(database: Database, paths: Collection[str], *conditions: sa.ColumnElement[bool]) -> set[str]:
    """Return those of `paths` that an instance has which meets the conditions."""
    found: set[str] = set()
    listed = list(paths)
    with database.read() as connection:
        for start in range(0, len(listed), _BATCH):
            query = sa.select(instances.c.path).where(instances.c.path.in_(listed[start : start + _BATCH]), *conditions)
            found.update(connection.execute(query).scalars())
    return found


def _removable(finished_before: float, unproved_at: Collection[str]) -> sa.ColumnElement[bool]:
    """Return the condition for instances of studies that ended before a time and that nobody needs."""
    unproved = sa.and_(delivery_items.c.proof == Proof.UNPROVED, deliveries.c.destination.not_in(list(unproved_at)))
    needed = (
        sa.select(delivery_items.c.instance_id)
        .join(deliveries, deliveries.c.id == delivery_items.c.delivery_id)
        .where(
            delivery_items.c.instance_id == instances.c.id,
            sa.or_(delivery_items.c.proof.is_(None), delivery_items.c.proof.in_(OPEN), unproved),
        )
    )
    ended = sa.select(studies.c.id).where(
        studies.c.state == StudyState.DELIVERED, studies.c.finished_at < finished_before
    )
    return sa.and_(instances.c.purged_at.is_(None), instances.c.study_id.in_(ended), sa.not_(needed.exists()))
