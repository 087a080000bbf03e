"""The small HTTP server for Prometheus and for load balancers: /metrics, /healthz, /readyz."""

from __future__ import annotations

import base64
import errno
import hmac
import json
import ssl
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pacs_guard.errors import PacsGuardError, SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

_MOST_CONNECTIONS = 32
_LONGEST_USER = 64
_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_SHORTAGE_SECONDS = 0.1
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One answer of the readiness probe.

    Attributes
    ----------
    name : str
    ok : bool
    detail : str
        For a person.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Protection:
    """Who may see the metrics, and how they travel.

    Attributes
    ----------
    user, password : str or None
        Asked for by HTTP basic authentication; None lets everyone in.
    cert_file, key_file : Path or None
        For TLS (1.2 at least); None serves plain HTTP.
    """

    user: str | None = None
    password: str | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def admits(self, authorization: str | None) -> bool:
        """Whether an Authorization header is good enough."""
        if self.user is None:
            return True
        expected = base64.b64encode(f"{self.user}:{self.password}".encode())
        scheme, _, given = (authorization or "").partition(" ")
        return scheme.lower() == "basic" and hmac.compare_digest(given.strip().encode(), expected)

    def tls(self) -> ssl.SSLContext | None:
        """Return what wraps connections, None for plain HTTP.

        Raises
        ------
        SupervisionError
            If certificate or key cannot be used.
        """
        if self.cert_file is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:  # ssl.SSLError is one
            raise SupervisionError(
                f"ops.metrics_cert_file {self.cert_file} and ops.metrics_key_file {self.key_file} "
                f"cannot be used: {error}"
            ) from error
        return context


def user_of(authorization: str) -> str:
    """Return the user that an Authorization header names; ``unknown`` if it names none.

    Examples
    --------
    >>> user_of("Basic cHJvbWV0aGV1czpzZWNyZXQ=")
    'prometheus'
    """
    try:
        decoded = base64.b64decode(authorization.partition(" ")[2], validate=True).decode()
    except ValueError:
        return "unknown"
    return decoded.partition(":")[0][:_LONGEST_USER] or "unknown"


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext | None = None
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(*arguments)

    def get_request(self) -> tuple[Any, Any]:
        try:
            connection, address = super().get_request()
        except OSError as error:
            if error.errno in _SHORTAGE:  # it stays in the queue, and would be asked for again at once
                time.sleep(_SHORTAGE_SECONDS)
            raise
        if self.context is not None:
            # the handshake waits for the handler's thread, so that a silent peer keeps nobody out
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, if there are not too many already."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for another one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002  # the library's signature
        _LOG.debug("http request failed", address=str(client_address), exc_info=True)


class WatchServer:
    """Serves metrics and health on an address of their own.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    registry : CollectorRegistry
        What ``/metrics`` shows.
    readiness : callable
        Returns the checks of ``/readyz``.
    protection : Protection
        Of ``/metrics``, and of what the checks found.
    on_login : callable
        Given user, address and whether they were let in, whenever somebody gives a user and a password.

    Raises
    ------
    SupervisionError
        If the port is taken, or the certificate cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        readiness: Callable[[], list[Check]],
        protection: Protection = Protection(),  # a frozen value
        on_login: Callable[[str, str, bool], None] = lambda _user, _address, _admitted: None,
    ) -> None:
        context = protection.tls()
        parts = {
            "registry": registry,
            "readiness": staticmethod(readiness),
            "protection": protection,
            "on_login": staticmethod(on_login),
        }
        self._handler: Any = type("Handler", (_Handler,), parts)
        try:
            self._server = _Server((host, port), self._handler)
        except OSError as error:
            raise SupervisionError(
                f"metrics cannot be served on {host}:{port}: {error.strerror}; "
                "stop what listens there, or set ops.metrics_port"
            ) from error
        self._server.context = context
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch", daemon=True)

    def protect(self, protection: Protection) -> None:
        """Serve every later request under `protection`.

        Raises
        ------
        SupervisionError
            If its certificate cannot be used; nothing changes then.
        """
        self._server.context = protection.tls()
        self._handler.protection = protection

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    readiness: Callable[[], list[Check]]
    protection: Protection
    on_login: Callable[[str, str, bool], None]
    timeout = 10

    def setup(self) -> None:
        super().setup()
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()

    def do_GET(self) -> None:  # the base class's name
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/healthz":
            self._answer(200, "text/plain; charset=utf-8", b"ok\n")
        elif path == "/readyz":
            self._ready()
        else:
            self._answer(404, "text/plain; charset=utf-8", b"expected /metrics, /healthz or /readyz\n")

    def _is_admitted(self) -> bool:
        given = self.headers.get("Authorization")
        admitted = self.protection.admits(given)
        if given is not None and self.protection.user is not None:
            self.on_login(user_of(given), str(self.client_address[0]), admitted)
        return admitted

    def _metrics(self) -> None:
        if not self._is_admitted():
            self._answer(401, "text/plain; charset=utf-8", b"user and password are needed\n")
            return
        try:
            body = generate_latest(self.registry)
        except (PacsGuardError, OSError) as error:
            _LOG.warning("metrics cannot be collected", error=str(error))
            self._answer(503, "text/plain; charset=utf-8", b"metrics cannot be collected now\n")
        else:
            self._answer(200, CONTENT_TYPE_LATEST, body)

    def _ready(self) -> None:
        checks = self.readiness()
        body = json.dumps({check.name: {"ok": check.ok, "detail": check.detail} for check in checks}, indent=2)
        status = 200 if all(check.ok for check in checks) else 503
        if self._is_admitted():
            self._answer(status, "application/json", body.encode() + b"\n")
        else:  # a load balancer needs no more
            self._answer(status, "text/plain; charset=utf-8", b"ready\n" if status == 200 else b"not ready\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="PACS Guard", charset="UTF-8"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        _LOG.debug("http request", line=format % args)
