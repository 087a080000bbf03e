"""What a row says of an instance beside its bytes, as it stands in the header of the instance's record (no I/O)."""

from __future__ import annotations

import json
from typing import NamedTuple

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.queue.recording import Arrival


class Origin(NamedTuple):
    """What an instance is, and where it comes from.

    Attributes
    ----------
    study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid : str
        As in its data set and its presentation context.
    source : str
        Name of the configured source.
    calling_ae : str
        Calling AE title.
    association_id : str
        The association that it came over.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    source: str
    calling_ae: str
    association_id: str

    def encoded(self) -> bytes:
        """Return it as bytes."""
        return json.dumps(self, separators=(",", ":")).encode()

    def arrival(self, path: str, *, offset: int, length: int, sha256: str) -> Arrival:
        """Return the instance whose bytes lie there, as it is written down."""
        instance = StoredInstance(
            id=0,
            key=InstanceKey(self.study_uid, self.series_uid, self.sop_uid, sha256),
            sop_class_uid=self.sop_class_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
            path=path,
            offset=offset,
            length=length,
            source=self.source,
        )
        return Arrival(instance, self.calling_ae, self.association_id)


def decoded(content: bytes) -> Origin | None:
    """Return the origin that was encoded; None if that is none, or one of another release."""
    try:
        texts = json.loads(content)
    except ValueError:
        return None
    is_one = isinstance(texts, list) and len(texts) == len(Origin._fields)
    return Origin(*texts) if is_one and all(isinstance(text, str) for text in texts) else None
