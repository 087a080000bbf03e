"""A TLS connection that is read without waiting and written with a limit, as the node's own transports want it."""

from __future__ import annotations

import errno
import select
import ssl
import time
from contextlib import suppress
from typing import Any

LARGEST_RECORD = 1 << 14
"""Most bytes of one record's content (RFC 8446 5.1)."""


class TlsSocket(ssl.SSLSocket):
    """The socket that every context of `pacs_guard.tls.profile` makes.

    It behaves as the library's until `never_wait` is called. Where a handshake fails, the error stays in `failure`, for
    callers whose own libraries swallow it.
    """

    failure: OSError | None = None
    _send_seconds: float | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Greet the peer; within the socket's time-out as a whole."""
        try:
            super().do_handshake(block)
        except OSError as error:
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

    def say_goodbye(self) -> None:
        """Send the closing alert if there is room (RFC 8446 6.1); nobody waits for the peer's."""
        with suppress(OSError, ValueError):
            self.settimeout(0.0)
            self.unwrap()


def _closed() -> OSError:
    return OSError(errno.EBADF, "the connection was closed")


def _wait(connection: TlsSocket, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(connection, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(None if left == float("inf") else 1000 * left):
        raise TimeoutError("the peer does not read")
