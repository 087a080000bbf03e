"""A study that a detector's worker has leased, with everything that is needed to judge it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.queue.rows import ClaimedStudy, Lease, stored_instance
from pacs_guard.queue.schema import instances, studies

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.domain.instance import StoredInstance


def claimed_study(connection: Connection, row: RowMapping, attempts: int, lease: Lease) -> ClaimedStudy:
    """Return a study that was just leased, with its instances."""
    query = (
        sa.select(instances)
        .where(instances.c.study_id == row["id"], instances.c.purged_at.is_(None), sa.not_(instances.c.missing))
        .order_by(instances.c.id)
    )
    members = connection.execute(query).mappings().all()
    return ClaimedStudy(
        id=row["id"],
        study_uid=row["study_uid"],
        revision=row["revision"],
        attempts=attempts,
        sources=tuple(sorted({member["source"] for member in members})),
        instances=tuple(stored_instance(member, row["study_uid"]) for member in members),
        lease=lease,
        conflicting=_conflicting(connection, row["id"]),
    )


def _conflicting(connection: Connection, study_id: int) -> tuple[StoredInstance, ...]:
    mine, other = instances.alias("mine"), instances.alias("other")
    query = (
        sa.select(other, studies.c.study_uid)
        .join(mine, sa.and_(mine.c.sop_uid == other.c.sop_uid, mine.c.sha256 != other.c.sha256))
        .join(studies, studies.c.id == other.c.study_id)
        .where(
            mine.c.study_id == study_id,
            sa.or_(other.c.study_id != study_id, other.c.series_uid != mine.c.series_uid),
        )
        .order_by(other.c.id)
        .distinct()
    )
    found = []
    for row in connection.execute(query).mappings():
        instance = stored_instance(row, row["study_uid"])
        gone = row["purged_at"] is not None or row["missing"]
        found.append(replace(instance, path="") if gone else instance)
    return tuple(found)
