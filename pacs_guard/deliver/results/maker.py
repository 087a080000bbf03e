"""Makes what the queue asks for into DICOM objects, and sends them where results go."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver.deliverer import DestinationWorker
from pacs_guard.deliver.loop import Loop, stop_all
from pacs_guard.domain.retry import RetryPolicy
from pacs_guard.errors import PermanentDeliveryError
from pacs_guard.spool.store import StoredFiles

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.config import DestinationSettings
    from pacs_guard.deliver.attempt import Tools
    from pacs_guard.queue.results import ClaimedResult, Results

_LOG = structlog.get_logger(__name__)
_LEASE_SECONDS = 300.0
_RETRY = RetryPolicy(max_attempts=5, base_seconds=10.0, cap_seconds=300.0)


class ResultMaker:
    """Makes the objects of one result after another.

    Parameters
    ----------
    results : Results
    data_dir, spool_dir : Path
    node : str
        AE title of the node.
    destination : str or None
        Name of where they are sent.
    """

    def __init__(self, results: Results, data_dir: Path, spool_dir: Path, node: str, destination: str | None) -> None:
        self._results = results
        self._data_dir = data_dir
        self._spool_dir = spool_dir
        self._node = node
        self._destination = destination
        self._owner_prefix = f"{socket.gethostname()}:results:"

    def release_old_leases(self) -> None:
        """Give back what an earlier life had leased."""
        self._results.release_leases(self._owner_prefix)

    def step(self) -> bool:
        """Make the objects of one result, and return whether there was one."""
        result = self._results.claim_to_make(f"{self._owner_prefix}{os.getpid()}", _LEASE_SECONDS)
        if result is None:
            return False
        from pacs_guard.deliver.results.objects import make_objects  # noqa: PLC0415  # slow to import, seldom needed

        try:
            objects = make_objects(result, self._data_dir, self._spool_dir, node=self._node)
        except PermanentDeliveryError as error:
            self._failed(result, str(error), retry_in=None)
            return True
        except Exception as error:  # noqa: BLE001  # written down below
            # libraries raise anything over a header that was tampered with; a study must not stop the others
            _LOG.exception("results not made", study_id=result.study_id)
            self._failed(result, f"{type(error).__name__}: {error}", retry_in=_RETRY.delay(result.attempts + 1, 0.0))
            return True
        self._results.made(result, objects, self._destination)
        _LOG.info("results made", study_id=result.study_id, objects=len(objects), destination=self._destination)
        return True

    def _failed(self, result: ClaimedResult, error: str, retry_in: float | None) -> None:
        self._results.not_made(result, error, retry_in)
        log = _LOG.error if retry_in is None else _LOG.warning
        log("results not made", study_id=result.study_id, retry_in=retry_in, error=error)


class ResultRoom:
    """The threads that make results and send them.

    Parameters
    ----------
    results : Results
    maker : ResultMaker
    destination : DestinationSettings or None
        Where they are sent.
    tools : Tools
        What an attempt at studies works with; results replace queue and files.
    data_dir : Path
    idle_seconds : float
        How often the queue is looked at when it is empty.
    """

    def __init__(
        self,
        results: Results,
        maker: ResultMaker,
        destination: DestinationSettings | None,
        tools: Tools,
        data_dir: Path,
        *,
        idle_seconds: float = 1.0,
    ) -> None:
        self._stop = threading.Event()
        self._maker = maker
        self._sender: DestinationWorker | None = None
        steps = {"results": maker.step}
        if destination is not None:
            own = replace(tools, spool=StoredFiles(data_dir), forwarding=results, stop=self._stop)
            self._sender = DestinationWorker(destination, 1, own)
            steps[f"results:{destination.name}"] = self._sender.step
        self._loops = [
            Loop(name, step, idle_seconds=idle_seconds, stop=self._stop, count_error=tools.metrics.thread_error)
            for name, step in steps.items()
        ]

    def start(self) -> None:
        """Take back what an earlier life on this machine had leased, and start the threads."""
        self._maker.release_old_leases()
        if self._sender is not None:
            self._sender.release_old_leases()
        for loop in self._loops:
            loop.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the threads finish what is under way; return whether they ended within `timeout` seconds."""
        return stop_all(self._loops, timeout)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(loop.is_alive for loop in self._loops)
