"""Disk against rows, in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pacs_guard.spool import leftovers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pacs_guard.spool.store import Spool

_BATCH = 1000


class Rows(leftovers.Rows, Protocol):
    """What reconciliation asks of the queue."""

    def expected_files(self) -> Iterator[tuple[int, str, int]]:
        """Yield (instance id, path, size in bytes)."""
        ...

    def mark_missing(self, instance_ids: Collection[int], *, missing: bool) -> None:
        """Note that bytes are gone, or back."""
        ...


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was found.

    Attributes
    ----------
    missing : tuple of int
        Ids of instances whose bytes are gone or cut short.
    orphans : tuple of str
        Where files without a row were set aside.
    unfinished : int
        Files and records that were being written when a process died; removed.
    """

    missing: tuple[int, ...]
    orphans: tuple[str, ...]
    unfinished: int


def reconcile(spool: Spool, rows: Rows, *, now: float, grace_seconds: float) -> Reconciliation:
    """Compare the spool with the queue.

    An instance without a row was never acknowledged (or its row is lost with an older database): it is set aside, not
    removed. A row without its bytes is marked, so that the ledger shows it. Segments that no process writes to give
    their unused room back.

    Parameters
    ----------
    spool : Spool
    rows : Rows
    now : float
        Seconds since the epoch.
    grace_seconds : float
        Younger files and segments are left alone, as a receiver may be about to write their rows; 0 only while none
        is running.
    """
    missing, present = _check_rows(spool, rows)
    rows.mark_missing(missing, missing=True)
    rows.mark_missing(present, missing=False)
    orphans = tuple(_set_aside(spool, rows, now - grace_seconds))
    left = spool.clear_up_segments(rows, now - grace_seconds)
    unfinished = spool.clear_incoming(now - grace_seconds) + left.unfinished
    return Reconciliation(tuple(missing), (*orphans, *left.orphans), unfinished)


def _check_rows(spool: Spool, rows: Rows) -> tuple[list[int], list[int]]:
    missing: list[int] = []
    present: list[int] = []
    for instance_id, path, size in rows.expected_files():
        (present if spool.size(path) == size else missing).append(instance_id)
    return missing, present


def _set_aside(spool: Spool, rows: Rows, older_than: float) -> Iterator[str]:
    old = [path for path, modified in spool.instance_paths() if modified <= older_than]
    for start in range(0, len(old), _BATCH):
        batch = old[start : start + _BATCH]
        for path in sorted(set(batch) - rows.known_paths(batch)):
            moved = spool.set_aside_orphan(path)
            if moved is not None:
                yield str(moved)
