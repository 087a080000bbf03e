"""The small HTTP server for Prometheus and for load balancers: /metrics, /healthz, /readyz."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pacs_guard.errors import PacsGuardError, SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

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

    Raises
    ------
    SupervisionError
        If the port is taken.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, readiness: Callable[[], list[Check]]) -> None:
        handler = type("Handler", (_Handler,), {"registry": registry, "readiness": staticmethod(readiness)})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise SupervisionError(
                f"metrics cannot be served on {host}:{port}: {error.strerror}; "
                "stop what listens there, or set ops.metrics_port"
            ) from error
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="watch", daemon=True)

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
    timeout = 10

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

    def _metrics(self) -> None:
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
        self._answer(status, "application/json", body.encode() + b"\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        _LOG.debug("http request", line=format % args)
