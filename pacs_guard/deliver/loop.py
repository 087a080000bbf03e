"""A thread that does one thing again and again, and outlives every error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = structlog.get_logger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


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
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        *,
        idle_seconds: float,
        stop: threading.Event,
        count_error: Callable[[str], None],
    ) -> None:
        self._name = name
        self._step = step
        self._idle_seconds = idle_seconds
        self._stop = stop
        self._count_error = count_error
        self._log = _LOG.bind(thread=name)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

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
                self._stop.wait(self._idle_seconds)
