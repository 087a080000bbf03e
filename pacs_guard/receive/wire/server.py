"""How the library's server comes to make a `WireAssociation` for each connection."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from pynetdicom.transport import RequestHandler

from pacs_guard.receive.wire.association import WireAssociation
from pacs_guard.tls.connection import TlsSocket

if TYPE_CHECKING:
    from pynetdicom.association import Association


LONGEST_READ_SECONDS = 0.25
"""How long the network thread may wait for a fragment's rest before it looks again at what else there is to do."""


class WireRequestHandler(RequestHandler):
    """The request handler to give to the library's server."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        is_tls = isinstance(self.request, TlsSocket)
        if is_tls:
            self.request.never_wait(self.ae.network_timeout)
        else:
            _limit_waiting(self.request, self.ae.network_timeout)
        WireAssociation.adopt(association)
        provider: Any = association.dul
        provider.waits_in_kernel = not is_tls
        return association


def _limit_waiting(connection: socket.socket, seconds: float | None) -> None:
    """Block without a time-out of Python's, which would cost a system call more for each read."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _time_value(LONGEST_READ_SECONDS))
    if seconds is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _time_value(seconds))


def _time_value(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, max(1, int((seconds - whole) * 1_000_000)))
