"""Answers storage commitment that modalities ask of this node, over associations of its own (PS3.4 J.3.3)."""

from __future__ import annotations

import os
import random
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from pacs_guard.deliver.commitment import send_report
from pacs_guard.deliver.loop import Loop
from pacs_guard.domain.commitment import COMMITTED, CommitmentReport, Holder, answer
from pacs_guard.domain.proof import PROCESSING_FAILURE
from pacs_guard.errors import DeliveryError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pacs_guard.config import CommitmentSettings, Settings
    from pacs_guard.deliver.metrics import DeliverMetrics
    from pacs_guard.domain.commitment import Copy, Reference
    from pacs_guard.queue.commitment import ClaimedRequest, CommitmentRequests, KnownCopy
    from pacs_guard.spool.store import StoredFiles

_LOG = structlog.get_logger(__name__)
_LEASE_SECONDS = 600.0
_LOOK_AGAIN_SECONDS = 10.0
_LEAST_WAIT_SECONDS = 0.5


class Answerer:
    """Looks at one request after another, and tells its sender once all can be said.

    Parameters
    ----------
    settings : Settings
    requests : CommitmentRequests
    spool : StoredFiles
    metrics : DeliverMetrics
    clock : callable
        Returns seconds since the epoch.
    rng : random.Random, optional
        Spreads retries.
    poll_seconds : float
        How often requests are looked for.
    """

    def __init__(
        self,
        settings: Settings,
        requests: CommitmentRequests,
        spool: StoredFiles,
        metrics: DeliverMetrics,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        *,
        poll_seconds: float = 1.0,
    ) -> None:
        self._requests = requests
        self._spool = spool
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  # no secret
        self._owner_prefix = f"{socket.gethostname()}:answer:"
        self._owner = f"{self._owner_prefix}{os.getpid()}"
        self._stop = threading.Event()
        self._loop = Loop(
            "answer", self.step, idle_seconds=poll_seconds, stop=self._stop, count_error=metrics.thread_error
        )
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Answer by `settings` from the next request on."""
        self._sources = {source.name: source.commitment for source in settings.sources}
        self._calling_ae = settings.node.ae_title

    def start(self) -> None:
        """Take back what an earlier life on this machine had leased, and start the thread."""
        self._requests.release_leases(self._owner_prefix)
        self._loop.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """Let the thread finish; return whether it ended within `timeout` seconds."""
        self._stop.set()
        return self._loop.join(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._loop.is_alive

    def step(self) -> bool:
        """Look at one request, and return whether there was one."""
        if not self._requests.is_due():
            return False
        request = self._requests.claim(self._owner, _LEASE_SECONDS)
        if request is None:
            return False
        settings = self._sources.get(request.source)
        if settings is None:
            error = f"the source {request.source} is no longer configured"
            self._requests.not_told(request, error, retry_in=None)
            return True
        answers = self._answers(request, settings.holder)
        age = self._clock() - request.received_at
        if None in answers.values() and age < settings.longest_wait_seconds:
            self._requests.wait(request, min(_LOOK_AGAIN_SECONDS, _LEAST_WAIT_SECONDS + age / 10))
            return True
        # what nobody vouched for in time is not committed
        said = {one: PROCESSING_FAILURE if found is None else found for one, found in answers.items()}
        self._tell(request, said, settings)
        return True

    def _answers(self, request: ClaimedRequest, holder: Holder) -> dict[Reference, int | None]:
        known = self._requests.copies(request)
        by_uid = {uid: self._looked_at(copies, holder) for uid, copies in known.items()}
        return {one: answer(holder, one.sop_class_uid, by_uid.get(one.sop_uid, ())) for one in request.instances}

    def _looked_at(self, copies: Sequence[KnownCopy], holder: Holder) -> list[Copy]:
        """Return what is known of copies; whoever holds responsibility looks at its bytes first."""
        if holder is not Holder.NODE:
            return [known.copy for known in copies]
        return [replace(known.copy, is_here=known.copy.is_here and self._is_sound(known)) for known in copies]

    def _is_sound(self, known: KnownCopy) -> bool:
        try:
            self._spool.verify(known.instance)
        except SpoolError as error:
            _LOG.error("instance cannot be committed", instance_id=known.instance.id, error=str(error))
            return False
        return True

    def _tell(self, request: ClaimedRequest, answers: Mapping[Reference, int], settings: CommitmentSettings) -> None:
        report = CommitmentReport(
            request.transaction_uid,
            tuple(one for one, found in answers.items() if found == COMMITTED),
            tuple((one, found) for one, found in answers.items() if found != COMMITTED),
        )
        log = _LOG.bind(source=request.source, calling_ae=request.calling_ae, transaction=request.transaction_uid)
        try:
            send_report(settings.peer(request.source, request.calling_ae, request.address), self._calling_ae, report)
        except DeliveryError as error:
            attempts = request.attempts + 1
            retry_in = settings.retry.policy().delay(attempts, self._rng.random())
            self._requests.not_told(request, str(error), retry_in=retry_in)
            say = log.warning if retry_in is not None else log.error
            say("commitment not reported", attempts=attempts, retry_in=retry_in, error=str(error))
            return
        self._requests.answered(request, answers)
        log.info("commitment reported", committed=len(report.committed), failed=len(report.failed))
