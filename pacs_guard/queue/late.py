"""Studies assessed when no other waits: those forwarded without a verdict, and those that a person wants judged anew.

A suspicion in what was forwarded raises an alarm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.verdict import Verdict
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.assessments import Cause, announcement_of, audited, verdict_columns, write_assessment
from pacs_guard.queue.auditing import note
from pacs_guard.queue.claims import claimed_study
from pacs_guard.queue.outbox import announce
from pacs_guard.queue.results import enqueue_result
from pacs_guard.queue.rows import Lease
from pacs_guard.queue.schema import actions, deliveries, instances, reassessments, studies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.assessments import Assessment
    from pacs_guard.queue.database import Database
    from pacs_guard.queue.rows import ClaimedStudy

_FORWARDED = (StudyState.FORWARDING, StudyState.DELIVERED, StudyState.FAILED)
_JUDGED = (*_FORWARDED, StudyState.HELD, StudyState.REJECTED)
_AFTERWARDS = {
    Cause.LATE: "assessed after it was forwarded",
    Cause.ANEW: "judged anew after it was forwarded",
}


class LateAssessing:
    """Claims and verdicts of studies that have had their turn; to a worker it is what `Assessing` is.

    A verdict changes what is known of a study, not where it stands: it has left already, or a person or a deadline
    said that it should, or it is held. A study that is judged anew keeps its first verdict, unless it was forwarded as
    clean and is suspected now.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def claim(self, owner: str, seconds: float) -> ClaimedStudy | None:
        """Lease the oldest study that is to be assessed afterwards, else one to be judged anew, or return None."""
        for due in (sa.and_(studies.c.late_due, studies.c.state.in_(_FORWARDED)), _to_judge_anew()):
            claimed = self._claim(due, owner, seconds)
            if claimed is not None:
                return claimed
        return None

    def _claim(self, due: sa.ColumnElement[bool], owner: str, seconds: float) -> ClaimedStudy | None:
        now = self._clock()
        free = sa.or_(studies.c.lease_until.is_(None), studies.c.lease_until < now)
        query = sa.select(studies).where(due, free).order_by(studies.c.id).limit(1)
        with self._database.read() as connection:  # a look that takes no writer's turn
            if connection.execute(query.with_only_columns(studies.c.id)).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            attempts = row["attempts"] + 1
            lease = Lease(owner, now + seconds)
            claimed = claimed_study(connection, row, attempts, lease)
            if not claimed.instances and not row["late_due"]:  # removed after their retention since it was asked for
                _finish_anew(connection, row["id"], now)
                return None
            _update(connection, row["id"], lease_owner=owner, lease_until=lease.until, attempts=attempts)
            return claimed

    def renew(self, study: ClaimedStudy, seconds: float) -> None:
        """Extend a lease.

        Raises
        ------
        LeaseLostError
            If the study is no longer leased to the claim's owner.
        """
        until = self._clock() + seconds
        with self._database.write() as connection:
            if connection.execute(sa.update(studies).where(_leased_to(study)).values(lease_until=until)).rowcount != 1:
                raise LeaseLostError(f"study {study.id} is no longer leased to {study.lease.owner}")

    def release_leases(self, owner_prefix: str) -> None:
        """Give back what an earlier life of a worker had leased."""
        held = studies.c.lease_owner.startswith(owner_prefix, autoescape=True)
        with self._database.write() as connection:
            changes = {"lease_owner": None, "lease_until": None}
            connection.execute(sa.update(studies).where(held, studies.c.state.in_(_JUDGED)).values(**changes))

    def request(
        self,
        *,
        who: str,
        reason: str,
        study_ids: Collection[int] | None = None,
        source: str | None = None,
        since: float | None = None,
    ) -> int:
        """Have studies judged anew, and return how many.

        Those are meant that had their verdict, have instances in the spool, and do not wait for it already.

        Parameters
        ----------
        who, reason : str
            Recorded with each study.
        study_ids : collection of int, optional
            Only these.
        source : str, optional
            Only studies with instances of this source.
        since : float, optional
            Only studies of which the first instance came then or later, seconds since the epoch.
        """
        now = self._clock()
        there = sa.select(instances.c.id).where(instances.c.study_id == studies.c.id, instances.c.purged_at.is_(None))
        if source is not None:
            there = there.where(instances.c.source == source)
        meant = [studies.c.state.in_(_JUDGED), there.exists(), studies.c.id.not_in(_waiting_anew())]
        if study_ids is not None:
            meant.append(studies.c.id.in_(list(study_ids)))
        if since is not None:
            meant.append(studies.c.created_at >= since)
        with self._database.write() as connection:
            found = list(connection.execute(sa.select(studies.c.id).where(*meant).order_by(studies.c.id)).scalars())
            recorded: dict[str, Any] = {"who": who, "reason": reason, "at": now}
            for study_id in found:
                connection.execute(sa.insert(reassessments).values(study_id=study_id, **recorded))
                connection.execute(sa.insert(actions).values(study_id=study_id, action="reassess", **recorded))
                # attempts are counted from here, unless somebody is at it
                idle = sa.and_(studies.c.id == study_id, studies.c.lease_owner.is_(None))
                connection.execute(sa.update(studies).where(idle).values(attempts=0))
        return len(found)

    def waiting(self) -> int:
        """Return how many studies are still to be judged anew."""
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(_waiting_anew().subquery())).scalar_one()

    def decide(self, study: ClaimedStudy, assessment: Assessment) -> StudyState:
        """Write a late verdict down, and raise the alarm if it is a suspicion.

        Returns
        -------
        StudyState
            Where the study stands, now as before.

        Raises
        ------
        LeaseLostError
            If the study changed under way; nothing was written then.
        """
        now = self._clock()
        with self._database.write() as connection:
            query = sa.select(studies).where(_leased_to(study)).with_for_update()
            row = connection.execute(query).mappings().first()
            if row is None or row["revision"] != study.revision:
                raise LeaseLostError(f"study {study.id} changed while it was assessed")
            cause = Cause.LATE if row["late_due"] else Cause.ANEW
            assessment_id = write_assessment(connection, study, assessment, now, cause)
            suspected = assessment.judgement.verdict is Verdict.SUSPECTED
            new = suspected and row["state"] in _FORWARDED and row["verdict"] != Verdict.SUSPECTED
            changes: dict[str, object] = {"lease_owner": None, "lease_until": None, "late_due": False}
            if cause is Cause.LATE or new:
                changes |= verdict_columns(assessment, now)
                changes["reason"] = f"{assessment.judgement.reason} ({_AFTERWARDS[cause]})"
                changes |= {"bypassed": cause is Cause.LATE or row["bypassed"], "decided_at": row["decided_at"]}
            _update(connection, study.id, **changes)
            _finish_anew(connection, study.id, now)
            note(connection, AuditEvent.ASSESSED, now, study_id=study.id, **audited(assessment))
            if new:
                _raise_alarm(connection, study, assessment, assessment_id, now)
        return StudyState(row["state"])


