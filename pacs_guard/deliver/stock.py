"""The stock transport: pynetdicom's own association, threads and queues."""

from __future__ import annotations

import io
import queue
import time
from typing import TYPE_CHECKING, TypeGuard

from pydicom.uid import UID
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from pacs_guard.deliver.association import drop, open_association
from pacs_guard.deliver.command import StoreResponse
from pacs_guard.errors import TransientDeliveryError
from pacs_guard.spool.records import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pacs_guard.config import DestinationSettings
    from pacs_guard.deliver.command import StoreRequest
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.spool.store import StoredFiles

_LARGEST_PDU = 1 << 18  # an acceptor that sets no limit is not sent everything in one PDU
_BUFFERED_BYTES = 1 << 22  # what may wait for the socket
_GRACE_SECONDS = 2.0  # the socket's own time-out comes first, and says more
_TICK_SECONDS = 0.5


class StockChannel:
    """See `pacs_guard.deliver.channel.Channel`, whose arguments are those of `open_channel`."""

    def __init__(
        self,
        destination: DestinationSettings,
        calling_ae: str,
        contexts: Sequence[tuple[str, Sequence[str]]],
        spool: StoredFiles,
        alive: Callable[[], None],
    ) -> None:
        self._destination = destination
        self._spool = spool
        self._alive = alive
        self._assoc = open_association(destination, calling_ae, contexts)
        self.accepted = tuple(
            (int(cx.context_id or 0), str(cx.abstract_syntax), str(cx.transfer_syntax[0]))
            for cx in self._assoc.accepted_contexts
        )

    @property
    def is_open(self) -> bool:
        """Whether another instance can be sent."""
        return bool(self._assoc.is_established)

    def close(self) -> None:
        """Release the association; nothing happens if it is closed already."""
        if self.is_open:
            self._assoc.release()
        drop(self._assoc)

    def exchange(
        self,
        request: StoreRequest,
        data: StoredInstance | bytes,
        following: StoredInstance | None = None,  # noqa: ARG002  # read when its turn comes
    ) -> StoreResponse:
        """Send one C-STORE request with its data set and return the response."""
        message = C_STORE()
        message.MessageID = request.message_id
        message.Priority = 0x0000  # medium, which every SCP must take (PS3.7 9.1.1.1.6)
        message.AffectedSOPClassUID = UID(request.sop_class_uid)
        message.AffectedSOPInstanceUID = UID(request.sop_instance_uid)
        if isinstance(data, bytes):
            message.DataSet = io.BytesIO(data)
        else:
            self._spool.verify(data)
            self._attach(message, data)
        answer = self._exchange(message, request.context_id)
        return StoreResponse(request.message_id, int(answer.Status or 0), str(answer.ErrorComment or ""))

    def _attach(self, message: C_STORE, instance: StoredInstance) -> None:
        place = place_of(instance.path)
        if place.is_in_segment:  # the library knows no end but the file's; what lies in a segment is small
            with self._spool.open(instance) as file:
                message.DataSet = io.BytesIO(file.read())
        else:
            path = self._spool.root / place.file
            message._dataset_path = (path, instance.offset)  # noqa: SLF001  # only way to send a file undecoded

    def _exchange(self, request: C_STORE, context_id: int) -> C_STORE:
        """Send a request and return its response; whatever goes wrong ends the association."""
        if not self.is_open:
            raise TransientDeliveryError(f"{self._destination.name} closed the association")
        self._pause_reactor()
        try:
            self._send(request, context_id)
            return self._response(request)
        except OSError as error:
            drop(self._assoc)
            # its bytes were whole a moment ago; if they are gone, the next attempt's check says so
            raise TransientDeliveryError(f"an instance could not be read while it was sent: {error}") from error
        except BaseException:
            drop(self._assoc)
            raise
        finally:
            self._assoc._reactor_checkpoint.set()  # noqa: SLF001  # pynetdicom has no public name for it

    def _pause_reactor(self) -> None:
        # the association's own thread would take the response away
        self._assoc._reactor_checkpoint.clear()  # noqa: SLF001  # as above
        while not self._assoc._is_paused:  # noqa: SLF001  # as above
            time.sleep(0.0001)

    def _send(self, request: C_STORE, context_id: int) -> None:
        """Hand the message to the upper layer no faster than the destination reads it."""
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        message.context_id = context_id
        limit = min(self._assoc.dimse.maximum_pdu_size or _LARGEST_PDU, _LARGEST_PDU)
        most_waiting = max(2, _BUFFERED_BYTES // limit)
        for fragment in message.encode_msg(context_id, limit):
            self._wait_for_room(most_waiting)
            self._assoc.dul.send_pdu(fragment)
        self._wait_for_room(0)

    def _wait_for_room(self, most_waiting: int) -> None:
        waiting = self._assoc.dul.to_provider_queue
        seconds = self._destination.network_timeout_seconds
        size, last_progress, last_alive = waiting.qsize(), time.monotonic(), time.monotonic()
        while waiting.qsize() > most_waiting:
            self._raise_if_gone()
            now = time.monotonic()
            if waiting.qsize() < size:
                size, last_progress = waiting.qsize(), now
            if now - last_progress > seconds + _GRACE_SECONDS:
                raise TransientDeliveryError(f"{self._destination.name} has not read anything for {seconds:g} s")
            if now - last_alive > _TICK_SECONDS:
                last_alive = now
                self._alive()
            time.sleep(0.0005)

    def _response(self, request: C_STORE) -> C_STORE:
        seconds = self._destination.dimse_timeout_seconds
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                _, answer = self._assoc.dimse.msg_queue.get(timeout=min(left, _TICK_SECONDS))
            except queue.Empty:
                self._raise_if_gone()
                self._alive()
                continue
            if _answers(answer, request):
                return answer
            if answer is None:
                self._raise_if_gone()
            raise TransientDeliveryError(f"{self._destination.name} answered something other than a C-STORE response")
        raise TransientDeliveryError(f"{self._destination.name} did not answer a C-STORE within {seconds:g} s")

    def _raise_if_gone(self) -> None:
        if self._assoc.acse.is_aborted() or not self._assoc.dul.is_alive():
            raise TransientDeliveryError(f"{self._destination.name} broke the association off")


def _answers(answer: object, request: C_STORE) -> TypeGuard[C_STORE]:
    return (
        isinstance(answer, C_STORE)
        and answer.is_valid_response
        and answer.MessageIDBeingRespondedTo == request.MessageID
    )
