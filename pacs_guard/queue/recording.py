"""How arrived instances are written down, several in one transaction, with as little work for each as can be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import ItemState, StudyEvent, StudyState, advance
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import association_studies, deliveries, delivery_items, instances, studies, tallies
from pacs_guard.queue.statements import Prepared, insert_or_add, insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, Dialect

    from pacs_guard.domain.instance import StoredInstance

# a study that keeps waiting for its verdict keeps its age, so that a trickle of instances cannot postpone it for ever
_UNDECIDED = (StudyState.RECEIVING, StudyState.READY, StudyState.ASSESSING)


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance whose bytes are durable, to be written down.

    Attributes
    ----------
    instance : StoredInstance
    calling_ae : str
    association_id : str
        The open association that it came over.
    """

    instance: StoredInstance
    calling_ae: str
    association_id: str


@dataclass(slots=True)
class _Study:
    """A study's row, locked, and what the arrivals change in it."""

    id: int
    state: StudyState
    revision: int
    inserted: int = 0
    revisions: int = 0


@dataclass(slots=True)
class _Tally:
    instances: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Changes:
    """What a batch changes beside its instances; written once for all of them."""

    studies: dict[str, _Study]
    tallies: dict[tuple[str, str], _Tally] = field(default_factory=dict)
    # how many instances of which study came over which association
    links: Counter[tuple[str, int]] = field(default_factory=Counter)

    def count(self, source: str, outcome: Outcome, length: int) -> None:
        tally = self.tallies.setdefault((source, str(outcome)), _Tally())
        tally.instances += 1
        tally.bytes += length


class Recorder:
    """Writes arrivals down over a connection whose transaction somebody else commits.

    The statements are compiled once: putting one together takes SQLAlchemy several times as long as SQLite needs to
    execute it.

    Parameters
    ----------
    dialect : Dialect
    """

    def __init__(self, dialect: Dialect) -> None:
        def prepared(statement: Any) -> Prepared:
            return Prepared(statement, dialect)

        value = sa.bindparam
        self._select_study = prepared(
            sa.select(studies.c.id, studies.c.state, studies.c.revision)
            .where(studies.c.study_uid == value("uid"))
            .with_for_update()
        )
        self._insert_study = prepared(
            insert_or_ignore(dialect, studies).values(
                study_uid=value("uid"),
                state=str(StudyState.RECEIVING),
                kinds="",
                standing_hold=False,
                bypassed=False,
                late_due=False,
                received_count=0,
                revision=0,
                attempts=0,
                created_at=value("now"),
                opened_at=value("now"),
                last_instance_at=value("now"),
            )
        )
        self._select_same_uid = prepared(
            sa.select(
                instances.c.id,
                instances.c.study_id,
                instances.c.series_uid,
                instances.c.sha256,
                instances.c.purged_at,
                instances.c.missing,
            ).where(instances.c.sop_uid == value("uid"))
        )
        self._insert_instance = prepared(
            sa.insert(instances).values(
                {name: value(f"v_{name}") for name in _INSTANCE_COLUMNS} | {"duplicates": 0, "missing": False}
            )
        )
        self._touch_study = prepared(
            sa.update(studies)
            .where(studies.c.id == value("row"))
            .values(
                received_count=studies.c.received_count + value("inserted"),
                revision=studies.c.revision + value("revisions"),
                last_instance_at=value("now"),
            )
        )
        self._link = prepared(
            insert_or_add(
                dialect,
                association_studies,
                association_id=value("v_association"),
                study_id=value("v_study"),
                instances=value("v_instances"),
            )
        )
        self._tally = prepared(
            insert_or_add(
                dialect,
                tallies,
                source=value("v_source"),
                outcome=value("v_outcome"),
                instances=value("v_instances"),
                bytes=value("v_bytes"),
            )
        )

    def record(self, connection: Connection, arrivals: Sequence[Arrival], now: float) -> list[Outcome]:
        """Write arrivals down in their order, re-open their studies, and return what became of each.

        Parameters
        ----------
        connection : Connection
        arrivals : sequence of Arrival
        now : float
            Seconds since the epoch.
        """
        # the rows are locked in one order, so that no two transactions wait for each other
        uids = sorted({arrival.instance.key.study_uid for arrival in arrivals})
        changes = _Changes({uid: self._open_study(connection, uid, now) for uid in uids})
        outcomes = [self._store(connection, arrival, changes, now) for arrival in arrivals]
        for study in changes.studies.values():
            self._update_study(connection, study, now)
        for (association, study_id), count in sorted(changes.links.items()):
            self._link.execute(connection, v_association=association, v_study=study_id, v_instances=count)
        for (source, outcome), tally in sorted(changes.tallies.items()):
            self.count(connection, source, outcome, instances=tally.instances, length=tally.bytes)
        return outcomes

    def count(self, connection: Connection, source: str, outcome: str, *, instances: int, length: int) -> None:
        """Add to what was answered to a source: how many instances, and how many bytes they have together."""
        self._tally.execute(connection, v_source=source, v_outcome=str(outcome), v_instances=instances, v_bytes=length)

    def _open_study(self, connection: Connection, uid: str, now: float) -> _Study:
        row: Any = self._select_study.execute(connection, uid=uid).first()
        if row is None:
            self._insert_study.execute(connection, uid=uid, now=now)
            row = self._select_study.execute(connection, uid=uid).one()
        return _Study(row[0], StudyState(row[1]), row[2])

    def _store(self, connection: Connection, arrival: Arrival, changes: _Changes, now: float) -> Outcome:
        instance = arrival.instance
        study = changes.studies[instance.key.study_uid]
        same_uid = self._select_same_uid.execute(connection, uid=instance.key.sop_uid).all()
        known = next((row for row in same_uid if _is_same(row, study.id, instance)), None)
        if known is None:
            self._insert(connection, arrival, study.id, now)
            study.inserted += 1
            conflicting = any(row.sha256 != instance.key.sha256 for row in same_uid)
            outcome = counted_as = Outcome.CONFLICT if conflicting else Outcome.STORED
        else:
            # one whose bytes had gone is stored, but its row was counted as received when it first came
            outcome, counted_as = _repeat(connection, known, instance, now), Outcome.DUPLICATE
        study.revisions += outcome is not Outcome.DUPLICATE
        changes.links[arrival.association_id, study.id] += 1
        changes.count(instance.source, counted_as, instance.length)
        return outcome

    def _insert(self, connection: Connection, arrival: Arrival, study_id: int, now: float) -> None:
        instance = arrival.instance
        self._insert_instance.execute(
            connection,
            v_study_id=study_id,
            v_series_uid=instance.key.series_uid,
            v_sop_uid=instance.key.sop_uid,
            v_sha256=instance.key.sha256,
            v_sop_class_uid=instance.sop_class_uid,
            v_transfer_syntax_uid=instance.transfer_syntax_uid,
            v_path=instance.path,
            v_offset=instance.offset,
            v_length=instance.length,
            v_source=instance.source,
            v_calling_ae=arrival.calling_ae,
            v_received_at=now,
        )

    def _update_study(self, connection: Connection, study: _Study, now: float) -> None:
        if not study.revisions:  # nothing but duplicates
            return
        self._touch_study.execute(connection, row=study.id, inserted=study.inserted, revisions=study.revisions, now=now)
        if study.state is not StudyState.RECEIVING:
            _reopen(connection, study, now)


