"""How the library's server comes to make a `WireAssociation` for each connection."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from pynetdicom.transport import RequestHandler

from pacs_guard.receive.wire.association import WireAssociation
from pacs_guard.tls.connection import TlsSocket

if TYPE_CHECKING:
    from pynetdicom.association import Association


class WireRequestHandler(RequestHandler):
    """The request handler to give to the library's server."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        if isinstance(self.request, TlsSocket):
            self.request.never_wait(self.ae.network_timeout)
        else:
            _limit_sending(self.request, self.ae.network_timeout)
        WireAssociation.adopt(association)
        return association


def _limit_sending(connection: socket.socket, seconds: float | None) -> None:
    """Block without a time-out of Python's, which would cost a system call more for each read."""
    connection.settimeout(None)
    if seconds is not None:
        whole = int(seconds)
        limit = struct.pack("@ll", whole, max(1, int((seconds - whole) * 1_000_000)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
