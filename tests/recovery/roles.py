"""The node's roles as forked processes: started in milliseconds, struck where a test wants, and started again."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from pacs_guard.assemble.series import assemble_study
from pacs_guard.deliver.deliverer import Deliverer
from pacs_guard.detect.integrity import IntegrityDetector
from pacs_guard.detect.worker import Worker
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.policy import Policy
from pacs_guard.errors import PacsGuardError
from pacs_guard.ops.logs import configure_logging
from pacs_guard.ops.metrics import RoleMetrics
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.database import Database
from pacs_guard.queue.forwarding import Forwarding
from pacs_guard.queue.intake import Intake
from pacs_guard.receive.receiver import Receiver
from pacs_guard.spool.store import Spool
from tests.recovery.points import DELIVER, DETECT, OPS, PROCESSES, RECEIVE, Strike, arm, role_of

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.config import Settings

FORK = multiprocessing.get_context("fork")
QUIET = CompletenessRule(quiet_seconds=0.05, longest_wait_seconds=600.0)
LEASE_SECONDS = 2.0
_FOREVER = threading.Event()


class _Stores:
    def __init__(self, settings: Settings, process: str) -> None:
        self.settings = settings
        self.process = process
        self.database = Database(settings.database_url)
        self.assessing = Assessing(self.database, time.time, [item.name for item in settings.destinations])
        self.forwarding = Forwarding(self.database, time.time)
        self.metrics = RoleMetrics(CollectorRegistry())

    def spool(self) -> Spool:
        return Spool(self.settings.spool_dir, segment_bytes=self.settings.receive.segment_bytes)


def _receive(stores: _Stores) -> None:
    intake = Intake(stores.database, time.time, f"recovery:{stores.process}")
    Receiver(stores.settings, stores.spool(), intake, stores.metrics).start()
    _FOREVER.wait()


def _ops(stores: _Stores) -> None:
    while True:
        try:
            stores.assessing.complete_quiet(QUIET)
            stores.assessing.expire_leases()
        except PacsGuardError:  # as the schedule does: the next sweep comes
            time.sleep(0.05)
        time.sleep(0.02)


def _detect(stores: _Stores) -> None:
    stores.assessing.release_leases("detect:")
    worker = Worker(
        assessing=stores.assessing,
        assemble=lambda instances: assemble_study(instances, stores.settings.spool_dir),
        detectors=[IntegrityDetector()],
        policies=stores.settings.policies(),
        default_policy=Policy(),
        data_dir=stores.settings.node.data_dir,
        metrics=stores.metrics,
        clock=time.time,
        owner=f"detect:{os.getpid()}",
        lease_seconds=LEASE_SECONDS,
        max_attempts=50,
    )
    while True:
        try:
            worked = worker.work_once()
        except PacsGuardError:  # as the worker does
            worked = False
        if not worked:
            time.sleep(0.02)


def _deliver(stores: _Stores) -> None:
    Deliverer(
        stores.settings,
        stores.spool(),
        stores.forwarding,
        stores.metrics,
        time.time,
        random.Random(0),
        poll_seconds=0.02,
    ).start()
    _FOREVER.wait()


_RUNNERS = {RECEIVE: _receive, OPS: _ops, DETECT: _detect, DELIVER: _deliver}


def _main(process: str, settings: Settings, strike: Strike | None, fired: Any, log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    configure_logging(form="json", level="info", role=process)
    if strike is not None:
        arm(strike, fired)
    _RUNNERS[role_of(process)](_Stores(settings, process))


class Roles:
    """The processes of a node.

    Parameters
    ----------
    settings : Settings
    log : Path
        What they say goes here.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._processes: dict[str, Any] = {}
        self.fired = FORK.Value("i", 0)
        self.deaths = 0

    def start(self, name: str, strike: Strike | None = None) -> None:
        """Start a process in place of the one that runs."""
        self.end(name)
        arguments = (name, self._settings, strike, self.fired, self._log)
        process = FORK.Process(target=_main, args=arguments, daemon=True)
        process.start()
        self._processes[name] = process

    def kill(self, name: str) -> None:
        """Kill a process as a power cut would."""
        os.kill(self._processes[name].pid, signal.SIGKILL)

    def tend(self) -> None:
        """Start again whatever died, without a strike."""
        for name in PROCESSES:
            process = self._processes.get(name)
            if process is None or not process.is_alive():
                self.deaths += process is not None
                self.start(name)

    def end(self, name: str) -> None:
        """End a process if it runs."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def end_all(self) -> None:
        for name in PROCESSES:
            self.end(name)
