"""Connections to destinations that are called over TLS."""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING, Any, cast

from pacs_guard.deliver.wire import Wire
from pacs_guard.errors import ConfigurationError, TransientDeliveryError
from pacs_guard.tls.connection import UnexpectedPeerError
from pacs_guard.tls.failures import Failure, failure_of, sentence
from pacs_guard.tls.inventory import called
from pacs_guard.tls.profile import client_context

if TYPE_CHECKING:
    import socket

    from pacs_guard.config import DestinationSettings, DestinationTlsSettings, Settings
    from pacs_guard.tls.connection import TlsContext, TlsSocket

_MOST_AT_ONCE = 1 << 18
_LAST_BYTES = 1 << 14


class Certificates:
    """The TLS contexts of this process's destinations, each made once until `renew` is called."""

    def __init__(self) -> None:
        self._made: dict[DestinationTlsSettings, TlsContext] = {}
        self._lock = threading.Lock()

    def context(self, destination: DestinationSettings) -> TlsContext:
        """Return the context for a destination that has `tls`.

        Raises
        ------
        TransientDeliveryError
            If a certificate or key cannot be used; somebody may put it right.
        """
        tls = destination.tls
        assert tls is not None  # noqa: S101  # narrows the type
        with self._lock:
            if tls not in self._made:
                try:
                    self._made[tls] = client_context(tls, destination.name)
                except ConfigurationError as error:
                    raise TransientDeliveryError(str(error)) from error
            return self._made[tls]

    def renew(self, settings: Settings) -> None:
        """Read every certificate again; connections that are open stay open.

        Raises
        ------
        ConfigurationError
            If one of them cannot be used; the old ones stay in force then.
        """
        made = {tls: client_context(tls, name) for name, tls in called(settings)}
        with self._lock:
            self._made = made


CERTIFICATES = Certificates()
"""Those of this process."""


def secure(connection: socket.socket, destination: DestinationSettings) -> TlsSocket:
    """Do the handshake over a connection and look at the destination's certificate.

    Raises
    ------
    TransientDeliveryError
        If it fails; the connection is closed.
    """
    try:
        wrapper = Wrapper(destination)
        connection.settimeout(destination.acse_timeout_seconds)
        return wrapper.wrap_socket(connection)
    except OSError as error:
        connection.close()
        raise TransientDeliveryError(f"{_where(destination)}: {sentence(error)}") from error
    except BaseException:
        connection.close()
        raise


class Wrapper:
    """What pynetdicom takes for a context: it makes the connection, and checks more than a context can.

    Parameters
    ----------
    destination : DestinationSettings

    Attributes
    ----------
    wrapped : TlsSocket or None
        The connection, once there is one.

    Raises
    ------
    TransientDeliveryError
        If a certificate or key cannot be used.
    """

    def __init__(self, destination: DestinationSettings) -> None:
        self._destination = destination
        self._context = CERTIFICATES.context(destination)
        self.wrapped: TlsSocket | None = None

    @property
    def arguments(self) -> tuple[Any, str]:
        """The library's ``tls_args``."""
        return self, ""

    def wrap_socket(self, connection: socket.socket, **_options: object) -> TlsSocket:
        """Return a secured connection; if `connection` is not connected yet, its handshake is done when it is.

        Raises
        ------
        OSError
            If the handshake fails.
        """
        tls = self._destination.tls
        assert tls is not None  # noqa: S101  # narrows the type
        name = tls.server_name or self._destination.host
        self.wrapped = cast("TlsSocket", self._context.wrap_socket(connection, server_hostname=name))
        return self.wrapped

    def why(self) -> str | None:
        """Return what the handshake failed of, None if it did not."""
        failure = self.wrapped.failure if self.wrapped is not None else None
        return sentence(failure) if isinstance(failure, (ssl.SSLError, UnexpectedPeerError)) else None


class SecureWire(Wire):
    """A `Wire` over TLS."""

    _connection: TlsSocket

    def close(self) -> None:
        """Say goodbye and close the connection."""
        self._connection.say_goodbye()
        super().close()

    def _write(self, buffers: list[bytes | memoryview]) -> int | None:
        taken, sent = memoryview(_joined(buffers)), 0
        while sent < len(taken):  # one record at a time
            try:
                sent += self._connection.send(taken[sent:])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
            except OSError as error:
                raise self._gone(self._last_words(error)) from error
        return sent or None

    def _last_words(self, error: OSError) -> OSError:
        """Return the alert that the peer sent before it left, if it did: it says more than that writing failed."""
        try:
            self._connection.recv(_LAST_BYTES)
        except ssl.SSLError as said:
            return said
        except OSError:
            return error
        return error

    def _gone(self, error: OSError) -> TransientDeliveryError:
        if isinstance(error, ssl.SSLError) and failure_of(error) is not Failure.BROKEN:
            return TransientDeliveryError(f"{self._name}: {sentence(error)}")
        return super()._gone(error)


def _joined(buffers: list[bytes | memoryview]) -> bytes:
    """Return the first buffers as one, as many as fit together and at least one, so that records are full."""
    chosen: list[bytes | memoryview] = []
    length = 0
    for buffer in buffers:
        if chosen and length + len(buffer) > _MOST_AT_ONCE:
            break
        chosen.append(buffer)
        length += len(buffer)
    return b"".join(chosen)


def _where(destination: DestinationSettings) -> str:
    return f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
