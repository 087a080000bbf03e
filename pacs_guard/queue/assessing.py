"""From a complete study to a verdict: the sweep's and the detector worker's side of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import StudyEvent, StudyState, advance
from pacs_guard.domain.policy import Decision
from pacs_guard.domain.selftest import is_self_test
from pacs_guard.domain.verdict import Verdict
from pacs_guard.errors import LeaseLostError
from pacs_guard.queue.assessments import announcement_of, audited, verdict_columns, write_assessment
from pacs_guard.queue.auditing import note
from pacs_guard.queue.bypass import active_bypasses
from pacs_guard.queue.claims import claimed_study
from pacs_guard.queue.deliveries import enqueue_deliveries
from pacs_guard.queue.drift import record
from pacs_guard.queue.outbox import announce
from pacs_guard.queue.results import enqueue_result
from pacs_guard.queue.rows import Lease
from pacs_guard.queue.schema import (
    actions,
    association_studies,
    associations,
    instances,
    studies,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.domain.completeness import CompletenessRule
    from pacs_guard.domain.policy import Policy
    from pacs_guard.queue.assessments import Assessment
    from pacs_guard.queue.bypass import BypassSwitch
    from pacs_guard.queue.database import Database
    from pacs_guard.queue.rows import ClaimedStudy

ASSOCIATION_STALE_SECONDS = 60.0
"""An association whose receiver has not been heard of for so long no longer keeps a study open."""


class Assessing:
    """Completion, claims and verdicts.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    destinations : sequence of str
        Names of the destinations that a cleared study goes to.
    """

    def __init__(self, database: Database, clock: Callable[[], float], destinations: Sequence[str]) -> None:
        self._database = database
        self._clock = clock
        self._destinations = tuple(destinations)

    def reconfigure(self, destinations: Sequence[str]) -> None:
        """Send every study that is cleared from now on to these destinations."""
        self._destinations = tuple(destinations)

    def complete_quiet(self, rule: CompletenessRule) -> list[int]:
        """Mark every study that counts as whole as ready, and return their ids."""
        now = self._clock()
        if not self._any_due(rule, now):  # most of the time; a look takes no writer's turn
            return []
        with self._database.write() as connection:
            query = sa.select(studies).where(studies.c.state == StudyState.RECEIVING)
            return [
                row["id"]
                for row in connection.execute(query).mappings().all()
                if _is_complete(connection, row, rule, now)
                and _move(
                    connection, row, StudyEvent.COMPLETED, completed_at=now, attempts=0, bypassed=False, late_due=False
                )
            ]

    def _any_due(self, rule: CompletenessRule, now: float) -> bool:
        query = (
            sa.select(studies.c.id)
            .where(
                studies.c.state == StudyState.RECEIVING,
                sa.or_(
                    studies.c.last_instance_at <= now - rule.quiet_seconds,
                    studies.c.opened_at <= now - rule.longest_wait_seconds,
                ),
            )
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def _any_ready(self) -> bool:
        query = sa.select(studies.c.id).where(studies.c.state == StudyState.READY).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def claim(self, owner: str, seconds: float) -> ClaimedStudy | None:
        """Lease the study that has waited longest to `owner`, or return None."""
        if not self._any_ready():  # an idle worker takes no writer's turn
            return None
        now = self._clock()
        lease = Lease(owner, now + seconds)
        with self._database.write() as connection:
            query = (
                sa.select(studies)
                .where(studies.c.state == StudyState.READY)
                .order_by(studies.c.completed_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            row = connection.execute(query).mappings().first()
            if row is None:
                return None
            attempts = row["attempts"] + 1
            _move(connection, row, StudyEvent.CLAIMED, lease_owner=owner, lease_until=lease.until, attempts=attempts)
            return claimed_study(connection, row, attempts, lease)

    def renew(self, study: ClaimedStudy, seconds: float) -> None:
        """Extend a lease.

        Raises
        ------
        LeaseLostError
            If the study is no longer leased to the claim's owner.
        """
        with self._database.write() as connection:
            result = connection.execute(
                sa.update(studies).where(_leased_to(study)).values(lease_until=self._clock() + seconds)
            )
            if result.rowcount != 1:
                raise LeaseLostError(f"study {study.id} is no longer leased to {study.lease.owner}")

    def expire_leases(self) -> list[int]:
        """Return every study whose worker has not been heard of to the waiting ones, and return their ids."""
        return self._give_back(studies.c.lease_until < self._clock())

    def release_leases(self, owner_prefix: str) -> list[int]:
        """Return what an earlier life of a worker had leased to the waiting ones, and return their ids."""
        return self._give_back(studies.c.lease_owner.startswith(owner_prefix, autoescape=True))

    def _give_back(self, condition: sa.ColumnElement[bool]) -> list[int]:
        with self._database.write() as connection:
            query = (
                sa.select(studies)
                .where(studies.c.state == StudyState.ASSESSING, condition)
                .order_by(studies.c.id)
                .with_for_update()  # a worker that renews just now keeps its study
            )
            rows = connection.execute(query).mappings().all()
            return [
                row["id"]
                for row in rows
                if _move(connection, row, StudyEvent.LEASE_EXPIRED, lease_owner=None, lease_until=None)
            ]

    def decide(self, study: ClaimedStudy, assessment: Assessment) -> StudyState:
        """Write a verdict down and let it take effect, in one transaction.

        Returns
        -------
        StudyState
            Where the study stands now. A study under a hold that no person has lifted stays held.

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
            assessment_id = write_assessment(connection, study, assessment, now)
            tells = not is_self_test(study.sources)
            if tells and assessment.judgement.verdict is Verdict.SUSPECTED and assessment.evidence is not None:
                enqueue_result(connection, study.id, assessment_id, now)
            _note_drift(connection, assessment, now)
            quarantine = assessment.judgement.decision is Decision.QUARANTINE
            hold = row["standing_hold"] or quarantine
            event = StudyEvent.SUSPECTED if hold else StudyEvent.CLEARED
            # a hold keeps the verdict that it was made for, so that a person sees why
            verdict = {} if hold and not quarantine else verdict_columns(assessment, now)
            _move(connection, row, event, lease_owner=None, lease_until=None, standing_hold=hold, **verdict)
            note(connection, AuditEvent.ASSESSED, now, study_id=study.id, **audited(assessment))
            if quarantine:
                note(connection, AuditEvent.QUARANTINED, now, study_id=study.id, **audited(assessment))
                if tells:
                    announce(connection, study.id, "study_quarantined", announcement_of(study, assessment), now)
            if not hold:
                enqueue_deliveries(connection, study.id, self._destinations, now)
        return advance(StudyState.ASSESSING, event)

    def bypass_overdue(self, policies: Mapping[str, Policy], default: Policy) -> list[int]:
        """Forward every study that waited for a verdict longer than its sources allow, and return their ids.

        The wait is counted from the first instance of this round. Nothing waits whose sources' bypass is switched on.
        A study under a hold that no person has lifted keeps waiting. What is forwarded so is still assessed afterwards.
        """
        now = self._clock()
        bypassed = []
        with self._database.write() as connection:
            query = (
                sa.select(studies)
                .where(studies.c.state.in_([StudyState.READY, StudyState.ASSESSING]), sa.not_(studies.c.standing_hold))
                .order_by(studies.c.id)
                .with_for_update()  # neither a verdict nor a late instance comes in between
            )
            rows = connection.execute(query).mappings().all()
            switched = active_bypasses(connection) if rows else {}
            for row in rows:
                sources = _sources(connection, row["id"])
                limit = strictest(policies, default, sources).longest_hold_seconds
                switches = [switched[source] for source in sources if source in switched]
                if switches and len(switches) == len(sources):
                    self._bypass(connection, row, switches[0].who, _switched_on(switches), now)
                elif now - row["opened_at"] >= limit:
                    reason = f"no verdict within the longest hold of {limit:g} s; forwarded without one"
                    self._bypass(connection, row, "longest hold", reason, now)
                else:
                    continue
                bypassed.append(row["id"])
        return bypassed

    def _bypass(self, connection: Connection, row: RowMapping, who: str, reason: str, now: float) -> None:
        _move(
            connection,
            row,
            StudyEvent.BYPASSED,
            bypassed=True,
            late_due=True,
            verdict="UNDETERMINED",
            reason=reason,
            decided_at=now,
            lease_owner=None,
            lease_until=None,
        )
        enqueue_deliveries(connection, row["id"], self._destinations, now)
        connection.execute(
            sa.insert(actions).values(study_id=row["id"], action="bypass", who=who, reason=reason, at=now)
        )
        note(connection, AuditEvent.BYPASSED, now, study_id=row["id"], reason=reason)


