"""The deliver role: threads of its own for each destination, so that a dead one delays no other."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver.attempt import Attempt, Tools
from pacs_guard.deliver.loop import Loop
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
        poll_seconds: float = 0.1,
    ) -> None:
        self._stop = threading.Event()
        tools = Tools(
            calling_ae=settings.node.ae_title,
            transport=settings.deliver.transport,
            spool=spool,
            forwarding=forwarding,
            metrics=metrics,
            clock=clock,
            rng=rng or random.Random(),  # noqa: S311  # no secret
            stop=self._stop,
        )
        self._workers = [
            DestinationWorker(destination, number, tools)
            for destination in settings.destinations
            for number in range(1, destination.associations + 1)
        ]
        self._loops = [
            Loop(
                f"deliver:{worker.name}:{worker.number}",
                worker.step,
                idle_seconds=poll_seconds,
                stop=self._stop,
                count_error=metrics.thread_error,
            )
            for worker in self._workers
        ]

    def start(self) -> None:
        """Take back what an earlier life on this machine had leased, and start the threads.

        Raises
        ------
        QueueUnavailableError
            If the queue cannot be reached.
        """
        for worker in self._workers:
            worker.release_old_leases()
        for loop in self._loops:
            loop.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let every thread finish the instance under way; return whether all ended within `timeout` seconds."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        ended = [loop.join(max(0.0, deadline - time.monotonic())) for loop in self._loops]
        return all(ended)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(loop.is_alive for loop in self._loops)


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
    """

    def __init__(self, destination: DestinationSettings, number: int, tools: Tools) -> None:
        self.name = destination.name
        self.number = number
        self._destination = destination
        self._tools = tools
        self._owner_prefix = f"{socket.gethostname()}:deliver:{destination.name}:"
        self._owner = f"{self._owner_prefix}{os.getpid()}:{number}"
        # nothing between two signs of life takes longer than this
        self._lease_seconds = max(_SHORTEST_LEASE_SECONDS, 2 * _all_timeouts(destination))

    def release_old_leases(self) -> None:
        """Give back what an earlier life had leased."""
        self._tools.forwarding.release_leases(self._owner_prefix)

    def step(self) -> bool:
        """Make one attempt at one study, and return whether there was one."""
        if not self._tools.forwarding.is_due(self.name):
            return False
        delivery = self._tools.forwarding.claim(self.name, self._owner, self._lease_seconds)
        if delivery is None:
            return False
        try:
            Attempt(delivery, self._destination, self._lease_seconds, self._tools).run()
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
