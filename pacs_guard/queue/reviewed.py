"""Studies that people have decided about, for training from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.queue.rows import stored_instance
from pacs_guard.queue.schema import actions, instances, studies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.database import Database
    from pacs_guard.queue.review import Review

RELEASE, REJECT = "release", "reject"


@dataclass(frozen=True, slots=True)
class ReviewedStudy:
    """A study that was held, and what a person decided last.

    Attributes
    ----------
    id : int
    action : str
        ``release``, it was a false alarm; or ``reject``, it was altered.
    who, reason : str
    at : float
        Seconds since the epoch.
    findings : tuple of dict
        Those it was held for.
    instances : tuple of StoredInstance
        Those whose bytes are still in the spool.
    gone : int
        How many are there no longer.
    """

    id: int
    action: str
    who: str
    reason: str
    at: float
    findings: tuple[dict[str, Any], ...]
    instances: tuple[StoredInstance, ...]
    gone: int


def reviewed_studies(database: Database, review: Review) -> Iterator[ReviewedStudy]:
    """Yield every study that was released or rejected by a person, with the last of such decisions, in order."""
    with database.read() as connection:
        query = sa.select(actions).where(actions.c.action.in_([RELEASE, REJECT])).order_by(actions.c.id)
        last = {row["study_id"]: row for row in connection.execute(query).mappings()}
    for study_id, decision in sorted(last.items()):
        with database.read() as connection:
            query = sa.select(instances, studies.c.study_uid).join(studies).where(instances.c.study_id == study_id)
            rows = connection.execute(query.order_by(instances.c.id)).mappings().all()
        there = [row for row in rows if row["purged_at"] is None and not row["missing"]]
        yield ReviewedStudy(
            id=study_id,
            action=decision["action"],
            who=decision["who"],
            reason=decision["reason"],
            at=decision["at"],
            findings=review.details(study_id).findings,
            instances=tuple(stored_instance(row, row["study_uid"]) for row in there),
            gone=len(rows) - len(there),
        )