_INSTANCE_COLUMNS = (
    *("study_id", "series_uid", "sop_uid", "sha256", "sop_class_uid", "transfer_syntax_uid"),
    *("path", "offset", "length", "source", "calling_ae", "received_at"),
)


def _is_same(row: Any, study_id: int, instance: StoredInstance) -> bool:
    return (row.study_id, row.series_uid, row.sha256) == (study_id, instance.key.series_uid, instance.key.sha256)


def _repeat(connection: Connection, known: Any, instance: StoredInstance, now: float) -> Outcome:
    """Count a duplicate; one whose bytes are no longer here is taken in again and sent on again."""
    here = known.purged_at is None and not known.missing
    changes: dict[Any, object] = {"duplicates": instances.c.duplicates + 1}
    if not here:
        changes |= {
            "path": instance.path,
            "offset": instance.offset,
            "length": instance.length,
            "transfer_syntax_uid": instance.transfer_syntax_uid,
            "received_at": now,
            "purged_at": None,
            "missing": False,
        }
        _send_again(connection, known.id, now)
    connection.execute(sa.update(instances).where(instances.c.id == known.id).values(changes))
    return Outcome.DUPLICATE if here else Outcome.STORED


def _send_again(connection: Connection, instance_id: int, now: float) -> None:
    items = delivery_items.c.instance_id == instance_id
    affected = sa.select(delivery_items.c.delivery_id).where(items)
    # rows are always locked in the order study, delivery, items, so that no two transactions wait for each other
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id.in_(affected))
        .values(state=ItemState.PENDING, attempts=0, not_before=now, finished_at=None)
    )
    connection.execute(
        sa.update(delivery_items).where(items).values(state=ItemState.PENDING, attempts=0, delivered_at=None)
    )


def _reopen(connection: Connection, study: _Study, now: float) -> None:
    changes: dict[str, object] = {
        "state": advance(study.state, StudyEvent.INSTANCE_RECEIVED),
        "completed_at": None,
        "finished_at": None,
        "lease_owner": None,
        "lease_until": None,
    }
    if study.state not in _UNDECIDED:
        changes["opened_at"] = now
    connection.execute(sa.update(studies).where(studies.c.id == study.id).values(changes))