def _waiting_anew() -> sa.Select[tuple[int]]:
    return sa.select(reassessments.c.study_id).where(reassessments.c.finished_at.is_(None)).distinct()


def _to_judge_anew() -> sa.ColumnElement[bool]:
    return sa.and_(studies.c.state.in_(_JUDGED), studies.c.id.in_(_waiting_anew()))


def _finish_anew(connection: Connection, study_id: int, now: float) -> None:
    waiting = sa.and_(reassessments.c.study_id == study_id, reassessments.c.finished_at.is_(None))
    connection.execute(sa.update(reassessments).where(waiting).values(finished_at=now))


def _raise_alarm(
    connection: Connection, study: ClaimedStudy, assessment: Assessment, assessment_id: int, now: float
) -> None:
    there = sa.select(deliveries.c.destination).where(deliveries.c.study_id == study.id).order_by(deliveries.c.id)
    destinations = list(connection.execute(there).scalars())
    announced = announcement_of(study, assessment) | {"destinations": destinations}
    announce(connection, study.id, "late_finding", announced, now)
    note(connection, AuditEvent.LATE_FINDING, now, study_id=study.id, **audited(assessment))
    reason = assessment.judgement.reason
    values = {"study_id": study.id, "action": "late finding", "who": "detector", "reason": reason, "at": now}
    connection.execute(sa.insert(actions).values(**values))
    if assessment.evidence is not None:
        enqueue_result(connection, study.id, assessment_id, now)


def _leased_to(study: ClaimedStudy) -> Any:
    return sa.and_(
        studies.c.id == study.id,
        studies.c.state.in_(_JUDGED),
        studies.c.lease_owner == study.lease.owner,
        studies.c.attempts == study.attempts,  # an owner that claimed it anew does not hold the old lease
    )


def _update(connection: Connection, study_id: int, **changes: Any) -> None:
    connection.execute(sa.update(studies).where(studies.c.id == study_id).values(**changes))
