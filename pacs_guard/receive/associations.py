"""The associations that are open, each with what is under way on it, closed exactly once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from pacs_guard.errors import QueueError
from pacs_guard.receive.reception import Reception, Sender, StoreRequest
from pacs_guard.receive.storage import PROCESSING_FAILURE, Answer, Storage

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.metrics import ReceiveMetrics


class OpenAssociation:
    """One association: a `pacs_guard.receive.dimse.Sink`.

    Parameters
    ----------
    sender : Sender
    storage : Storage
    log : structlog logger
    """

    def __init__(self, sender: Sender, storage: Storage, log: Any) -> None:
        self.sender = sender
        self.instances = 0
        self._storage = storage
        self._log = log
        self._opened = time.monotonic()
        self._under_way: set[Reception] = set()
        self._closed = False
        # held while an instance is being stored: its association's row must outlive that
        self._lock = threading.RLock()

    @property
    def seconds(self) -> float:
        """How long it has been open."""
        return time.monotonic() - self._opened

    def begin(self, *, sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str) -> Reception:
        """Start the data set of a C-STORE request."""
        reception = self._storage.begin(StoreRequest(self.sender, sop_class_uid, sop_uid, transfer_syntax_uid))
        self._under_way.add(reception)
        return reception

    def finish(self, reception: Reception) -> Answer:
        """Store a complete data set."""
        with self._lock:
            if self._closed:
                return Answer(PROCESSING_FAILURE, "the association is closed")
            self._under_way.discard(reception)
            self.instances += 1
            return self._storage.finish(reception)

    def refuse(self, reception: Reception, status: int, reason: str) -> Answer:
        """Write down that a request is answered with a failure."""
        with self._lock:
            self._under_way.discard(reception)
            return self._storage.refuse(reception, status, reason)

    def broken(self, error: Exception) -> None:
        """Note a message that could not be understood."""
        self._log.warning("message not understood, association aborted", reason=f"{type(error).__name__}: {error}")

    def close(self) -> bool:
        """Drop what is under way; False if that was done before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            for reception in list(self._under_way):
                reception.drop()
            return True


class Associations:
    """All open associations of a receiver.

    Parameters
    ----------
    intake : Intake
    metrics : ReceiveMetrics
    log : structlog logger
    """

    def __init__(self, intake: Intake, metrics: ReceiveMetrics, log: Any) -> None:
        self._intake = intake
        self._metrics = metrics
        self._log = log
        self._open: dict[Association, OpenAssociation] = {}
        self._rows_to_remove: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def by_source(self) -> Counter[str]:
        """Return how many are open, by the name of the source or destination that opened them."""
        with self._lock:
            return Counter(one.sender.source for one in self._open.values())

    def threads(self) -> list[Association]:
        """Return the library's associations that are open."""
        with self._lock:
            return list(self._open)

    def get(self, thread: Association) -> OpenAssociation | None:
        """Return what is known of one of the library's associations."""
        return self._open.get(thread)

    def open(self, thread: Association, association: OpenAssociation) -> None:
        """Note an association that is about to be accepted.

        Raises
        ------
        QueueError
            If it cannot be written down; it is not open then.
        """
        sender = association.sender
        self._intake.open_association(
            sender.association_id,
            calling_ae=sender.calling_ae,
            address=sender.address,
            source=sender.source,
            certificate=sender.certificate,
        )
        with self._lock:
            self._open[thread] = association
        self._metrics.association_opened(sender.source)
        certificate = {"certificate": sender.certificate} if sender.certificate is not None else {}
        self._log_of(association).info(
            "association opened", calling_ae=sender.calling_ae, address=sender.address, **certificate
        )

    def close(self, thread: Association, how: str) -> None:
        """Note that an association ended; nothing happens if that is known."""
        association = self._open.get(thread)
        if association is None or not association.close():
            return
        self._metrics.association_closed(association.sender.source, association.seconds)
        self._log_of(association).info(
            "association closed", how=how, instances=association.instances, seconds=round(association.seconds, 3)
        )
        self._remove_row(association.sender.association_id)
        with self._lock:  # last, so that whoever waits for its end finds its row gone
            del self._open[thread]

    def beat(self) -> None:
        """Say that the open ones are alive, and clear up those whose end went unnoticed."""
        for thread in self.threads():
            if not thread.is_alive():
                self.close(thread, "lost")
        for association_id in list(self._rows_to_remove):
            self._remove_row(association_id)
        try:
            self._intake.heartbeat()
        except QueueError as error:
            self._log.warning("heartbeat not written", reason=str(error))

    def _remove_row(self, association_id: str) -> None:
        try:
            self._intake.close_association(association_id)
            self._rows_to_remove.discard(association_id)
        except QueueError as error:  # a study must not wait for an association that has ended: tried again later
            self._rows_to_remove.add(association_id)
            self._log.warning("end of association not written", association=association_id, reason=str(error))

    def _log_of(self, association: OpenAssociation) -> Any:
        sender = association.sender
        return self._log.bind(association=sender.association_id, source=sender.source)
