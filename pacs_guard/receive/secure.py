"""The port for TLS: each connection is greeted in a thread of its own, and its certificate kept for its association."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pacs_guard.errors import QueueError
from pacs_guard.tls.failures import Failure, failure_of, sentence
from pacs_guard.tls.profile import server_context

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.transport import RequestHandler

    from pacs_guard.config import Settings
    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.metrics import ReceiveMetrics
    from pacs_guard.tls.certificates import Certificate
    from pacs_guard.tls.connection import TlsContext, TlsSocket

_FAREWELL_SECONDS = 1.0
_FAREWELL_BYTES = 1 << 20
_WARN_SECONDS = 30 * 86400.0


class Gate:
    """Greets whoever connects to the port for TLS.

    At most `max_associations` are being greeted at a time; a further one closes the one that has waited longest of the
    address that has most.

    Parameters
    ----------
    settings : Settings
    intake : Intake
    metrics : ReceiveMetrics
    log : structlog logger

    Raises
    ------
    ConfigurationError
        If a certificate or key cannot be used.
    """

    def __init__(self, settings: Settings, intake: Intake, metrics: ReceiveMetrics, log: Any) -> None:
        self._intake = intake
        self._metrics = metrics
        self._log = log
        self._seconds = settings.receive.acse_timeout_seconds
        self._most = settings.receive.max_associations
        self._greeting: dict[TlsSocket, str] = {}  # with their addresses, in the order of their coming
        self._lock = threading.Lock()
        self._context = _context(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Greet every later connection with the certificates that are there now; those that are open stay open.

        Raises
        ------
        ConfigurationError
            If one of them cannot be used; the old ones stay in force then.
        """
        self._context = _context(settings)

    def greet(self, connection: socket.socket, address: str) -> TlsSocket | None:
        """Do the handshake and return the secured connection; None if it failed, and the connection is closed."""
        connection.settimeout(self._seconds)
        secured = cast(
            "TlsSocket", self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        )
        self._add(secured, address)
        try:
            secured.do_handshake()
        except OSError as error:
            self._refused(address, failure_of(error), sentence(error))
            _take_leave(secured)
            return None
        finally:
            self._discard(secured)
        return secured

    def _add(self, connection: TlsSocket, address: str) -> None:
        with self._lock:
            self._greeting[connection] = address
            if len(self._greeting) <= self._most:
                return
            busiest, _ = Counter(self._greeting.values()).most_common(1)[0]
            surplus = next(one for one, theirs in self._greeting.items() if theirs == busiest)
            del self._greeting[surplus]
        with suppress(OSError):  # its peer was faster
            surplus.shutdown(socket.SHUT_RDWR)

    def _discard(self, connection: TlsSocket) -> None:
        with self._lock:
            self._greeting.pop(connection, None)

    def _refused(self, address: str, failure: Failure, detail: str) -> None:
        self._metrics.association_refused(str(failure))
        if failure is Failure.BROKEN:  # whoever looks whether the port is open does so
            self._log.info("connection closed during the TLS handshake", address=address)
            return
        self._log.warning("association refused", reason=str(failure), address=address, detail=detail)
        try:
            self._intake.refuse_association(calling_ae="", called_ae="", address=address, reason=str(failure))
        except QueueError as problem:
            self._log.warning("refused association not written down", reason=str(problem))


def _context(settings: Settings) -> TlsContext:
    listening = settings.receive.tls
    return server_context(
        settings.tls, require_certificate=listening is None or listening.client_certificates == "required"
    )


def _take_leave(connection: TlsSocket) -> None:
    """Close a connection so that the peer reads the alert that says why: unread bytes would reset it."""
    deadline, left = time.monotonic() + _FAREWELL_SECONDS, _FAREWELL_BYTES
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        plain = connection.detach_plain()
        with plain:
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                plain.settimeout(seconds)
                read = len(plain.recv(1 << 16))
                if not read:
                    return
                left -= read
    connection.close()


def secured(handler: type[RequestHandler], gate: Gate) -> type[RequestHandler]:
    """Return a request handler that has its connections greeted first."""

    class SecuredRequestHandler(handler):  # type: ignore[valid-type, misc]  # a class made at run time
        """See the class that it is made from."""

        request: Any

        def handle(self) -> None:
            """Serve the connection, if its handshake succeeds."""
            connection = gate.greet(self.request, str(self.client_address[0]))
            if connection is not None:
                self.request = connection
                super().handle()

        def _create_association(self) -> Association:
            association = cast("Association", super()._create_association())
            association.certificate = self.request.peer  # type: ignore[attr-defined]  # ours
            return association

    return SecuredRequestHandler


def certificate_of(association: Association) -> Certificate | None:
    """Return the certificate that an association's requestor has shown, found to be trusted; None if it showed none."""
    return getattr(association, "certificate", None)


def shown(found: Certificate | None) -> dict[str, str]:
    """Return what a line of the log says of a certificate."""
    return {"certificate": found.subject, "fingerprint": found.fingerprint} if found is not None else {}


def note_expiry(found: Certificate, source: str, metrics: ReceiveMetrics, log: Any) -> None:
    """Tell until when a source's certificate holds, loudly if that is soon."""
    metrics.certificate(source, found.not_after)
    left = found.not_after - time.time()
    if left < _WARN_SECONDS:
        log.warning("the source's certificate expires soon", days=round(left / 86400.0, 1), **shown(found))
