"""What a destination lists of a study, asked by C-FIND (PS3.4 annex C, Study Root)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset

from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pynetdicom.association import Association

    from pacs_guard.domain.proof import ProofItem

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""
_SUCCESS = 0x0000
_PENDING = {0xFF00, 0xFF01}


class QueryRefusedError(TransientDeliveryError):
    """A destination that answers such a query with a failure."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a destination lists of what it was asked about; of what is in neither list nothing can be said.

    Attributes
    ----------
    listed, missing : tuple of ProofItem
    """

    listed: tuple[ProofItem, ...] = ()
    missing: tuple[ProofItem, ...] = ()


def look_up(
    association: Association, destination: str, study_uid: str, items: Sequence[ProofItem], delivered: int
) -> Listing:
    """Return which instances a destination lists.

    It is asked for the instances of each series. Where it does not answer at that level, its number of the study's
    instances decides over all of them at once.

    Parameters
    ----------
    association : Association
    destination : str
    study_uid : str
    items : sequence of ProofItem
        What is asked about.
    delivered : int
        How many instances of the study it took.

    Raises
    ------
    TransientDeliveryError
        If it does not answer either.
    """
    found: set[str] | None = None
    with suppress(QueryRefusedError):
        found = {
            uid
            for series_uid in sorted({item.series_uid for item in items})
            for uid in _instances(association, destination, study_uid, series_uid)
        }
    if found:
        return _split(items, found)
    count = _count(association, destination, study_uid)
    if count is None:  # there is no such study
        return Listing(missing=tuple(items)) if found is not None else Listing()
    return Listing(listed=tuple(items)) if count >= delivered else Listing()


def _split(items: Sequence[ProofItem], found: set[str]) -> Listing:
    listed = tuple(item for item in items if item.sop_uid in found)
    return Listing(listed, tuple(item for item in items if item.sop_uid not in found))


def _instances(association: Association, destination: str, study_uid: str, series_uid: str) -> Iterator[str]:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    query.SOPInstanceUID = ""
    for match in _find(association, destination, query):
        yield str(match.get("SOPInstanceUID", ""))


def _count(association: Association, destination: str, study_uid: str) -> int | None:
    """Return how many instances of a study a destination says it has; None if it does not know the study."""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = study_uid
    query.NumberOfStudyRelatedInstances = None
    counts = [match.get("NumberOfStudyRelatedInstances") for match in _find(association, destination, query)]
    if not counts:
        return None
    return max((int(count) for count in counts if count not in {None, ""}), default=0)


def _find(association: Association, destination: str, query: Dataset) -> Iterator[Dataset]:
    try:
        answers: Any = association.send_c_find(query, STUDY_ROOT_FIND)
        for status, match in answers:
            if "Status" not in status:
                raise TransientDeliveryError(f"{destination} did not answer a query")
            if status.Status in _PENDING and match is not None:
                yield match
            elif status.Status not in {_SUCCESS, *_PENDING}:
                raise QueryRefusedError(f"{destination} answered a query with 0x{status.Status:04X}")
    except (RuntimeError, ValueError) as error:  # the association ended before the request was sent
        raise TransientDeliveryError(f"{destination} broke the association off") from error
