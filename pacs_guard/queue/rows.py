"""What the queue hands out: rows as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.lifecycle import StudyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import RowMapping


class Outcome(StrEnum):
    """What became of a received object."""

    STORED = "stored"
    """New, and durable."""
    CONFLICT = "conflict"
    """New and durable, while another instance has the same SOP Instance UID and other content."""
    DUPLICATE = "duplicate"
    """Already here, byte for byte; nothing was stored."""
    REFUSED = "refused"
    """Answered with a failure."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on something until a time.

    Attributes
    ----------
    owner : str
        Who holds it.
    until : float
        When it runs out unless renewed, seconds since the epoch.
    """

    owner: str
    until: float


@dataclass(frozen=True, slots=True)
class ClaimedStudy:
    """A study leased to a detector worker.

    Attributes
    ----------
    id : int
    study_uid : str
    revision : int
        Number of the last instance; a verdict on another revision is refused.
    attempts : int
        How often it was claimed since it was last complete, this time included.
    sources : tuple of str
        Names of the sources that its instances came from.
    instances : tuple of StoredInstance
    lease : Lease
    conflicting : tuple of StoredInstance
        Instances of other series or studies that have the SOP Instance UID of one of these and other content; those
        whose bytes are gone have an empty path.
    """

    id: int
    study_uid: str
    revision: int
    attempts: int
    sources: tuple[str, ...]
    instances: tuple[StoredInstance, ...]
    lease: Lease
    conflicting: tuple[StoredInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """One study's way to one destination, leased to a deliverer.

    Attributes
    ----------
    id : int
    study_id : int
    study_uid : str
    destination : str
    attempts : int
        Failed attempts so far.
    pending : tuple of StoredInstance
        What is still to be sent, the least often tried first.
    lease : Lease
    """

    id: int
    study_id: int
    study_uid: str
    destination: str
    attempts: int
    pending: tuple[StoredInstance, ...]
    lease: Lease


@dataclass(frozen=True, slots=True)
class DeliveredItem:
    """An instance that a destination has.

    Attributes
    ----------
    instance_id : int
    status : int
        Of the C-STORE response.
    transcoded_to : str or None
        Transfer syntax that it was sent in, if that is not its own.
    at : float
        When it was answered, seconds since the epoch.
    """

    instance_id: int
    status: int
    transcoded_to: str | None
    at: float


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study as a person sees it in a list.

    Attributes
    ----------
    id : int
    study_uid : str
    state : StudyState
    verdict, reason : str or None
    kinds : tuple of str
        Kinds of its suspect findings.
    score, p_value : float or None
    bypassed : bool
        Whether it was forwarded without having been judged clean.
    sources : tuple of str
    instances : int
    created_at, decided_at, finished_at : float or None
        Seconds since the epoch.
    """

    id: int
    study_uid: str
    state: StudyState
    verdict: str | None
    reason: str | None
    kinds: tuple[str, ...]
    score: float | None
    p_value: float | None
    bypassed: bool
    sources: tuple[str, ...]
    instances: int
    created_at: float
    decided_at: float | None
    finished_at: float | None

    @classmethod
    def from_row(cls, row: RowMapping, sources: Iterable[str]) -> StudySummary:
        """Make a summary from a row of `studies`."""
        return cls(
            id=row["id"],
            study_uid=row["study_uid"],
            state=StudyState(row["state"]),
            verdict=row["verdict"],
            reason=row["reason"],
            kinds=tuple(row["kinds"].split()),
            score=row["score"],
            p_value=row["p_value"],
            bypassed=row["bypassed"],
            sources=tuple(sorted(sources)),
            instances=row["received_count"],
            created_at=row["created_at"],
            decided_at=row["decided_at"],
            finished_at=row["finished_at"],
        )


@dataclass(frozen=True, slots=True)
class Notification:
    """Something to tell the outside.

    Attributes
    ----------
    id : int
    event : str
    payload : dict
        JSON-ready; carries no patient identifiers.
    attempts : int
    created_at : float
    study_uid : str or None
        StudyInstanceUID, for channels that a site lets it leave by.
    """

    id: int
    event: str
    payload: dict[str, Any]
    attempts: int
    created_at: float
    study_uid: str | None = None


def stored_instance(row: Mapping[str, Any] | RowMapping, study_uid: str) -> StoredInstance:
    """Make the domain's value from a row of `instances`."""
    return StoredInstance(
        id=row["id"],
        key=InstanceKey(study_uid, row["series_uid"], row["sop_uid"], row["sha256"]),
        sop_class_uid=row["sop_class_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        path=row["path"],
        offset=row["offset"],
        length=row["length"],
        source=row["source"],
    )
