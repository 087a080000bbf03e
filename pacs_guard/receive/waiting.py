"""Connections over which no association was requested yet: bounded, so that idle ones cannot pile up until ARTIM."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynetdicom.association import Association


class WaitingConnections:
    """The connections of a receiver that wait for an association request.

    A peer that means it sends its request at once. Where more wait than are allowed, one of the address that has most
    of them is closed: the one that has waited longest of those that sent nothing yet. So whoever opens many and is
    silent keeps nobody else out.

    Parameters
    ----------
    most : int
        How many may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Association, None] = {}  # in the order of their coming
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, association: Association) -> None:
        """Note a new connection, and close another one if they are too many."""
        with self._lock:
            self._waiting[association] = None
            surplus = len(self._waiting) - self._most
        if surplus > 0:
            self.make_room()

    def make_room(self) -> None:
        """Close the one that can best be done without."""
        with self._lock:
            if not self._waiting:
                return
            busiest, _ = Counter(map(_address, self._waiting)).most_common(1)[0]
            theirs = [one for one in self._waiting if _address(one) == busiest]
            surplus = next((one for one in theirs if not _has_sent(one)), theirs[0])
            del self._waiting[surplus]
        _close(surplus)

    def discard(self, association: Association) -> None:
        """Note that a connection waits no more."""
        with self._lock:
            self._waiting.pop(association, None)


def _address(association: Association) -> str:
    return str(association.requestor.address)


def _connection(association: Association) -> Any:
    return association.dul.socket.socket if association.dul.socket is not None else None


def _has_sent(association: Association) -> bool:
    """Whether the peer sent anything, read or not."""
    if getattr(association.dul, "has_received", False):
        return True
    wrapped = _connection(association)
    try:
        # not recv(): on a socket with a time-out it waits, whatever its flags say, and everybody with it
        unread = ioctl(wrapped, FIONREAD, bytes(4)) if wrapped is not None else bytes(4)
    except (OSError, ValueError):  # it is closed
        return False
    return any(unread)


def _close(association: Association) -> None:
    wrapped = _connection(association)
    if wrapped is not None:
        with suppress(OSError):  # its peer was faster
            wrapped.shutdown(socket.SHUT_RDWR)
    association.dul.to_user_queue.put(None)  # what a time-out gives: its thread waits for a request
