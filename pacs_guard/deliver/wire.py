"""A connection that is written in large pieces and read in small ones, and that never waits without a limit."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pacs_guard.errors import TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_BYTES = 1 << 16
_BUFFERS_AT_ONCE = 1024  # the system takes no more (IOV_MAX)
_FIRST_TICK_SECONDS = 0.05
_TICK_SECONDS = 0.5
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)  # Linux


class Wire:
    """A TCP connection to a destination; used by one thread.

    Parameters
    ----------
    connection : socket.socket
        Connected; belongs to this object from now on.
    name : str
        The destination, for errors.
    write_timeout : float
        Seconds without any byte taken before the destination counts as stuck.
    alive : callable
        Called every now and then while waiting; what it raises ends the wait.
    """

    def __init__(self, connection: socket.socket, name: str, write_timeout: float, alive: Callable[[], None]) -> None:
        self._connection = connection
        self._name = name
        self._write_timeout = write_timeout
        self._alive = alive
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()
        self._events = select.POLLIN
        self._poll.register(connection, self._events)
        self._heard = False

    def send(self, buffers: list[bytes | memoryview], early: Callable[[bytes], None]) -> None:
        """Send buffers one after another.

        Parameters
        ----------
        buffers : list of bytes or memoryview
        early : callable
            Given what arrives while the peer does not read; what it raises ends the sending.

        Raises
        ------
        TransientDeliveryError
            If the peer takes nothing within the time-out, or is gone.
        """
        self._heard = False
        for start in range(0, len(buffers), _BUFFERS_AT_ONCE):
            self._send_group(buffers[start : start + _BUFFERS_AT_ONCE], early)

    def receive(self, timeout: float, waiting_for: str) -> bytes:
        """Return what arrives next.

        Parameters
        ----------
        timeout : float
            Seconds; counted anew as long as the peer still takes what was sent before.
        waiting_for : str
            Ends the sentence of the error.

        Raises
        ------
        TransientDeliveryError
            If nothing arrives in time, or the peer closed the connection.
        """
        data = self._rest() if self._heard else None
        return self._await(timeout, waiting_for) if data is None else data

    def pending(self) -> bytes:
        """Return what has arrived already, without waiting; empty if nothing has.

        Raises
        ------
        TransientDeliveryError
            If the peer closed the connection.
        """
        return self._read() or b""

    def send_if_room(self, data: bytes) -> None:
        """Send a few bytes if the peer takes them now; a peer that is gone does not matter."""
        with suppress(OSError):
            self._connection.send(data)

    def close(self) -> None:
        """Close the connection; what the peer has not read yet may be lost."""
        self._connection.close()

    def _rest(self) -> bytes | None:
        """Return what has arrived since a first part was read, None if that is nothing."""
        self._acknowledge_at_once()
        return self._read()

    def _await(self, timeout: float, waiting_for: str) -> bytes:
        deadline, tick, unread = time.monotonic() + timeout, _FIRST_TICK_SECONDS, 0
        while (left := deadline - time.monotonic()) > 0:
            if not self._wait(select.POLLIN, min(left, tick)):
                self._alive()
                tick = _TICK_SECONDS
                before, unread = unread, self._unacknowledged()
                if unread < before:  # a slow line is not a silent peer
                    deadline = time.monotonic() + timeout
            data = self._read()  # after a time-out too: no poll sees what TLS has taken from the system already
            if data is not None:
                return data
        raise TransientDeliveryError(f"{self._name} {waiting_for} within {timeout:g} s")

    def _send_group(self, group: list[bytes | memoryview], early: Callable[[bytes], None]) -> None:
        first, last_progress = 0, time.monotonic()
        while first < len(group):
            sent = self._write(group[first:] if first else group)
            if sent is None:
                self._wait_writable(last_progress, early)
                continue
            if not first and sent == sum(map(len, group)):
                return
            last_progress = time.monotonic()
            while first < len(group) and sent >= len(group[first]):
                sent -= len(group[first])
                first += 1
            if sent:
                group[first] = memoryview(group[first])[sent:]

    def _write(self, buffers: list[bytes | memoryview]) -> int | None:
        """Return how many bytes were taken, None if there is no room now."""
        try:
            return self._connection.sendmsg(buffers)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(error) from error

    def _wait_writable(self, last_progress: float, early: Callable[[bytes], None]) -> None:
        events = self._wait(select.POLLIN | select.POLLOUT, _TICK_SECONDS)
        if events & select.POLLIN:
            early(self._read() or b"")
        if not events & select.POLLOUT:
            self._alive()
        if time.monotonic() - last_progress > self._write_timeout:
            raise TransientDeliveryError(f"{self._name} has not read anything for {self._write_timeout:g} s")

    def _wait(self, events: int, seconds: float) -> int:
        if events != self._events:
            self._poll.modify(self._connection, events)
            self._events = events
        ready = self._poll.poll(max(1, int(seconds * 1000)))
        found = ready[0][1] if ready else 0
        # a connection that is gone is readable and writable: the call says how it went
        return found | (events if found & _GONE else 0)

    def _read(self) -> bytes | None:
        """Return what is there, None if that is nothing."""
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._gone(error) from error
        if not data:
            raise TransientDeliveryError(f"{self._name} broke the association off: it closed the connection")
        self._heard = True
        return data

    def _acknowledge_at_once(self) -> None:
        # a peer that sends its answer in two writes under Nagle's algorithm would wait 40 ms for our acknowledgement of
        # the first
        if _QUICK_ACK is not None:
            self._connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)

    def _unacknowledged(self) -> int:
        """Return how many bytes the peer's side has not taken yet."""
        answer = fcntl.ioctl(self._connection, termios.TIOCOUTQ, b"\0\0\0\0")
        count: int = struct.unpack("i", answer)[0]
        return count

    def _gone(self, error: OSError) -> TransientDeliveryError:
        return TransientDeliveryError(f"{self._name} broke the association off: {error.strerror or error}")
