"""One attempt to bring what is pending of a study to one destination."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver.contexts import batches
from pacs_guard.deliver.progress import Progress
from pacs_guard.deliver.scu import StoreAssociation
from pacs_guard.deliver.status import Disposition, disposition, sentence
from pacs_guard.errors import (
    PermanentDeliveryError,
    SpoolCorruptError,
    SpoolError,
    TransientDeliveryError,
)

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Callable, Iterable

    from pacs_guard.config import DestinationSettings, Transport
    from pacs_guard.deliver.contexts import Batch
    from pacs_guard.deliver.metrics import DeliverMetrics
    from pacs_guard.deliver.scu import Stored
    from pacs_guard.deliver.sendqueue import SendQueue
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.queue.rows import ClaimedDelivery
    from pacs_guard.spool.store import StoredFiles

_LOG = structlog.get_logger(__name__)

MAX_TRANSIENT_IN_A_ROW = 3
"""After so many instances in a row without success the destination is left alone for a while."""


class EndOfAttempt(Exception):  # noqa: N818  # a turn in the control flow, not an error
    """The rest of the study waits for another attempt."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an attempt works with.

    Attributes
    ----------
    calling_ae : str
        The node's AE title.
    transport : str
        ``fast`` or ``stock``.
    spool : StoredFiles
    forwarding : SendQueue
    metrics : DeliverMetrics
    clock : callable
        Returns seconds.
    rng : random.Random
        Spreads retries.
    stop : threading.Event
        Set when the process is to end: the instance under way is finished, no other begun.
    """

    calling_ae: str
    transport: Transport
    spool: StoredFiles
    forwarding: SendQueue
    metrics: DeliverMetrics
    clock: Callable[[], float]
    rng: random.Random
    stop: threading.Event


class Attempt:
    """One attempt.

    Parameters
    ----------
    delivery : ClaimedDelivery
        Study and instances.
    destination : DestinationSettings
        Where to.
    lease_seconds : float
        For how long every sign of life extends the lease.
    tools : Tools
    """

    def __init__(
        self, delivery: ClaimedDelivery, destination: DestinationSettings, lease_seconds: float, tools: Tools
    ) -> None:
        self._delivery = delivery
        self._destination = destination
        self._tools = tools
        self._progress = Progress(tools.forwarding, delivery, lease_seconds, tools.clock)
        self._log = _LOG.bind(study_id=delivery.study_id, destination=destination.name)
        self._transient_in_a_row = 0
        self._error: str | None = None
        self._unfinished = False
        self._progressed = False

    def run(self) -> None:
        """Send what is pending and write the outcome of each instance, and of the attempt, down.

        Raises
        ------
        LeaseLostError
            If the study was re-opened, held or taken back meanwhile.
        QueueUnavailableError
            If the outcome cannot be written down.
        """
        started = self._tools.clock()
        try:
            for batch in batches(self._delivery.pending, transcode=self._destination.transcode):
                self._send(batch)
        except EndOfAttempt:
            self._unfinished = True
        finally:
            self._progress.flush()
        if self._tools.stop.is_set() and self._unfinished and self._error is None:
            self._tools.forwarding.postpone(self._delivery)
            return
        self._finish(self._tools.clock() - started)

    def _send(self, batch: Batch) -> None:
        association: StoreAssociation | None = None
        waiting = deque(batch.instances)
        try:
            while waiting:
                if self._tools.stop.is_set():
                    raise EndOfAttempt
                if association is None or not association.is_open:
                    association = self._open(batch, waiting)
                if association is None:
                    return
                instance = waiting.popleft()
                self._deliver(association, instance, waiting[0] if waiting else None)
        finally:
            if association is not None:
                association.close()

    def _open(self, batch: Batch, waiting: Iterable[StoredInstance]) -> StoreAssociation | None:
        try:
            return StoreAssociation(
                self._tools.transport,
                self._destination,
                self._tools.calling_ae,
                batch.contexts,
                self._tools.spool,
                self._progress.alive,
            )
        except PermanentDeliveryError as error:
            for instance in waiting:
                self._failed(instance, None, str(error), permanent=True)
            return None
        except TransientDeliveryError as error:
            self._error = str(error)
            self._tools.metrics.failed(self._destination.name, "transient")
            self._log.warning("destination out of reach", error=self._error)
            raise EndOfAttempt from error

    def _deliver(
        self, association: StoreAssociation, instance: StoredInstance, following: StoredInstance | None
    ) -> None:
        started = self._tools.clock()
        try:
            stored = association.store(instance, following)
        except (PermanentDeliveryError, SpoolCorruptError) as error:
            self._failed(instance, None, str(error), permanent=True)
        except (TransientDeliveryError, SpoolError) as error:
            self._failed(instance, None, str(error), permanent=False)
        except Exception as error:  # noqa: BLE001  # written down below
            # counted like any other failed attempt, so that one odd instance cannot keep the others waiting for ever
            self._log.exception("sending failed unexpectedly", instance_id=instance.id)
            self._tools.metrics.thread_error(f"deliver:{self._destination.name}")
            self._failed(instance, None, f"{type(error).__name__}: {error}", permanent=False)
        else:
            self._answered(instance, stored, self._tools.clock() - started)

    def _answered(self, instance: StoredInstance, stored: Stored, seconds: float) -> None:
        outcome = disposition(stored.status)
        if outcome is not Disposition.DELIVERED:
            permanent = outcome is Disposition.PERMANENT
            text = f"{self._destination.name} {sentence(stored.status, stored.comment)}"
            self._failed(instance, stored.status, text, permanent=permanent)
            return
        self._transient_in_a_row = 0
        self._progressed = True
        transcoded = stored.transcoded_to is not None
        self._tools.metrics.delivered(self._destination.name, seconds, instance.length, transcoded=transcoded)
        if stored.status or transcoded:
            self._log.info(
                "instance delivered with a remark",
                instance_id=instance.id,
                answer=sentence(stored.status, stored.comment),
                transcoded_to=stored.transcoded_to,
            )
        self._progress.delivered(instance.id, status=stored.status, transcoded_to=stored.transcoded_to)

    def _failed(self, instance: StoredInstance, status: int | None, error: str, *, permanent: bool) -> None:
        kind = "permanent" if permanent else "transient"
        self._error = error
        self._tools.metrics.failed(self._destination.name, "permanent" if permanent else "transient")
        log = self._log.error if permanent else self._log.warning
        log("instance not delivered", instance_id=instance.id, kind=kind, error=error)
        self._progress.failed(instance.id, status=status, error=error, permanent=permanent)
        if permanent:
            return
        self._unfinished = True
        self._transient_in_a_row += 1
        if self._transient_in_a_row >= MAX_TRANSIENT_IN_A_ROW:
            raise EndOfAttempt

    def _finish(self, seconds: float) -> None:
        # a destination that takes something now and then is alive: only attempts in vain count
        attempts = 1 if self._progressed else self._delivery.attempts + 1
        retry_in = self._destination.retry.policy().delay(attempts, self._tools.rng.random())
        state = self._tools.forwarding.finish(self._delivery, error=self._error, retry_in=retry_in)
        if self._error is None:
            self._tools.metrics.study_delivered(self._destination.name, seconds)
            self._log.info(
                "study delivered",
                instances=len(self._delivery.pending),
                seconds=round(seconds, 3),
                study_state=str(state),
            )
        elif self._unfinished and retry_in is None:
            self._log.error("delivery given up", attempts=attempts, error=self._error, study_state=str(state))
        else:
            self._log.warning(
                "delivery not complete", attempts=attempts, retry_in=retry_in, error=self._error, study_state=str(state)
            )
