"""The deliver role: threads of its own for each destination, so that a dead one delays no other."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver.attempt import Attempt, Tools
from pacs_guard.deliver.loop import Bell, Loop, stop_all
from pacs_guard.deliver.secure import CERTIFICATES
from pacs_guard.errors import LeaseLostError, QueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.config import DestinationSettings, Settings
    from pacs_guard.deliver.metrics import DeliverMetrics
    from pacs_guard.queue.forwarding import Forwarding
    from pacs_guard.queue.rows import ClaimedDelivery
    from pacs_guard.spool.store import Spool

_LOG = structlog.get_logger(__name__)
_SHORTEST_LEASE_SECONDS = 60.0


class Deliverer:
    """Brings cleared studies to every destination.

    One process of it runs on a machine; several machines share the work by leases.

    Parameters
    ----------
    settings : Settings
        Destinations and the node's AE title.
    spool : Spool
    forwarding : Forwarding
    metrics : DeliverMetrics
    clock : callable
        Returns seconds since the epoch.
    rng : random.Random, optional
        Spreads retries.
    poll_seconds : float
        How often each destination's queue is looked at when it is empty.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        forwarding: Forwarding,
        metrics: DeliverMetrics,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        *,
        poll_seconds: float = 0.05,
    ) -> None:
        self._ae_title = settings.node.ae_title
        self._transport = settings.deliver.transport
        self._spool = spool
        self._forwarding = forwarding
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  # no secret
        self._poll_seconds = poll_seconds
        self._bells: dict[str, Bell] = defaultdict(Bell)
        self._lines = {key: self._line(destination, key[1]) for key, destination in _wanted(settings).items()}
        self._ending: list[_Line] = []

    def start(self) -> None:
        """Take back what an earlier life on this machine had leased, and start the threads.

        Raises
        ------
        QueueUnavailableError
            If the queue cannot be reached.
        """
        for line in self._lines.values():
            line.worker.release_old_leases()
        for line in self._lines.values():
            line.loop.start()

    def reconfigure(self, settings: Settings) -> None:
        """Serve the destinations of `settings`; what is being sent is sent to its end as it was begun.

        Raises
        ------
        ConfigurationError
            If a certificate cannot be used; nothing changes then.
        QueueUnavailableError
            If the queue cannot be reached.
        """
        CERTIFICATES.renew(settings)
        wanted = _wanted(settings)
        names = {name for name, _ in self._lines}
        added = {key: self._line(wanted[key], key[1]) for key in wanted.keys() - self._lines.keys()}
        for key, line in added.items():
            if key[0] not in names:
                line.worker.release_old_leases()
        for key in self._lines.keys() & wanted.keys():
            self._lines[key].worker.reconfigure(wanted[key])
        removed = [line for key, line in self._lines.items() if key not in wanted]
        self._lines = {key: added.get(key) or self._lines[key] for key in wanted}
        self._ending = [line for line in self._ending if line.loop.is_alive] + removed
        for line in removed:
            line.loop.stop()
        for line in added.values():
            line.loop.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let every thread finish the instance under way; return whether all ended within `timeout` seconds."""
        return stop_all([line.loop for line in (*self._lines.values(), *self._ending)], timeout)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(line.loop.is_alive for line in self._lines.values())

    def _line(self, destination: DestinationSettings, number: int) -> _Line:
        stop = threading.Event()
        tools = Tools(
            calling_ae=self._ae_title,
            transport=self._transport,
            spool=self._spool,
            forwarding=self._forwarding,
            metrics=self._metrics,
            clock=self._clock,
            rng=self._rng,
            stop=stop,
        )
        bell = self._bells[destination.name]
        worker = DestinationWorker(destination, number, tools, bell)
        loop = Loop(
            f"deliver:{worker.name}:{worker.number}",
            worker.step,
            idle_seconds=self._poll_seconds,
            stop=stop,
            count_error=self._metrics.thread_error,
            bell=bell,
        )
        return _Line(worker, loop)


def _wanted(settings: Settings) -> dict[tuple[str, int], DestinationSettings]:
    """Return each destination as often as it may have associations, by its name and a number."""
    return {
        (destination.name, number): destination
        for destination in settings.destinations
        for number in range(1, destination.associations + 1)
    }


@dataclass(frozen=True, slots=True)
class _Line:
    """One of a destination's workers, and its thread."""

    worker: DestinationWorker
    loop: Loop


class DestinationWorker:
    """Claims and attempts deliveries to one destination, one study after another, each over an association of its own.

    An association ends with its study although the next could use it: to many a PACS its end says that the study is
    whole.

    Parameters
    ----------
    destination : DestinationSettings
    number : int
        Among the workers of this destination.
    tools : Tools
    bell : Bell, optional
        Rung for each delivery that was claimed, as another worker may claim the next one.
    """

    def __init__(self, destination: DestinationSettings, number: int, tools: Tools, bell: Bell | None = None) -> None:
        self.name = destination.name
        self.number = number
        self._destination = destination
        self._tools = tools
        self._bell = bell or Bell()
        self._owner_prefix = f"{socket.gethostname()}:deliver:{destination.name}:"
        self._owner = f"{self._owner_prefix}{os.getpid()}:{number}"

    def reconfigure(self, destination: DestinationSettings) -> None:
        """Make every later attempt by `destination`, which has the same name."""
        self._destination = destination

    def release_old_leases(self) -> None:
        """Give back what an earlier life had leased."""
        self._tools.forwarding.release_leases(self._owner_prefix)

    def step(self) -> bool:
        """Make one attempt at one study, and return whether there was one."""
        if not self._tools.forwarding.is_due(self.name):
            return False
        destination = self._destination
        # nothing between two signs of life takes longer than this
        lease_seconds = max(_SHORTEST_LEASE_SECONDS, 2 * _all_timeouts(destination))
        delivery = self._tools.forwarding.claim(self.name, self._owner, lease_seconds)
        if delivery is None:
            return False
        self._bell.ring()
        try:
            Attempt(delivery, destination, lease_seconds, self._tools).run()
        except LeaseLostError as error:
            _LOG.info("delivery stopped", study_id=delivery.study_id, destination=self.name, reason=str(error))
            self._tools.forwarding.postpone(delivery)
        except Exception:
            self._postpone_if_possible(delivery)
            raise
        return True

    def _postpone_if_possible(self, delivery: ClaimedDelivery) -> None:
        try:
            self._tools.forwarding.postpone(delivery)
        except QueueError as error:  # the lease runs out by itself
            _LOG.warning("lease not given back", study_id=delivery.study_id, error=str(error))


def _all_timeouts(destination: DestinationSettings) -> float:
    return (
        destination.connect_timeout_seconds
        + destination.acse_timeout_seconds
        + destination.dimse_timeout_seconds
        + destination.network_timeout_seconds
    )
