"""The Storage SCP: pynetdicom's associations wired to admission, the spool and the queue."""

from __future__ import annotations

import errno
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import structlog
from pynetdicom import AE, _config
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from pacs_guard.domain.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacs_guard.errors import SupervisionError
from pacs_guard.receive.handlers import Handlers
from pacs_guard.receive.recovery import recover
from pacs_guard.receive.secure import Gate, secured
from pacs_guard.receive.stock import StockRequestHandler
from pacs_guard.receive.wire.server import WireRequestHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.config import Settings
    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.commitment import CommitmentService
    from pacs_guard.receive.metrics import ReceiveMetrics
    from pacs_guard.spool.store import Spool

HEARTBEAT_SECONDS = 15.0
_POLL_SECONDS = 0.05
_ABORT_SECONDS = 5.0
_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_SHORTAGE_SECONDS = 0.1
_SAY_AGAIN_SECONDS = 60.0
_DESCRIPTORS_EACH = 4  # a connection, what wakes its thread, a file, and that of the group of instances
_DESCRIPTORS_BESIDE = 256


class _Server(ThreadedAssociationServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.on_shortage: Callable[[], None] = lambda: None

    def get_request(self) -> Any:
        try:
            connection, address = super().get_request()
        except OSError as error:
            if error.errno in _SHORTAGE:  # the connection stays in the queue, so this would be asked again at once
                self.on_shortage()
                time.sleep(_SHORTAGE_SECONDS)
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # otherwise a peer that vanishes within a PDU holds its thread for ever
        connection.settimeout(self.ae.network_timeout)
        return connection, address


class _SharingServer(_Server):
    """A server whose port other processes of this node listen on too; the kernel gives each connection to one."""

    def server_bind(self) -> None:
        listening = cast("socket.socket", self.socket)  # not bound yet, but made
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


class Receiver:
    """Receives instances over the network until it is stopped.

    Parameters
    ----------
    settings : Settings
    spool : Spool
    intake : Intake
    metrics : ReceiveMetrics
    log : structlog logger, optional
    commitment : CommitmentService, optional
        Without it, storage commitment is not offered.

    Examples
    --------
    ``receiver.serve_forever(stop)`` runs until the event is set; ``start`` and ``stop`` do the same in steps.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        intake: Intake,
        metrics: ReceiveMetrics,
        log: Any = None,
        *,
        commitment: CommitmentService | None = None,
    ) -> None:
        self._settings = settings.receive
        self._ae_title = settings.node.ae_title
        self._intake = intake
        self._log = log if log is not None else structlog.get_logger("pacs_guard.receive")
        self._spool = spool
        self._handlers = Handlers(settings, spool, intake, metrics, self._log, commitment)
        tls = settings.receive.tls
        self._gate = Gate(settings, intake, metrics, self._log) if tls is not None else None
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []
        self._said_shortage = -_SAY_AGAIN_SECONDS

    @property
    def open_associations(self) -> int:
        """How many associations are open."""
        return len(self._handlers.associations)

    def start(self) -> None:
        """Listen.

        Raises
        ------
        SupervisionError
            If the port cannot be used.
        QueueError
            If the queue does not answer.
        """
        _allow_files(2 * self._settings.max_associations)  # open associations, and connections that wait for one
        with self._spool.looking():
            recover(self._spool, self._intake, self._log)
            self._intake.forget_associations()
        _config.LOG_HANDLER_LEVEL = "none"  # the library would format every PDU for its log
        self._listen()
        self._handlers.refuse_all.clear()
        self._threads = [
            *(
                threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="receive", daemon=True)
                for server in self._servers
            ),
            threading.Thread(target=self._beat, name="receive-heartbeat", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        tls = {"tls_port": self._settings.tls.port} if self._settings.tls is not None else {}
        plain = {"port": self._settings.port} if self._settings.plain else {}
        self._log.info("listening", host=self._settings.host, **plain, **tls, ae_title=self._ae_title)

    def reconfigure(self, settings: Settings) -> None:
        """Use changed sources, limits and certificates from the next request on; no association is dropped.

        Raises
        ------
        ConfigurationError
            If a certificate cannot be used; nothing changes then.
        """
        if self._gate is not None:
            self._gate.reconfigure(settings)
        self._handlers.reconfigure(settings)

    def stop(self, timeout: float = 30.0) -> None:
        """Stop listening, let open associations end for `timeout` seconds, then abort what is left."""
        if not self._servers:
            return
        self._handlers.refuse_all.set()
        for server in self._servers:
            server.shutdown()
        self._wait_for_end(timeout)
        for association in self._handlers.associations.threads():
            association.abort(block=False)
        self._wait_for_end(_ABORT_SECONDS)
        for association in self._handlers.associations.threads():
            self._handlers.associations.close(association, "given up at stop")
        for thread in self._threads:
            thread.join()
        self._servers = []
        self._spool.release()
        self._log.info("stopped")

    def serve_forever(self, stop: threading.Event, *, drain_seconds: float = 30.0) -> None:
        """Listen until `stop` is set, then end as `stop` does.

        Raises
        ------
        SupervisionError
            If the port cannot be used.
        """
        self.start()
        stop.wait()
        self.stop(drain_seconds)

    def _listen(self) -> None:
        settings = self._settings
        handler: type[RequestHandler] = WireRequestHandler if settings.transport == "fast" else StockRequestHandler
        ports: list[tuple[int, type[RequestHandler]]] = [(settings.port, handler)] if settings.plain else []
        if self._gate is not None and settings.tls is not None:
            ports.append((settings.tls.port, secured(handler, self._gate)))
        entity = self._entity()
        try:
            for port, serving in ports:
                self._servers.append(self._server(entity, port, serving))
        except SupervisionError:
            for server in self._servers:
                server.server_close()
            self._servers = []
            raise

    def _entity(self) -> AE:
        settings = self._settings
        entity = AE(self._ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = settings.max_pdu_bytes
        entity.acse_timeout = settings.acse_timeout_seconds
        entity.dimse_timeout = settings.dimse_timeout_seconds
        entity.network_timeout = settings.network_timeout_seconds
        entity.maximum_associations = 1_000_000  # admission counts, and says why
        entity.add_supported_context("1.2.840.10008.1.1")
        return entity

    def _server(self, entity: AE, port: int, handler: type[RequestHandler]) -> _Server:
        settings = self._settings
        try:
            server: Any = entity.make_server(
                (settings.host, port),
                evt_handlers=self._handlers.bindings(),
                server_class=_Server if settings.processes == 1 else _SharingServer,
                request_handler=handler,
            )
        except OSError as error:
            raise SupervisionError(_cannot_listen(settings.host, port, error)) from error
        server.on_shortage = self._relieve
        entity._servers.append(server)  # noqa: SLF001  # its shutdown expects itself there
        return cast("_Server", server)

    def _relieve(self) -> None:
        """Make room when no connection can be taken: one that waits for its request gives way."""
        self._handlers.waiting.make_room()
        now = time.monotonic()
        if now - self._said_shortage >= _SAY_AGAIN_SECONDS:
            self._said_shortage = now
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._log.error("no connection can be taken: open files or memory run out", most_open_files=most)

    def _beat(self) -> None:
        while not self._handlers.refuse_all.wait(HEARTBEAT_SECONDS):
            self._handlers.associations.beat()

    def _wait_for_end(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while len(self._handlers.associations) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _allow_files(connections: int) -> None:
    """Raise the limit on open files, as far as it may be raised, to what so many connections need."""
    needed = _DESCRIPTORS_BESIDE + _DESCRIPTORS_EACH * connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    where = f"receive: cannot listen on {host} port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program listens there; stop it, or set receive.port to a free port"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need a privilege; grant CAP_NET_BIND_SERVICE, or set receive.port above 1023"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{where}: this machine has no such address; set receive.host to one of its own, or to 0.0.0.0"
    return f"{where}: {error.strerror or error}"
