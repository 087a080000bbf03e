"""A thread that does one thing again and again, and outlives every error."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOG = structlog.get_logger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Bell:
    """Wakes the loops that wait for work of one kind, when one of them found some: there may be more."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def ring(self) -> None:
        """Wake all who wait."""
        with self._condition:
            self._condition.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until it rings, `seconds` at most."""
        with self._condition:
            self._condition.wait(seconds)


class Loop:
    """Calls `step` until it is stopped.

    Parameters
    ----------
    name : str
        Of the thread, in logs and metrics.
    step : callable
        Does a piece of work and says whether there was any; without, the loop waits before it asks again.
    idle_seconds : float
        How long it waits then.
    stop : threading.Event
        Ends the loop after the step under way.
    count_error : callable
        Told the name whenever a step raised.
    bell : Bell, optional
        Ends an idle wait early.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        *,
        idle_seconds: float,
        stop: threading.Event,
        count_error: Callable[[str], None],
        bell: Bell | None = None,
    ) -> None:
        self._name = name
        self._step = step
        self._idle_seconds = idle_seconds
        self._stop = stop
        self._count_error = count_error
        self._wait = stop.wait if bell is None else bell.wait
        self._log = _LOG.bind(thread=name)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it after the step under way."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end, and return whether it ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                worked = self._step()
            except Exception:  # noqa: BLE001  # a thread that dies would go unnoticed
                self._log.exception("unexpected error, going on after a pause", pause_seconds=pause)
                self._count_error(self._name)
                self._stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            pause = _FIRST_PAUSE_SECONDS
            if not worked:
                self._wait(self._idle_seconds)


def stop_all(loops: Sequence[Loop], timeout: float) -> bool:
    """Let loops finish the steps under way, all at once; return whether all ended within `timeout` seconds."""
    for loop in loops:
        loop.stop()
    deadline = time.monotonic() + timeout
    ended = [loop.join(max(0.0, deadline - time.monotonic())) for loop in loops]
    return all(ended)
