"""How arrived instances are written down, several in one transaction, with as little work for each as can be."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.queue.repeating import reopen, repeat
from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import association_studies, instances, studies, tallies
from pacs_guard.queue.statements import Prepared, PreparedForMany, insert_or_add, insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection, Dialect

    from pacs_guard.domain.instance import StoredInstance


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
    inserted: int = 0
    revisions: int = 0


class _Known(NamedTuple):
    """What matters of a row that has an arrival's SOP Instance UID."""

    id: int
    sop_uid: str
    study_id: int
    series_uid: str
    sha256: str
    purged_at: float | None
    missing: bool

    @property
    def is_here(self) -> bool:
        """Whether its bytes are in the spool."""
        return self.purged_at is None and not self.missing


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
        self._select_studies = PreparedForMany(
            lambda uids: (
                sa.select(studies.c.study_uid, studies.c.id, studies.c.state)
                .where(studies.c.study_uid.in_(uids))
                # the rows are locked in one order, so that no two transactions wait for each other
                .order_by(studies.c.study_uid)
                .with_for_update()
            ),
            dialect,
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
        self._select_same_uid = PreparedForMany(
            lambda uids: sa.select(*(instances.c[name] for name in _Known._fields)).where(
                instances.c.sop_uid.in_(uids)
            ),
            dialect,
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
        changes = _Changes(self._open_studies(connection, sorted({_study_uid(arrival) for arrival in arrivals}), now))
        outcomes = [
            outcome
            for batch in _of_different_uids(arrivals)
            for outcome in self._store(connection, batch, changes, now)
        ]
        self._update_studies(connection, changes.studies.values(), now)
        links = sorted(changes.links.items())
        self._link.execute_many(
            connection,
            [{"v_association": one, "v_study": study, "v_instances": count} for (one, study), count in links],
        )
        for (source, outcome), tally in sorted(changes.tallies.items()):
            self.count(connection, source, outcome, instances=tally.instances, length=tally.bytes)
        return outcomes

    def count(self, connection: Connection, source: str, outcome: str, *, instances: int, length: int) -> None:
        """Add to what was answered to a source: how many instances, and how many bytes they have together."""
        self._tally.execute(connection, v_source=source, v_outcome=str(outcome), v_instances=instances, v_bytes=length)

    def _open_studies(self, connection: Connection, uids: Sequence[str], now: float) -> dict[str, _Study]:
        rows = self._select_studies.execute(connection, uids)
        if len(rows) < len(uids):
            known = {row[0] for row in rows}
            new = [{"uid": uid, "now": now} for uid in uids if uid not in known]
            self._insert_study.execute_many(connection, new)
            rows = self._select_studies.execute(connection, uids)
        return {row[0]: _Study(row[1], StudyState(row[2])) for row in rows}

    def _store(
        self, connection: Connection, arrivals: Sequence[Arrival], changes: _Changes, now: float
    ) -> list[Outcome]:
        """Write arrivals down of which no two have the same SOP Instance UID."""
        same_uid: dict[str, list[_Known]] = defaultdict(list)
        for row in self._select_same_uid.execute(connection, [_sop_uid(arrival) for arrival in arrivals]):
            known = _Known(*row)
            same_uid[known.sop_uid].append(known)
        new: list[dict[str, Any]] = []
        outcomes = []
        for arrival in arrivals:
            study = changes.studies[_study_uid(arrival)]
            others = same_uid[_sop_uid(arrival)]
            same = next((one for one in others if _is_same(one, study.id, arrival.instance)), None)
            if same is None:
                new.append(_row(arrival, study.id, now))
                study.inserted += 1
                conflicting = any(one.sha256 != arrival.instance.key.sha256 for one in others)
                outcome = counted_as = Outcome.CONFLICT if conflicting else Outcome.STORED
            else:
                # one whose bytes had gone is stored, but its row was counted as received when it first came
                outcome, counted_as = (
                    repeat(connection, same.id, here=same.is_here, instance=arrival.instance, now=now),
                    Outcome.DUPLICATE,
                )
            study.revisions += outcome is not Outcome.DUPLICATE
            changes.links[arrival.association_id, study.id] += 1
            changes.count(arrival.instance.source, counted_as, arrival.instance.length)
            outcomes.append(outcome)
        if new:
            self._insert_instance.execute_many(connection, new)
        return outcomes

    def _update_studies(self, connection: Connection, changed: Iterable[_Study], now: float) -> None:
        grown = [study for study in changed if study.revisions]  # the others had nothing but duplicates
        if not grown:
            return
        touched = [
            {"row": study.id, "inserted": study.inserted, "revisions": study.revisions, "now": now} for study in grown
        ]
        self._touch_study.execute_many(connection, touched)
        for study in grown:
            if study.state is not StudyState.RECEIVING:
                reopen(connection, study.id, study.state, now)


_INSTANCE_COLUMNS = (
    *("study_id", "series_uid", "sop_uid", "sha256", "sop_class_uid", "transfer_syntax_uid"),
    *("path", "offset", "length", "source", "calling_ae", "received_at"),
)


def _sop_uid(arrival: Arrival) -> str:
    return arrival.instance.key.sop_uid


def _study_uid(arrival: Arrival) -> str:
    return arrival.instance.key.study_uid


def _of_different_uids(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Yield the arrivals in their order, cut where a SOP Instance UID comes again: it must find the first one's row."""
    batch: dict[str, Arrival] = {}
    for arrival in arrivals:
        if _sop_uid(arrival) in batch:
            yield list(batch.values())
            batch = {}
        batch[_sop_uid(arrival)] = arrival
    yield list(batch.values())


def _row(arrival: Arrival, study_id: int, now: float) -> dict[str, Any]:
    instance = arrival.instance
    return {
        "v_study_id": study_id,
        "v_series_uid": instance.key.series_uid,
        "v_sop_uid": instance.key.sop_uid,
        "v_sha256": instance.key.sha256,
        "v_sop_class_uid": instance.sop_class_uid,
        "v_transfer_syntax_uid": instance.transfer_syntax_uid,
        "v_path": instance.path,
        "v_offset": instance.offset,
        "v_length": instance.length,
        "v_source": instance.source,
        "v_calling_ae": arrival.calling_ae,
        "v_received_at": now,
    }


def _is_same(row: _Known, study_id: int, instance: StoredInstance) -> bool:
    return (row.study_id, row.series_uid, row.sha256) == (study_id, instance.key.series_uid, instance.key.sha256)
