"""pynetdicom's upper layer provider, blocking where the library polls and streaming where it collects."""

from __future__ import annotations

import os
import queue
import select
import socket
import threading
from typing import TYPE_CHECKING, Any

import structlog
from pynetdicom.dul import DULServiceProvider

from pacs_guard.receive.wire.messages import MessageStream
from pacs_guard.receive.wire.pdus import ControlPdu, DataPdu, Fragment, PduParser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs_guard.receive.wire.association import WireAssociation

_LOG = structlog.get_logger("pacs_guard.receive")
_BUFFER = 1 << 20
_WORTH_WAITING_FOR = 1 << 15
_LEAST_ROOM = 1 << 17
_BETWEEN_DATA_SETS = 1 << 18  # of many small messages, those that come first are answered first
_LONGEST_WAIT_SECONDS = 0.5
_PROGRESS = 1 << 16  # fewer bytes do not put the idle timer back, unless they complete a control PDU or a message
_ESTABLISHED, _AWAITS_CLOSE, _IDLE = "Sta6", "Sta13", "Sta1"
_ARTIM_RUNS = {"Sta2", _AWAITS_CLOSE}
_CLOSED, _INVALID_PDU, _DATA_RECEIVED, _ARTIM_EXPIRED = "Evt17", "Evt19", "Evt10", "Evt18"


