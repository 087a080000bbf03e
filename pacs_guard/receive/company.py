"""Whether threads that share what takes long are worth waiting for."""

from __future__ import annotations

import threading

_LONG_SECONDS = 0.002
_SHARE = 0.5
_LONGEST_SECONDS = 0.01


class Company:
    """How many threads came together lately, and whether it is worth waiting for them to come again."""

    def __init__(self) -> None:
        self._here = 0
        self._lately = 0
        self._missing = 0
        self._all_came = threading.Event()
        self._seconds = 0.0

    def comes(self) -> None:
        """Count a thread that came; called under the lock."""
        self._here += 1
        self._lately = max(self._lately, self._here)
        if self._missing:
            self._missing -= 1
            if not self._missing:
                self._all_came.set()

    def leaves(self) -> None:
        """Count a thread that has its result; called under the lock."""
        self._here -= 1

    def preparing_took(self, seconds: float) -> None:
        """Note how long a group was prepared."""
        self._seconds = seconds

    @property
    def is_worth_waiting_for(self) -> bool:
        """Whether preparing takes so long that a larger group is worth a wait."""
        return self._seconds >= _LONG_SECONDS

    def gather(self, lock: threading.Lock) -> None:
        """Wait for those who were here lately and are away, a part of the time that preparing takes at most."""
        with lock:
            self._missing = self._lately - self._here
            self._all_came.clear()
            if not self._missing:
                return
        came = self._all_came.wait(min(_SHARE * self._seconds, _LONGEST_SECONDS))
        with lock:
            self._missing = 0
            if not came:  # they are gone, or slow
                self._lately = self._here
