"""What was delivered, written down in groups: one commit for many instances if the destination is fast."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pacs_guard.errors import QueueError, QueueUnavailableError
from pacs_guard.queue.rows import DeliveredItem

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.deliver.sendqueue import SendQueue
    from pacs_guard.queue.rows import ClaimedDelivery

SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 0.5
_PAUSE_FACTOR = 20  # so that commits take a twentieth of the time at most, however slow the disk is


class Progress:
    """The progress of one delivery; used by one thread.

    A slow destination gets a commit for each instance. A crash between an answer and its commit sends the instances of
    that moment once more: duplicates that the destination recognises by their SOP Instance UID. Nothing is ever written
    down that was not answered.

    Parameters
    ----------
    forwarding : SendQueue
    delivery : ClaimedDelivery
    lease_seconds : float
        For how long every commit extends the lease.
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(
        self, forwarding: SendQueue, delivery: ClaimedDelivery, lease_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._forwarding = forwarding
        self._delivery = delivery
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._waiting: list[DeliveredItem] = []
        self._pause = 0.0
        self._written_at = time.monotonic()
        self._trouble: QueueError | None = None

    def delivered(self, instance_id: int, *, status: int, transcoded_to: str | None) -> None:
        """Note that the destination has an instance, and commit what was noted if that is due.

        Raises
        ------
        LeaseLostError
            If the study may no longer be forwarded, or the lease is lost; what was noted is written down all the same.
        QueueUnavailableError
            If the database does not answer.
        """
        self._waiting.append(DeliveredItem(instance_id, status, transcoded_to, self._clock()))
        trouble, self._trouble = self._trouble, None
        if trouble or time.monotonic() - self._written_at >= self._pause:
            self.flush()
        if trouble:
            raise trouble

    def failed(self, instance_id: int, *, status: int | None, error: str, permanent: bool) -> None:
        """Write down that the destination did not take an instance.

        Raises
        ------
        LeaseLostError
            If the study may no longer be forwarded, or the lease is lost.
        """
        self._trouble = None  # if it lasts, the next call says so
        self.flush()
        self._forwarding.item_failed(
            self._delivery, instance_id, status=status, error=error, permanent=permanent, seconds=self._lease_seconds
        )
        self._written_at = time.monotonic()

    def alive(self) -> None:
        """Commit what was noted, and keep the lease, while a transfer takes its time.

        A lost lease, or a database that does not answer, is told once the transfer has its outcome: the destination may
        have the instance already, and an answer that nobody waits for would send it twice.
        """
        if self._trouble is not None:
            return
        try:
            self.flush()
            if time.monotonic() - self._written_at > self._lease_seconds / 4:
                self._forwarding.renew(self._delivery, self._lease_seconds)
                self._written_at = time.monotonic()
        except QueueError as error:
            self._trouble = error

    def flush(self) -> None:
        """Commit what was noted.

        Raises
        ------
        LeaseLostError
            As in `delivered`.
        """
        if not self._waiting:
            return
        noted, self._waiting = self._waiting, []
        started = time.monotonic()
        try:
            self._forwarding.items_delivered(self._delivery, noted, seconds=self._lease_seconds)
        except QueueUnavailableError:
            self._waiting = noted  # the end of the attempt tries once more
            raise
        self._written_at = time.monotonic()
        pause = _PAUSE_FACTOR * (self._written_at - started)
        self._pause = min(max(pause, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
