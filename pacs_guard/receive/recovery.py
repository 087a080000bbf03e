"""Rows that a power failure took are written again from the records of their instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacs_guard.errors import QueueError, QueueUnavailableError, SpoolError
from pacs_guard.queue.rows import Outcome
from pacs_guard.receive.origin import decoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pacs_guard.queue.intake import Intake
    from pacs_guard.queue.recording import Arrival
    from pacs_guard.spool.store import Spool

_BATCH = 500


def recover(spool: Spool, intake: Intake, log: Any) -> int:
    """Write the rows again that were committed but not synced when the power went; return how many.

    Where a group's rows need not be durable by themselves (`Database.write`), a power failure may take the last of
    them. It leaves their records, which were synced, and the row of the association that they came over, which was
    durable before its first instance and is removed durably after its last one. So a record that no row ever knew, of
    an association that is written down as open, is taken in again; any other is left to `pacs_guard.spool.reconcile`.

    Nobody else may look through the segments meanwhile, or forget an association before (`Spool.looking`).

    Parameters
    ----------
    spool : Spool
    intake : Intake
    log : structlog logger

    Raises
    ------
    QueueUnavailableError
        If the database does not answer.
    """
    if not intake.has_associations():
        return 0
    count = 0
    try:
        for records in spool.unwritten(intake.written_paths):
            arrivals = [
                origin.arrival(path, offset=record.offset, length=record.length, sha256=record.digest.hex())
                for path, record in records
                if (origin := decoded(record.origin))
            ]
            for start in range(0, len(arrivals), _BATCH):
                count += _write_again(spool, intake, arrivals[start : start + _BATCH], log)
    except SpoolError as error:  # all else has been looked at
        log.error("a segment cannot be read", reason=str(error))  # noqa: TRY400  # the text says all
    if count:
        log.warning("instances whose rows a crash took were written down again", instances=count)
    return count


def _write_again(spool: Spool, intake: Intake, arrivals: Sequence[Arrival], log: Any) -> int:
    """Write a batch, or each alone if one of them fails; return how many were written."""
    try:
        outcomes = intake.write_again(arrivals)
    except QueueUnavailableError:
        raise
    except QueueError as error:
        if len(arrivals) > 1:
            return sum(_write_again(spool, intake, [arrival], log) for arrival in arrivals)
        log.error("an instance cannot be written down again", path=arrivals[0].instance.path, reason=str(error))  # noqa: TRY400  # as above
        return 0
    for arrival, outcome in zip(arrivals, outcomes, strict=True):
        if outcome is Outcome.DUPLICATE:  # its sender came again
            _remove(spool, arrival.instance.path, log)
    return sum(outcome not in {None, Outcome.DUPLICATE} for outcome in outcomes)


def _remove(spool: Spool, path: str, log: Any) -> None:
    try:
        spool.remove(path)
    except SpoolError as error:  # reconciliation finds it
        log.warning("file left behind", path=path, reason=str(error))
