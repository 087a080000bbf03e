"""Syslog: a message's header (RFC 5424), and its way over UDP (RFC 5426) or TLS (RFC 5425)."""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from datetime import UTC, datetime
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Protocol

from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PRIORITY = 10 * 8 + 5  # security/authorization, notice (PS3.15 A.6)
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"
_NO_NAME = re.compile(r"[^!-~]")
_CLOSING_BYTES = 4096
_TCP_CLOSE = 7  # tcpi_state of a connection that was reset
_LOOK_SECONDS = 0.01


def syslog_message(xml: bytes, at: float, *, host: str, application: str = "pacs-guard") -> bytes:
    """Return an audit message as a syslog message.

    Parameters
    ----------
    xml : bytes
        UTF-8.
    at : float
        Seconds since the epoch.
    host, application : str
        HOSTNAME and APP-NAME.
    """
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = (_name(host, 255), _name(application, 48), str(os.getpid()), _MESSAGE_ID, "-")
    return f"<{_PRIORITY}>1 {moment} {' '.join(fields)} ".encode("ascii") + _BOM + xml


def _name(text: str, longest: int) -> str:
    return _NO_NAME.sub("", text)[:longest] or "-"


class Transport(Protocol):
    """A way to an audit repository."""

    def send(self, messages: Sequence[bytes]) -> None:
        """Send syslog messages.

        Raises
        ------
        TransientDeliveryError
            If it is not known that all of them arrived.
        """


class UdpTransport:
    """One datagram a message; nobody says whether it arrived.

    Parameters
    ----------
    host : str
    port : int
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as a datagram."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as connection:
                connection.connect(address)  # so that a refusing host is noticed at the next datagram
                for message in messages:
                    connection.send(message)
        except OSError as error:
            raise TransientDeliveryError(f"{_place(self._address)} cannot be reached: {error}") from error


class TlsTransport:
    """Octet-counted messages over TLS; a batch counts as arrived once the repository has closed its side in order.

    Syslog has no acknowledgement. The repository's answer to the end of the connection is the nearest to one: it has
    then read everything before it. A batch whose end is not answered is sent again, so that a message may arrive
    twice, but none is lost.

    Parameters
    ----------
    host : str
    port : int
    context : ssl.SSLContext
    timeout_seconds : float
        For each step.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout_seconds: float) -> None:
        self._address = (host, port)
        self._context = context
        self._timeout = timeout_seconds

    def send(self, messages: Sequence[bytes]) -> None:
        """Open a connection, send every message, and wait for its orderly end."""
        try:
            with (
                socket.create_connection(self._address, self._timeout) as plain,
                self._context.wrap_socket(plain, server_hostname=self._address[0]) as connection,
            ):
                for message in messages:
                    connection.sendall(octet_counted(message))
                _close(connection)
        except TimeoutError as error:
            raise TransientDeliveryError(f"{_place(self._address)} did not answer in {self._timeout:g} s") from error
        except ssl.SSLCertVerificationError as error:
            text = f"{_place(self._address)}: its certificate is not accepted: {error.verify_message}"
            raise TransientDeliveryError(text) from error
        except OSError as error:
            raise TransientDeliveryError(f"{_place(self._address)} cannot be reached: {error}") from error


def octet_counted(message: bytes) -> bytes:
    """Return a message with its length in front (RFC 5425 4.3)."""
    return b"%d " % len(message) + message


def _close(connection: ssl.SSLSocket) -> None:
    """End the connection and wait until the peer has ended it too."""
    try:
        plain = connection.unwrap()
    except ssl.SSLEOFError:  # it closed without a closing alert
        _check_taken(connection)
        return
    except ssl.SSLError as error:
        if error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":  # it had something to say; nobody listens
            return
        raise
    plain.shutdown(socket.SHUT_WR)
    while plain.recv(_CLOSING_BYTES):
        continue


def _check_taken(connection: ssl.SSLSocket) -> None:
    """Raise if the peer had closed the connection before everything reached it, as one does that refuses a client.

    Its system acknowledges what it takes, and resets the connection for what comes after the end (RFC 9293 3.10.7).
    """
    deadline = time.monotonic() + (connection.gettimeout() or 0.0)
    while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_CLOSE:
        if not any(ioctl(connection, TIOCOUTQ, bytes(4))):
            return
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_LOOK_SECONDS)
    raise ConnectionResetError("it closed the connection before it had read everything")


def tls_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Return the client's side of TLS 1.2 or later, the server's certificate and name checked.

    Parameters
    ----------
    ca_file : Path or None
        Certificates trusted to sign the server's; None for the system's.
    cert_file, key_file : Path or None
        The client's certificate and key, where the server asks for one.

    Raises
    ------
    OSError
        If a file cannot be read or is none of what it should be.
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context


def _place(address: tuple[str, int]) -> str:
    return f"the audit repository {address[0]} port {address[1]}"
