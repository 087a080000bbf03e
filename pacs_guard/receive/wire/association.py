"""pynetdicom's association, waiting for its network thread instead of looking every millisecond."""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association

from pacs_guard.receive.wire.provider import WireProvider

_LONGEST_WAIT_SECONDS = 0.5


class WireAssociation(Association):
    """An acceptor's association whose DUL provider is a `WireProvider`; made from the library's by `adopt`.

    Attributes
    ----------
    poke : threading.Event
        Set when there may be something for the association's own thread to do.
    """

    poke: threading.Event

    @classmethod
    def adopt(cls, association: Association) -> None:
        """Turn one of the library's associations, not yet started, into this class."""
        stock = association.dul
        association.__class__ = cls
        adopted: Any = association
        adopted.poke = threading.Event()
        adopted.dul = WireProvider(adopted)
        adopted.dul.socket = stock.socket
        adopted.dul.event_queue = stock.event_queue  # the connection's opening is noted there
        # these set the provider's timers
        adopted.acse_timeout = adopted.ae.acse_timeout
        adopted.network_timeout = adopted.ae.network_timeout

    def kill(self) -> None:
        """End both threads."""
        self.poke.set()
        super().kill()

    def _run_reactor(self) -> None:
        """Serve what the library serves, until the association ends."""
        self._is_paused = False
        while not self._kill:
            self.poke.wait(_LONGEST_WAIT_SECONDS)
            self.poke.clear()
            self._is_paused = True
            self._reactor_checkpoint.wait()
            self._is_paused = False
            self._serve_messages()
            if self._has_ended():
                return

    def _serve_messages(self) -> None:
        messages = self.dimse.msg_queue
        while not self._kill and not messages.empty():
            context_id, message = self.dimse.get_msg(block=False)
            try:
                if message is not None and context_id is not None:
                    self._serve_request(message, context_id)
            finally:
                messages.task_done()  # the network thread reads on only then
                self.dul.wake()  # type: ignore[attr-defined]  # it is a WireProvider

    def _has_ended(self) -> bool:
        """Whether the peer or this side ended the association, which is then finished here."""
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self._finish(evt.EVT_RELEASED)
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self._finish(evt.EVT_ABORTED)
        elif not self.dul.is_alive():
            self.kill()
        elif self.dul.idle_timer_expired():
            self.abort()
            self.kill()
        else:
            return False
        return True

    def _finish(self, event: evt.NotificationEvent) -> None:
        self.is_established = False
        evt.trigger(self, event, {})
        self.kill()
