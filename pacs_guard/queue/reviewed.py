"""Studies that people have decided about, and studies that passed, for training and calibrating from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.labels import PLACED, Label
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.verdict import Verdict
from pacs_guard.queue.rows import stored_instance
from pacs_guard.queue.schema import actions, instances, labels, studies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import RowMapping

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.database import Database
    from pacs_guard.queue.review import Review

RELEASE, REJECT, LABEL, NOBODY = "release", "reject", "label", "none"
_FORWARDED = (StudyState.FORWARDING, StudyState.DELIVERED, StudyState.FAILED)


@dataclass(frozen=True, slots=True)
class ReviewedStudy:
    """A study, and what a person decided about it last.

    Attributes
    ----------
    id : int
    action : str
        ``release``, it was a false alarm; ``reject``, it was altered; ``label``, as `said`; ``none``, nobody looked.
    who, reason : str
    at : float
        Seconds since the epoch.
    findings : tuple of dict
        Those it was held for.
    instances : tuple of StoredInstance
        Those whose bytes are still in the spool.
    gone : int
        How many are there no longer.
    said : Label or None
        What a person labelled it.
    given : tuple of dict
        Places that a person gave with the label.
    """

    id: int
    action: str
    who: str
    reason: str
    at: float
    findings: tuple[dict[str, Any], ...]
    instances: tuple[StoredInstance, ...]
    gone: int
    said: Label | None = None
    given: tuple[dict[str, Any], ...] = ()

    @property
    def label(self) -> Label:
        """What is to be learnt from it."""
        return self.said or (Label.TAMPERED if self.action == REJECT else Label.CLEAN)

    @property
    def places(self) -> tuple[dict[str, Any], ...]:
        """Where it was altered, by a person's word or else by what was found; `detector` is empty for a person."""
        if self.label is not Label.TAMPERED:
            return ()
        if self.given:
            return tuple({**one, "detector": ""} for one in self.given)
        return self.found

    @property
    def found(self) -> tuple[dict[str, Any], ...]:
        """Where something was suspected, rightly or not."""
        keys = ("kind", "sop_uid", "x", "y", "detector")
        placed = [one for one in self.findings if one["kind"] in PLACED and one["x"] is not None]
        return tuple({key: one[key] for key in keys} for one in placed)


def reviewed_studies(database: Database, review: Review) -> Iterator[ReviewedStudy]:
    """Yield every study that people released, rejected or labelled, with the last of such decisions, in order.

    A study that was labelled as of no use is left out.
    """
    with database.read() as connection:
        query = sa.select(actions).where(actions.c.action.in_([RELEASE, REJECT])).order_by(actions.c.id)
        last = {row["study_id"]: row for row in connection.execute(query).mappings()}
        said = connection.execute(sa.select(labels).order_by(labels.c.id)).mappings()
        labelled = {row["study_id"]: row for row in said}
    for study_id in sorted(last.keys() | labelled.keys()):
        decision, label = last.get(study_id), labelled.get(study_id)
        if label is not None and decision is not None and label["at"] < decision["at"]:
            label = None
        if label is not None and label["label"] == Label.NONE:
            continue
        there, gone = instances_of(database, study_id)
        decided = label if label is not None else decision
        assert decided is not None  # noqa: S101  # it is in one of them
        yield ReviewedStudy(
            id=study_id,
            action=LABEL if label is not None else str(decided["action"]),
            who=decided["who"],
            reason=decided["reason"],
            at=decided["at"],
            findings=review.details(study_id).findings,
            instances=there,
            gone=gone,
            said=Label(label["label"]) if label is not None else None,
            given=tuple(label["places"]) if label is not None else (),
        )


def decisions_since(database: Database, at: float) -> int:
    """Return about how many studies people decided after a time, seconds since the epoch."""
    made = sa.or_(actions.c.action.in_([RELEASE, REJECT]), actions.c.action.startswith(LABEL))
    query = sa.select(sa.func.count(sa.distinct(actions.c.study_id))).where(made, actions.c.at > at)
    with database.read() as connection:
        return connection.execute(query).scalar_one()


def presumed_clean(
    database: Database, *, source: str | None = None, suspected: bool = False, limit: int | None = None
) -> Iterator[ReviewedStudy]:
    """Yield studies that were forwarded by the detector's word and about which nobody decided, the newest first.

    Parameters
    ----------
    database : Database
    source : str, optional
        Only those with instances of this source.
    suspected : bool
        Those that were suspected and forwarded in shadow mode, too: without them only what passed would be left.
    limit : int, optional
    """
    verdicts = [Verdict.CLEAN, *([Verdict.SUSPECTED] if suspected else [])]
    decided = sa.select(actions.c.study_id).where(actions.c.action.in_([RELEASE, REJECT, "late finding"]))
    there = sa.select(instances.c.id).where(
        instances.c.study_id == studies.c.id, instances.c.purged_at.is_(None), sa.not_(instances.c.missing)
    )
    if source is not None:
        there = there.where(instances.c.source == source)
    query = sa.select(studies.c.id, studies.c.decided_at).where(
        studies.c.state.in_(_FORWARDED),
        studies.c.verdict.in_(verdicts),
        studies.c.score.is_not(None),
        studies.c.id.not_in(decided),
        studies.c.id.not_in(sa.select(labels.c.study_id)),
        there.exists(),
    )
    with database.read() as connection:
        rows = connection.execute(query.order_by(studies.c.id.desc()).limit(limit)).all()
    for study_id, at in rows:
        found, gone = instances_of(database, study_id)
        yield ReviewedStudy(study_id, NOBODY, "nobody", "it passed", at, (), found, gone, Label.CLEAN)


def instances_of(database: Database, study_id: int) -> tuple[tuple[StoredInstance, ...], int]:
    """Return a study's instances whose bytes are still in the spool, and how many are there no longer."""
    query = sa.select(instances, studies.c.study_uid).join(studies).where(instances.c.study_id == study_id)
    with database.read() as connection:
        rows = connection.execute(query.order_by(instances.c.id)).mappings().all()
    there: list[RowMapping] = [row for row in rows if row["purged_at"] is None and not row["missing"]]
    return tuple(stored_instance(row, row["study_uid"]) for row in there), len(rows) - len(there)
