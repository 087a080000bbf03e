"""The threads that ask destinations for proof, one for each, as the settings list them."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.deliver.loop import Loop, stop_all
from pacs_guard.deliver.prover import Prover, Tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.config import DestinationSettings, Settings
    from pacs_guard.deliver.metrics import DeliverMetrics
    from pacs_guard.queue.proving import Proving


class ProofRoom:
    """The provers of every destination.

    Parameters
    ----------
    settings : Settings
    proving : Proving
    metrics : DeliverMetrics
    clock : callable
        Returns seconds since the epoch.
    rng : random.Random, optional
        Spreads retries.
    poll_seconds : float
        How often a destination's proofs are looked at when none is due.
    """

    def __init__(
        self,
        settings: Settings,
        proving: Proving,
        metrics: DeliverMetrics,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self._calling_ae = settings.node.ae_title
        self._proving = proving
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  # no secret
        self._poll_seconds = poll_seconds
        self._lines = {destination.name: self._line(destination) for destination in settings.destinations}
        self._ending: list[_Line] = []

    def start(self) -> None:
        """Take back what an earlier life on this machine had leased, and start the threads."""
        for line in self._lines.values():
            line.start()

    def reconfigure(self, settings: Settings) -> None:
        """Ask the destinations of `settings`; a question under way is finished."""
        wanted = {destination.name: destination for destination in settings.destinations}
        removed = [line for name, line in self._lines.items() if name not in wanted]
        lines = {name: self._lines.get(name) or self._line(destination) for name, destination in wanted.items()}
        added = [line for name, line in lines.items() if name not in self._lines]
        self._lines = lines
        self._ending = [line for line in self._ending if line.loop.is_alive] + removed
        for line in removed:
            line.loop.stop()
        for name, destination in wanted.items():
            lines[name].prover.reconfigure(destination)
        for line in added:
            line.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let every thread finish; return whether all ended within `timeout` seconds."""
        return stop_all([line.loop for line in (*self._lines.values(), *self._ending)], timeout)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(line.loop.is_alive for line in self._lines.values())

    def _line(self, destination: DestinationSettings) -> _Line:
        stop = threading.Event()
        prover = Prover(destination, Tools(self._calling_ae, self._proving, self._clock, self._rng, stop))
        loop = Loop(
            f"prove:{destination.name}",
            prover.step,
            idle_seconds=self._poll_seconds,
            stop=stop,
            count_error=self._metrics.thread_error,
        )
        return _Line(prover, loop)


@dataclass(frozen=True, slots=True)
class _Line:
    """A prover, and its thread."""

    prover: Prover
    loop: Loop

    def start(self) -> None:
        self.prover.release_old_leases()
        self.loop.start()
