"""Studies of the node's test of itself: found, and removed once they were looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import StudyEvent, StudyState, advance
from pacs_guard.domain.selftest import SELF_TEST
from pacs_guard.queue.auditing import note
from pacs_guard.queue.schema import actions, assessments, instances, studies

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database

_SETTLED = (StudyState.DELIVERED, StudyState.HELD, StudyState.REJECTED, StudyState.FAILED)


@dataclass(frozen=True, slots=True)
class Removed:
    """What of a study lies on disk and is no longer needed.

    Attributes
    ----------
    study_id : int
    paths : tuple of str
        Instances, relative to the spool.
    evidence : tuple of str
        Folders, relative to the data folder.
    """

    study_id: int
    paths: tuple[str, ...]
    evidence: tuple[str, ...]


class SelfTests:
    """The queue's side of the test.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def remove_settled(self, reason: str) -> list[Removed]:
        """Give up what is there of test studies that have come to rest, and say which files that is.

        Their rows stay, as those of any other study: what was held is rejected, on record. A study with as much as one
        instance of another source is never touched.
        """
        now = self._clock()
        with self._database.write() as connection:
            return [self._remove(connection, study_id, reason, now) for study_id in _settled(connection)]

    def _remove(self, connection: Connection, study_id: int, reason: str, now: float) -> Removed:
        row = connection.execute(sa.select(studies).where(studies.c.id == study_id).with_for_update()).mappings().one()
        here = sa.and_(instances.c.study_id == study_id, instances.c.purged_at.is_(None))
        paths = tuple(connection.execute(sa.select(instances.c.path).where(here)).scalars())
        folders = sa.select(assessments.c.evidence).where(
            assessments.c.study_id == study_id, assessments.c.evidence.is_not(None)
        )
        evidence = tuple(connection.execute(folders).scalars())
        if row["state"] == StudyState.HELD:
            state = advance(StudyState.HELD, StudyEvent.REJECTED)
            connection.execute(sa.update(studies).where(studies.c.id == study_id).values(state=state))
            note(connection, AuditEvent.REJECTED, now, study_id=study_id, who=SELF_TEST, reason=reason)
        connection.execute(sa.update(instances).where(here).values(purged_at=now))
        values = {"study_id": study_id, "action": SELF_TEST, "who": SELF_TEST, "reason": reason, "at": now}
        connection.execute(sa.insert(actions).values(**values))
        return Removed(study_id, paths, evidence)


def _settled(connection: Connection) -> list[int]:
    others = sa.select(instances.c.id).where(instances.c.study_id == studies.c.id, instances.c.source != SELF_TEST)
    here = sa.select(instances.c.id).where(instances.c.study_id == studies.c.id, instances.c.purged_at.is_(None))
    query = (
        sa.select(studies.c.id)
        .where(studies.c.state.in_(_SETTLED), here.exists(), sa.not_(others.exists()))
        .order_by(studies.c.id)
    )
    return list(connection.execute(query).scalars())
