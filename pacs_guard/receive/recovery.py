"""Rows that a power failure took are written again from the records of their instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.queue.recording import Arrival
from pacs_guard.queue.rows import Outcome
from pacs_guard.receive.origin import decoded

if TYPE_CHECKING:
    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.origin import Origin
    from pacs_guard.spool.records import Record
    from pacs_guard.spool.store import Spool


def recover(spool: Spool, intake: Intake) -> int:
    """Write the rows again that were committed but not synced when the power went; return how many.

    Where a group's rows need not be durable by themselves (`Database.write`), a power failure may take the last of
    them. It leaves their records, which were synced, and the row of the association that they came over, which was
    durable before its first instance and is removed durably after its last one. So a record that no row ever knew, of
    an association that is written down as open, is taken in again; any other is left to `pacs_guard.spool.reconcile`.

    Parameters
    ----------
    spool : Spool
    intake : Intake

    Raises
    ------
    SpoolError
        If a segment cannot be read; all others have been looked through.
    QueueUnavailableError
        If the database does not answer.
    """
    count = 0
    for records in spool.unwritten(intake.written_paths):
        arrivals = [_arrival(path, record, origin) for path, record in records if (origin := decoded(record.origin))]
        for arrival, outcome in zip(arrivals, intake.write_again(arrivals), strict=True):
            if outcome is Outcome.DUPLICATE:  # its sender came again
                spool.remove(arrival.instance.path)
            elif outcome is not None:
                count += 1
    return count


def _arrival(path: str, record: Record, origin: Origin) -> Arrival:
    instance = StoredInstance(
        id=0,
        key=InstanceKey(origin.study_uid, origin.series_uid, origin.sop_uid, record.digest.hex()),
        sop_class_uid=origin.sop_class_uid,
        transfer_syntax_uid=origin.transfer_syntax_uid,
        path=path,
        offset=record.offset,
        length=record.length,
        source=origin.source,
    )
    return Arrival(instance, origin.calling_ae, origin.association_id)