def _switched_on(switches: Sequence[BypassSwitch]) -> str:
    turned = "; ".join(f"{one.source} by {one.who}: {one.reason}" for one in switches)
    return f"forwarded without a verdict, as the bypass is switched on ({turned})"


def strictest(policies: Mapping[str, Policy], default: Policy, sources: Sequence[str]) -> Policy:
    """Return the strictest of the policies of `sources`; a source that is no longer configured counts as `default`."""
    found = [policies.get(source, default) for source in sources] or [default]
    policy = found[0]
    for other in found[1:]:
        policy = policy.strictest(other)
    return policy


def _move(connection: Connection, row: RowMapping, event: StudyEvent, **changes: object) -> bool:
    """Advance a study unless an instance came in since `row` was read."""
    state = advance(StudyState(row["state"]), event)
    result = connection.execute(
        sa.update(studies)
        .where(studies.c.id == row["id"], studies.c.state == row["state"], studies.c.revision == row["revision"])
        .values(state=state, **changes)
    )
    return result.rowcount == 1


def _is_complete(connection: Connection, row: RowMapping, rule: CompletenessRule, now: float) -> bool:
    return rule.is_complete(
        now=now,
        opened_at=row["opened_at"],
        last_instance_at=row["last_instance_at"],
        still_sending=_still_sending(connection, row["id"], now),
    )


def _still_sending(connection: Connection, study_id: int, now: float) -> bool:
    query = (
        sa.select(sa.literal(1))
        .select_from(association_studies.join(associations))
        .where(
            association_studies.c.study_id == study_id,
            associations.c.heartbeat_at > now - ASSOCIATION_STALE_SECONDS,
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _sources(connection: Connection, study_id: int) -> list[str]:
    query = sa.select(instances.c.source).where(instances.c.study_id == study_id).distinct()
    return sorted(connection.execute(query).scalars())


def _leased_to(study: ClaimedStudy) -> Any:
    return sa.and_(
        studies.c.id == study.id,
        studies.c.state == StudyState.ASSESSING,
        studies.c.lease_owner == study.lease.owner,
        studies.c.attempts == study.attempts,  # an owner that claimed it anew does not hold the old lease
    )


def _note_drift(connection: Connection, assessment: Assessment, now: float) -> None:
    observed = [one for series in assessment.series for one in series.observed]
    model = next(iter(assessment.hashes), None)  # the first one with a bundle scores the slices
    if model is not None and observed:
        record(connection, model, assessment.bundles[model], observed, now)