class WireProvider(DULServiceProvider):
    """The network thread of one association.

    The library's state machine decides everything, on the library's events; only how bytes get here is new. One thread
    reads, serves C-STORE requests and sends, so that nothing is handed over and nothing polls.

    Parameters
    ----------
    assoc : WireAssociation

    Attributes
    ----------
    has_received : bool
        Whether the peer ever sent anything.
    waits_in_kernel : bool
        Whether the socket may be asked for more than is there, and gives what there is after a short time.
    """

    def __init__(self, assoc: WireAssociation) -> None:
        super().__init__(assoc)
        self._association = assoc
        self._wake_up = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._filled = 0  # so much of it belongs to the data set under way
        self._parser = PduParser(max_length=assoc.ae.maximum_pdu_size)
        self._parsed: Iterator[DataPdu | Fragment | ControlPdu] | None = None
        self._messages: MessageStream | None = None
        self._is_serving = False
        self._is_broken = False
        self._since_progress = 0
        self.has_received = False
        self.waits_in_kernel = False
        self._waker = select.poll()
        self._waker.register(self._wake_up, select.POLLIN)
        self._network = select.poll()
        self._network.register(self._wake_up, select.POLLIN)
        self._watched: int | None = None

    # called by other threads

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive to be sent."""
        super().send_pdu(primitive)
        self.wake()

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self.wake()

    def stop_dul(self) -> bool:
        """End the thread if the association is over; return whether it was."""
        if self.state_machine.current_state != _IDLE:
            return False
        self.kill_dul()
        if threading.current_thread() is not self:
            self.join()
        return True

    def idle_timer_expired(self) -> bool:
        """Whether the peer has been silent for too long; while it waits for an answer it has not.

        Within a message it may be silent for the DIMSE time-out only, as the rest of it is what is waited for.
        """
        if self._is_serving:
            return False
        return super().idle_timer_expired() or (self._is_within_message() and self._is_message_overdue())

    def _is_within_message(self) -> bool:
        return self._messages is not None and self._messages.is_under_way

    def _is_message_overdue(self) -> bool:
        limit, timer = self._association.dimse_timeout, self._idle_timer
        return limit is not None and timer.timeout is not None and timer.timeout - timer.remaining > limit

    def wake(self) -> None:
        """Make the thread look at its queues."""
        with self._wake_lock:
            if self._wake_up >= 0:
                os.eventfd_write(self._wake_up, 1)

    # the thread

    def run_reactor(self) -> None:
        """Run until the association is over."""
        self._idle_timer.start()
        self._association._dul_ready.set()  # noqa: SLF001  # see assumptions.py
        try:
            while not self._kill_thread:
                self._turn()
        finally:
            self._end()

    def _turn(self) -> None:
        """Take one step: something to send, something received, or one event for the state machine."""
        if self.artim_timer.expired:
            self.event_queue.put(_ARTIM_EXPIRED)
        # asked first: once the library has served a message, its answer is among what is to be sent
        library_serves = self._is_library_serving()
        if not self._process_recv_primitive() and self.event_queue.empty():
            self._receive(library_serves=library_serves)
        try:
            event = self.event_queue.get(block=False)
        except queue.Empty:
            return
        self.state_machine.do_action(event)
        self._association.poke.set()

    def _end(self) -> None:
        """Let nobody wait for a thread that is gone."""
        self._kill_thread = True
        with self._wake_lock:
            os.close(self._wake_up)
            self._wake_up = -1
        self.to_user_queue.put(None)  # what a time-out gives, for whoever waits for a request
        self._association.poke.set()

    def _receive(self, *, library_serves: bool) -> None:
        if self._parsed is not None and not library_serves:
            self._go_on()
        elif self._wait(library_serves=library_serves):
            self._read()
            while self._may_read_on() and (self._must_come() or self._wait(library_serves=False)):
                self._read()
        elif self.state_machine.current_state == _AWAITS_CLOSE and self.socket is not None:
            self.socket.close()

    def _may_read_on(self) -> bool:
        """Whether all that came was fragments of a data set, so that nobody but the network has anything to say."""
        return (
            self._parsed is None
            and self._messages is not None
            and self._messages.is_receiving
            and self.event_queue.empty()
            and self.to_provider_queue.empty()
            and not self._kill_thread
        )

    def _must_come(self) -> int:
        """Return the rest of a fragment of the data set under way, if the kernel is to wait for all of it.

        The thread would otherwise be woken, and wait for its turn among the others, for each piece that the network
        happens to deliver.
        """
        is_data = self._messages is not None and self._messages.is_receiving
        left = self._parser.fragment_left if is_data and self.waits_in_kernel else 0
        return min(left, _BUFFER) if left >= _WORTH_WAITING_FOR else 0

    def _wait(self, *, library_serves: bool) -> bool:
        """Wait until there is something to do; return whether that is to read."""
        descriptor = self._descriptor()
        if descriptor is None or library_serves:
            self._waker.poll(1000 * self._longest_wait())
            self._asleep_no_more()
            return False
        if descriptor != self._watched:
            self._network.register(descriptor, select.POLLIN)
            self._watched = descriptor
        ready = {number for number, _ in self._network.poll(1000 * self._longest_wait())}
        if self._wake_up in ready:
            self._asleep_no_more()
        return descriptor in ready

    def _asleep_no_more(self) -> None:
        try:
            os.eventfd_read(self._wake_up)
        except BlockingIOError:  # it was the time that ended the wait
            return

    def _descriptor(self) -> int | None:
        wrapped = self.socket.socket if self.socket is not None else None
        return wrapped.fileno() if wrapped is not None and wrapped.fileno() >= 0 else None

    def _is_library_serving(self) -> bool:
        """Whether a message was handed over and is not answered yet: what follows it must wait."""
        return bool(self._association.dimse.msg_queue.unfinished_tasks) and (
            self.state_machine.current_state == _ESTABLISHED
        )

    def _longest_wait(self) -> float:
        state = self.state_machine.current_state
        if state == _AWAITS_CLOSE:
            return 0.0  # as the library does: the connection is closed once nothing more has come
        if state in _ARTIM_RUNS:
            return min(_LONGEST_WAIT_SECONDS, max(0.0, self.artim_timer.remaining) + 0.001)
        return _LONGEST_WAIT_SECONDS

    def _read(self) -> None:
        wrapped = self.socket.socket if self.socket is not None else None
        if wrapped is None:  # closed by another thread meanwhile
            return
        is_data = self._messages is not None and self._messages.is_receiving
        if not is_data:
            self._filled = 0
        size = self._must_come()
        room = self._room(size)
        try:
            if size:
                count = wrapped.recv_into(room, min(size, len(room)), socket.MSG_WAITALL)
            else:
                most = len(room) if is_data else _BETWEEN_DATA_SETS
                count = wrapped.recv_into(room, most, socket.MSG_DONTWAIT)
        except BlockingIOError:  # nothing came, or not within the time that the socket waits
            return
        except OSError:
            count = 0
        if count == 0:
            self.event_queue.put(_CLOSED)
            return
        if self._is_broken:  # nobody knows where the next PDU begins; the state machine waits for the end
            return
        self.has_received = True
        self._since_progress += count
        if self._since_progress >= _PROGRESS:
            self._note_progress()
        self._filled += count
        self._parsed = self._parser.feed(room[:count])
        self._go_on()

    def _room(self, wanted: int) -> memoryview:
        """Return where to read to; what is there of the data set under way stays, until it would be in the way."""
        if self._filled and len(self._buffer) - self._filled < max(wanted, _LEAST_ROOM):
            if self._messages is not None:
                self._messages.detach()
            self._filled = 0
        return self._buffer[self._filled :]

    def _note_progress(self) -> None:
        """Begin to wait anew; a peer that drips bytes would have its association for ever otherwise."""
        self._since_progress = 0
        self._idle_timer.restart()

    def _go_on(self) -> None:
        """Take what was parsed, until the state machine or the library has something to do."""
        assert self._parsed is not None  # noqa: S101  # narrows the type
        try:
            for event in self._parsed:
                if not self._take(event):
                    return
        except Exception as error:  # noqa: BLE001  # whatever it is, this association ends and no other
            self._break(error)
        self._parsed = None

    def _take(self, event: DataPdu | Fragment | ControlPdu) -> bool:
        """Take one parsed event; return whether the next can be taken at once."""
        if isinstance(event, ControlPdu):
            self._take_control(event)
            return False
        if self.state_machine.current_state == _ESTABLISHED:
            return isinstance(event, DataPdu) or self._take_fragment(event)
        if isinstance(event, Fragment):  # of a PDU whose header was answered below
            return True
        self.event_queue.put(_DATA_RECEIVED)
        return False

    def _take_control(self, event: ControlPdu) -> None:
        pdu, name = self._decode_pdu(bytearray(event.content))
        self._note_progress()
        self._recv_pdu.put(pdu)
        self.event_queue.put(name)

    def _take_fragment(self, fragment: Fragment) -> bool:
        if self._messages is None:
            provider: Any = self._association.dimse
            self._messages = MessageStream(
                self._association._accepted_cx,  # noqa: SLF001  # no public look-up by id
                provider.sink,
                provider,
                self._answer,
            )
        self._is_serving = True
        try:
            completed = self._messages.take(fragment)
        finally:
            self._is_serving = False
        if completed:
            self._note_progress()
            if self._is_library_serving():
                self._association.poke.set()
        return not completed and self.event_queue.empty()

    def _answer(self, pdu: bytes) -> None:
        wrapped = self.socket.socket if self.socket is not None else None
        try:
            if wrapped is not None:
                wrapped.sendall(pdu)
        except OSError:  # gone, or not reading for as long as the network time-out
            self.event_queue.put(_CLOSED)

    def _break(self, error: Exception) -> None:
        """End the association as the standard asks when a PDU is invalid (PS3.8 table 9-10, Evt19)."""
        self._is_broken = True
        sink = getattr(self._association.dimse, "sink", None)
        if sink is not None:
            sink.broken(error)
        else:
            _LOG.info("connection without an association broke the protocol", reason=str(error))
        self.event_queue.put(_INVALID_PDU)
