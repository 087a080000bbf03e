"""Wires what makes findings into DICOM objects and sends them."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from pacs_guard.cli.wiring import CLOCK

if TYPE_CHECKING:
    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import Settings
    from pacs_guard.deliver.results.maker import ResultRoom
    from pacs_guard.ops.metrics import RoleMetrics

_DRAIN_SECONDS = 5.0


class ResultsRoom:
    """What makes and sends results, by the settings in force.

    Parameters
    ----------
    stores : Stores
    metrics : RoleMetrics
    """

    def __init__(self, stores: Stores, metrics: RoleMetrics) -> None:
        self._stores = stores
        self._metrics = metrics
        self._settings = stores.settings
        self._room = result_room(stores, stores.settings, metrics)

    def start(self) -> None:
        """Start the threads, if results are wanted."""
        if self._room is not None:
            self._room.start()

    def reconfigure(self, settings: Settings) -> None:
        """Make and send results as `settings` say; what is being sent is sent to its end as it was begun."""
        if settings.results == self._settings.results:
            return
        old, self._room = self._room, None  # first, as whoever watches would take its end for a fault
        if old is not None:
            old.stop(_DRAIN_SECONDS)
        self._settings = settings
        new = result_room(self._stores, settings, self._metrics)
        if new is not None:
            new.start()
        self._room = new

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the threads finish what is under way; return whether they ended within `timeout` seconds each."""
        return self._room is None or self._room.stop(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return self._room is None or self._room.is_alive


def result_room(stores: Stores, settings: Settings, metrics: RoleMetrics) -> ResultRoom | None:
    """Return what makes and sends results, None where they are switched off."""
    from pacs_guard.deliver.attempt import Tools
    from pacs_guard.deliver.results.maker import ResultMaker, ResultRoom

    if not settings.results.enabled:
        return None
    destination = settings.results.destination
    data_dir, node = settings.node.data_dir, settings.node.ae_title
    maker = ResultMaker(stores.results, data_dir, settings.spool_dir, node, destination.name if destination else None)
    tools = Tools(
        calling_ae=node,
        transport=settings.deliver.transport,
        spool=stores.spool(),
        forwarding=stores.forwarding,
        metrics=metrics,
        clock=CLOCK,
        rng=random.Random(),  # noqa: S311  # no secret
        stop=threading.Event(),
    )
    return ResultRoom(stores.results, maker, destination, tools, data_dir)
