"""A TLS connection that is read without waiting and written with a limit, as the node's own transports want it."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time
from contextlib import suppress
from typing import Any

from pacs_guard.tls.certificates import Certificate, certificate

LARGEST_RECORD = 1 << 14
"""Most bytes of one record's content (RFC 8446 5.1)."""


class UnexpectedPeerError(OSError):
    """The peer is trusted, and yet not who is expected."""


class TlsContext(ssl.SSLContext):
    """A context that makes a `TlsSocket` of each connection.

    Attributes
    ----------
    expected : tuple of str
        What the peer's certificate must be known by, one of them; empty for any that is trusted.
    """

    expected: tuple[str, ...] = ()


class TlsSocket(ssl.SSLSocket):
    """The socket that every context of `pacs_guard.tls.profile` makes.

    It behaves as the library's until `never_wait` is called.

    Attributes
    ----------
    failure : OSError or None
        What the handshake or a reading failed of, for callers whose own libraries swallow it.
    peer : Certificate or None
        The peer's certificate, once the handshake is done.
    """

    failure: OSError | None = None
    peer: Certificate | None = None
    _send_seconds: float | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Greet the peer, within the socket's time-out as a whole, and look whether it is who is expected.

        Raises
        ------
        OSError
            If the handshake fails, or the peer's certificate is none of the context's `expected`.
        """
        try:
            super().do_handshake(block)
            self._look_at_peer()
        except OSError as error:
            self.failure = error
            raise

    def _look_at_peer(self) -> None:
        encoded = self.getpeercert(binary_form=True)
        expected = self.context.expected if isinstance(self.context, TlsContext) else ()
        try:
            self.peer = certificate(encoded) if encoded else None
        except ValueError as error:  # trusted, and yet nothing that can be read
            raise UnexpectedPeerError(f"its certificate cannot be read: {error}") from error
        if expected and (self.peer is None or not self.peer.is_one_of(expected)):
            found = f"{self.peer.fingerprint} ({self.peer.subject})" if self.peer is not None else "none"
            raise UnexpectedPeerError(f"its certificate is {found}; expected {' or '.join(expected)}")

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Read some bytes.

        Raises
        ------
        BlockingIOError
            If nothing is there, and the socket does not block.
        """
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except OSError as error:  # TLS 1.3 tells only here what the peer thinks of this side's certificate
            self.failure = error
            raise

    def never_wait(self, send_seconds: float | None) -> None:
        """Read only what is there from now on, and wait for room to send for `send_seconds` at most."""
        self.settimeout(0.0)
        self._send_seconds = float("inf") if send_seconds is None else send_seconds

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Read what is there; once `never_wait` was called, all of it that fits.

        Parameters
        ----------
        buffer : writable buffer
        nbytes : int, optional
            At most so many; at least `LARGEST_RECORD`, so that no part of a record stays behind where ``poll`` does
            not see it.
        flags : int
            Of no effect: it never waits.

        Raises
        ------
        BlockingIOError
            If nothing is there.
        """
        if self._send_seconds is None:
            return super().recv_into(buffer, nbytes, flags)
        view, count = memoryview(buffer)[:nbytes], 0
        while len(view) - count >= LARGEST_RECORD:
            try:
                read = super().recv_into(view[count:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                if not count:
                    raise BlockingIOError from error
                break
            except OSError:
                if not count:
                    raise
                break  # said again by the next call
            except ValueError as error:  # another thread has shut it down
                raise _closed() from error
            if not read:
                break
            count += read
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        """Send some of `data`, once there is room.

        Raises
        ------
        TimeoutError
            If the peer takes nothing for as long as `never_wait` was told.
        """
        if self._send_seconds is None:
            return super().send(data, flags)
        deadline = time.monotonic() + self._send_seconds
        while True:
            try:
                return super().send(data)
            except ssl.SSLWantWriteError:
                _wait(self, select.POLLOUT, deadline)
            except ssl.SSLWantReadError:
                _wait(self, select.POLLIN, deadline)
            except ValueError as error:  # another thread has shut it down
                raise _closed() from error

    def shutdown(self, how: int) -> None:
        """Shut the connection down beneath TLS.

        The library's own would forget the TLS state, which another thread may be about to read with.
        """
        socket.socket.shutdown(self, how)

    def detach_plain(self) -> socket.socket:
        """Return the connection beneath, which is the caller's from now on."""
        return socket.socket(self.family, self.type, self.proto, fileno=self.detach())

    def say_goodbye(self) -> None:
        """Send the closing alert if there is room (RFC 8446 6.1); nobody waits for the peer's."""
        with suppress(OSError, ValueError):
            self.settimeout(0.0)
            self.unwrap()


TlsContext.sslsocket_class = TlsSocket


def _closed() -> OSError:
    return OSError(errno.EBADF, "the connection was closed")


def _wait(connection: TlsSocket, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(connection, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(None if left == float("inf") else 1000 * left):
        raise TimeoutError("the peer does not read")
