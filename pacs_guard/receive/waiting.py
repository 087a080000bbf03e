"""Connections over which no association was requested yet: bounded, so that idle ones cannot pile up until ARTIM."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynetdicom.association import Association


class WaitingConnections:
    """The connections of a receiver that wait for an association request.

    A peer that means it sends its request at once. Where more wait than are allowed, the one that has waited longest is
    closed, so that whoever opens many and is silent keeps nobody else out.

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
        """Note a new connection, and close the oldest if they are too many."""
        with self._lock:
            self._waiting[association] = None
            surplus = [one for one, _ in zip(self._waiting, range(len(self._waiting) - self._most), strict=False)]
            for one in surplus:
                del self._waiting[one]
        for one in surplus:
            _close(one)

    def discard(self, association: Association) -> None:
        """Note that a connection waits no more."""
        with self._lock:
            self._waiting.pop(association, None)


def _close(association: Association) -> None:
    wrapped = association.dul.socket.socket if association.dul.socket is not None else None
    if wrapped is not None:
        with suppress(OSError):  # its peer was faster
            wrapped.shutdown(socket.SHUT_RDWR)
    association.dul.to_user_queue.put(None)  # what a time-out gives: its thread waits for a request
