"""Wires what makes findings into DICOM objects and sends them."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from pacs_guard.cli.wiring import CLOCK

if TYPE_CHECKING:
    from pacs_guard.cli.wiring import Stores
    from pacs_guard.deliver.results.maker import ResultRoom
    from pacs_guard.ops.metrics import RoleMetrics


def result_room(stores: Stores, metrics: RoleMetrics) -> ResultRoom | None:
    """Return what makes and sends results, None where they are switched off."""
    from pacs_guard.deliver.attempt import Tools
    from pacs_guard.deliver.results.maker import ResultMaker, ResultRoom

    settings = stores.settings
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
