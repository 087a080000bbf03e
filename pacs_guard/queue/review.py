"""What a person does: look, release, reject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.lifecycle import StudyEvent, StudyState, advance
from pacs_guard.domain.policy import Decision
from pacs_guard.errors import NotFoundError
from pacs_guard.queue.auditing import note
from pacs_guard.queue.deliveries import enqueue_deliveries
from pacs_guard.queue.proofrows import lock_study
from pacs_guard.queue.rows import StudySummary
from pacs_guard.queue.schema import (
    actions,
    assessments,
    deliveries,
    delivery_items,
    findings,
    instances,
    proofs,
    studies,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from pacs_guard.queue.database import Database

_PROOF = ("pending", "proved", "unproved", "unasked")


@dataclass(frozen=True, slots=True)
class StudyDetails:
    """Everything the queue knows of a study, for a person.

    Attributes
    ----------
    summary : StudySummary
    assessment : dict or None
        The last assessment; of a study under a hold, the last that spoke for it.
    findings : tuple of dict
        Its findings.
    deliveries : tuple of dict
        One for each destination, with its counts.
    actions : tuple of dict
        What was done to it, in order.
    paths : tuple of str
        Files of its instances, relative to the spool.
    assessments : tuple of dict
        Every assessment of it in order: when, why, by which models, and what came of it.
    """

    summary: StudySummary
    assessment: dict[str, Any] | None
    findings: tuple[dict[str, Any], ...]
    deliveries: tuple[dict[str, Any], ...]
    actions: tuple[dict[str, Any], ...]
    paths: tuple[str, ...]
    assessments: tuple[dict[str, Any], ...] = ()


_OF_ASSESSMENT = ("finished_at", "cause", "verdict", "decision", "reason", "bundles", "hashes", "evidence")


class Review:
    """Studies as people see and treat them.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def list_studies(
        self, states: Collection[StudyState] | None = None, *, limit: int | None = None
    ) -> list[StudySummary]:
        """Return studies, the newest first."""
        query = sa.select(studies).order_by(studies.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(studies.c.state.in_(list(states)))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
            sources = _sources(connection, [row["id"] for row in rows])
        return [StudySummary.from_row(row, sources.get(row["id"], [])) for row in rows]

    def find(self, reference: str) -> int:
        """Return the id of the study that `reference`, an id or a StudyInstanceUID, names.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        condition = studies.c.study_uid == reference
        if reference.isdecimal() and len(reference) < 10:  # what a 32-bit id holds
            condition = sa.or_(condition, studies.c.id == int(reference))
        with self._database.read() as connection:
            found = connection.execute(sa.select(studies.c.id).where(condition)).scalar()
        if found is None:
            raise NotFoundError(f"there is no study {reference!r}; expected an id of `studies list` or a study UID")
        return int(found)

    def details(self, study_id: int) -> StudyDetails:
        """Return everything known of a study.

        Raises
        ------
        NotFoundError
            If there is no such study.
        """
        with self._database.read() as connection:
            row = connection.execute(sa.select(studies).where(studies.c.id == study_id)).mappings().first()
            if row is None:
                raise NotFoundError(f"there is no study {study_id}")
            last = (
                connection.execute(
                    sa.select(assessments)
                    .where(assessments.c.study_id == study_id)
                    .order_by(*_most_telling(row), assessments.c.id.desc())
                    .limit(1)
                )
                .mappings()
                .first()
            )
            return StudyDetails(
                summary=StudySummary.from_row(row, _sources(connection, [study_id]).get(study_id, [])),
                assessment=dict(last) if last else None,
                findings=_findings(connection, last["id"]) if last else (),
                deliveries=_deliveries(connection, study_id),
                actions=_dicts(
                    connection, sa.select(actions).where(actions.c.study_id == study_id).order_by(actions.c.id)
                ),
                paths=tuple(
                    connection.execute(
                        sa.select(instances.c.path)
                        .where(instances.c.study_id == study_id, instances.c.purged_at.is_(None))
                        .order_by(instances.c.id)
                    ).scalars()
                ),
                assessments=_dicts(
                    connection,
                    sa.select(
                        *(assessments.c[name] for name in _OF_ASSESSMENT),
                    )
                    .where(assessments.c.study_id == study_id)
                    .order_by(assessments.c.id),
                ),
            )

    def release(self, study_id: int, *, who: str, reason: str, destinations: Sequence[str]) -> None:
        """Lift the hold on a study and queue it for the destinations.

        Raises
        ------
        NotFoundError
            If there is no such study.
        LifecycleError
            If it is not held.
        """
        self._act(study_id, StudyEvent.RELEASED, "release", who, reason, destinations)

    def reject(self, study_id: int, *, who: str, reason: str) -> None:
        """Confirm that a held study must not be forwarded.

        Raises
        ------
        NotFoundError
            If there is no such study.
        LifecycleError
            If it is not held.
        """
        self._act(study_id, StudyEvent.REJECTED, "reject", who, reason, ())

    def note_retry(self, study_id: int, *, who: str, reason: str) -> None:
        """Record that a person had given-up deliveries tried again."""
        with self._database.write() as connection:
            _record(connection, study_id, "retry", who, reason, self._clock())

    def _act(
        self, study_id: int, event: StudyEvent, action: str, who: str, reason: str, destinations: Sequence[str]
    ) -> None:
        now = self._clock()
        with self._database.write() as connection:
            study = lock_study(connection, study_id)
            state = advance(StudyState(study["state"]), event)
            released = event is StudyEvent.RELEASED
            connection.execute(
                sa.update(studies).where(studies.c.id == study_id).values(state=state, standing_hold=not released)
            )
            _record(connection, study_id, action, who, reason, now)
            audited = AuditEvent.RELEASED if released else AuditEvent.REJECTED
            note(connection, audited, now, study_id=study_id, who=who, reason=reason)
            if released:
                enqueue_deliveries(connection, study_id, destinations, now)


def _most_telling(study: RowMapping) -> list[Any]:
    """Return an order that has what a standing hold was made for first."""
    if not study["standing_hold"]:
        return []
    return [sa.case((assessments.c.decision == Decision.QUARANTINE, 0), else_=1)]


def _record(connection: Connection, study_id: int, action: str, who: str, reason: str, now: float) -> None:
    connection.execute(sa.insert(actions).values(study_id=study_id, action=action, who=who, reason=reason, at=now))


def _sources(connection: Connection, study_ids: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    query = sa.select(instances.c.study_id, instances.c.source).where(instances.c.study_id.in_(study_ids)).distinct()
    for study_id, source in connection.execute(query):
        found.setdefault(study_id, []).append(source)
    return found


def _findings(connection: Connection, assessment_id: int) -> tuple[dict[str, Any], ...]:
    query = (
        sa.select(findings)
        .where(findings.c.assessment_id == assessment_id)
        .order_by(findings.c.score.desc(), findings.c.id)
    )
    return tuple(dict(row["details"]) for row in connection.execute(query).mappings())


def _deliveries(connection: Connection, study_id: int) -> tuple[dict[str, Any], ...]:
    counts = (
        sa.select(delivery_items.c.delivery_id, delivery_items.c.state, sa.func.count().label("count"))
        .join(deliveries)
        .where(deliveries.c.study_id == study_id)
        .group_by(delivery_items.c.delivery_id, delivery_items.c.state)
    )
    by_delivery: dict[int, dict[str, int]] = {}
    for delivery_id, state, count in connection.execute(counts):
        by_delivery.setdefault(delivery_id, {})[state] = count
    proof = (proofs.c.state.label("proof"), *(proofs.c[name] for name in _PROOF))
    query = (
        sa.select(deliveries, *proof)
        .outerjoin(proofs, proofs.c.delivery_id == deliveries.c.id)
        .where(deliveries.c.study_id == study_id)
        .order_by(deliveries.c.id)
    )
    rows: Sequence[RowMapping] = connection.execute(query).mappings().all()
    return tuple({**row, "instances": by_delivery.get(row["id"], {})} for row in rows)


def _dicts(connection: Connection, query: Any) -> tuple[dict[str, Any], ...]:
    return tuple(dict(row) for row in connection.execute(query).mappings())
