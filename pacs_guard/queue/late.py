"""Studies that were forwarded without a verdict, assessed afterwards: a late finding raises an alarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.verdict import Verdict
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.assessing import Cause, announcement_of, audited, claimed_study, verdict_columns, write_assessment
from pacs_guard.queue.auditing import note
from pacs_guard.queue.outbox import announce
from pacs_guard.queue.results import enqueue_result
from pacs_guard.queue.rows import Lease
from pacs_guard.queue.schema import actions, deliveries, studies

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.assessing import Assessment
    from pacs_guard.queue.database import Database
    from pacs_guard.queue.rows import ClaimedStudy

_FORWARDED = (StudyState.FORWARDING, StudyState.DELIVERED, StudyState.FAILED)


class LateAssessing:
    """Claims and verdicts of studies that are on their way, or there; to a worker it is what `Assessing` is.

    A verdict changes what is known of a study, not where it stands: it has left already, or a person or a deadline
    said that it should.

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
        """Lease the oldest study that is to be assessed afterwards, or return None."""
        now = self._clock()
        query = (
            sa.select(studies)
            .where(
                studies.c.late_due,
                studies.c.state.in_(_FORWARDED),
                sa.or_(studies.c.lease_until.is_(None), studies.c.lease_until < now),
            )
            .order_by(studies.c.id)
            .limit(1)
        )
        with self._database.read() as connection:  # a look that takes no writer's turn
            if connection.execute(query.with_only_columns(studies.c.id)).first() is None:
                return None
        with self._database.write() as connection:
            row = connection.execute(query.with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            attempts = row["attempts"] + 1
            lease = Lease(owner, now + seconds)
            _update(connection, row["id"], lease_owner=owner, lease_until=lease.until, attempts=attempts)
            return claimed_study(connection, row, attempts, lease)

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
        held = sa.and_(studies.c.late_due, studies.c.lease_owner.startswith(owner_prefix, autoescape=True))
        with self._database.write() as connection:
            changes = {"lease_owner": None, "lease_until": None}
            connection.execute(sa.update(studies).where(held, studies.c.state.in_(_FORWARDED)).values(**changes))

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
            assessment_id = write_assessment(connection, study, assessment, now, Cause.LATE)
            known = verdict_columns(assessment, now)
            known["reason"] = f"{assessment.judgement.reason} (assessed after it was forwarded)"
            known |= {"bypassed": True, "decided_at": row["decided_at"]}
            _update(connection, study.id, late_due=False, lease_owner=None, lease_until=None, **known)
            note(connection, AuditEvent.ASSESSED, now, study_id=study.id, **audited(assessment))
            if assessment.judgement.verdict is Verdict.SUSPECTED:
                _raise_alarm(connection, study, assessment, assessment_id, now)
        return StudyState(row["state"])


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
        studies.c.late_due,
        studies.c.state.in_(_FORWARDED),
        studies.c.lease_owner == study.lease.owner,
        studies.c.attempts == study.attempts,  # an owner that claimed it anew does not hold the old lease
    )


def _update(connection: Connection, study_id: int, **changes: Any) -> None:
    connection.execute(sa.update(studies).where(studies.c.id == study_id).values(**changes))
