"""A stored instance, as the rooms hand it to one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pacs_guard.domain.identifiers import InstanceKey


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance whose bytes lie in the spool.

    Attributes
    ----------
    id : int
        Row in the queue; 0 for an instance that no queue knows.
    key : InstanceKey
        Its UIDs and content hash.
    sop_class_uid, transfer_syntax_uid : str
        As received.
    path : str
        Of its DICOM Part 10 file, relative to the spool's root.
    offset : int
        Where in that file the data set starts, bytes.
    length : int
        How long the data set is, bytes.
    source : str
        Name of the configured source that sent it.
    """

    id: int
    key: InstanceKey
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    offset: int
    length: int
    source: str = ""
