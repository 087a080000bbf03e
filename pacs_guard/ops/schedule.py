"""The periodic work: completeness, leases, bypasses, reconciliation, retention, disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from pacs_guard.errors import PacsGuardError
from pacs_guard.spool.reconcile import reconcile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pacs_guard.config import Settings
    from pacs_guard.domain.completeness import CompletenessRule
    from pacs_guard.domain.policy import Policy
    from pacs_guard.queue.assessing import Assessing
    from pacs_guard.queue.forwarding import Forwarding
    from pacs_guard.queue.proving import Proving
    from pacs_guard.queue.upkeep import Upkeep
    from pacs_guard.spool.store import Spool

_LOG = structlog.get_logger(__name__)
_LOOK_SECONDS = 0.2  # every study waits for it after its quiet period
_RECONCILE_SECONDS = 3600.0
_GRACE_SECONDS = 600.0
_UNCONFIGURED_SECONDS = 300.0


@dataclass
class Chores:
    """What has to be done again and again.

    Attributes
    ----------
    assessing, forwarding, proving, upkeep : Assessing, Forwarding, Proving, Upkeep
        The queue.
    spool : Spool
    recover : callable
        Writes down again what a crash took the rows of.
    rule : CompletenessRule
    policies : mapping of str to Policy
        By source.
    default_policy : Policy
        For sources that are no longer configured.
    destinations : sequence of str
        Names of those configured.
    unproved_at : sequence of str
        Destinations without whose proof instances may be removed.
    retention_seconds : float
        How long delivered instances are kept.
    max_refused_bytes, min_free_bytes : int
        Limits of the spool.
    clock : callable
        Returns seconds since the epoch.
    """

    assessing: Assessing
    forwarding: Forwarding
    proving: Proving
    upkeep: Upkeep
    spool: Spool
    recover: Callable[[], object]
    rule: CompletenessRule
    policies: Mapping[str, Policy]
    default_policy: Policy
    destinations: Sequence[str]
    unproved_at: Sequence[str]
    retention_seconds: float
    max_refused_bytes: int
    min_free_bytes: int
    clock: Callable[[], float]

    def reconfigure(self, settings: Settings) -> None:
        """Do everything by `settings` from now on, as far as a node's settings can change while it runs."""
        self.rule = settings.completeness.rule()
        self.policies = settings.policies()
        self.destinations = [destination.name for destination in settings.destinations]
        self.unproved_at = unproved_removable(settings)
        self.retention_seconds = settings.ops.retention_days * 86400.0
        self.max_refused_bytes = settings.receive.max_refused_bytes
        self.min_free_bytes = settings.receive.min_free_bytes
        self.assessing.reconfigure(self.destinations)

    def complete(self) -> None:
        """Find studies that are whole."""
        for study in self.assessing.complete_quiet(self.rule):
            _LOG.info("study complete", study=study)

    def sweep(self) -> None:
        """Find workers that vanished, and holds that are over."""
        for study in self.assessing.expire_leases():
            _LOG.warning("detector worker vanished; study waits again", study=study)
        for study in self.assessing.bypass_overdue(self.policies, self.default_policy):
            _LOG.error("longest hold over; study forwarded without a verdict", study=study)
        for study, destination in self.forwarding.give_up_unconfigured(
            self.destinations, grace_seconds=_UNCONFIGURED_SECONDS
        ):
            _LOG.error("destination no longer configured; delivery given up", study=study, destination=destination)
        for study in self.proving.give_up_unconfigured(self.destinations, grace_seconds=_UNCONFIGURED_SECONDS):
            _LOG.error("destination no longer configured; its copy stays unproved", study=study)

    def reconcile(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Compare disk and rows."""
        with self.spool.looking():
            self.recover()
        found = reconcile(self.spool, self.upkeep, now=self.clock(), grace_seconds=grace_seconds)
        if found.missing:
            _LOG.error("instances are missing from the spool", instances=found.missing)
        if found.orphans:
            _LOG.warning("files without a row were set aside", files=found.orphans)
        if found.unfinished:
            _LOG.info("unfinished files were removed", count=found.unfinished)

    def retain(self) -> None:
        """Remove instances that were delivered, and proved, long enough ago, and the oldest of what was refused."""
        while paths := self.upkeep.purge_delivered(self.retention_seconds, unproved_at=self.unproved_at):
            for path in paths:
                self.spool.remove(path)
            _LOG.info("delivered instances removed", count=len(paths))
        if removed := self.spool.limit_refused(self.max_refused_bytes):
            _LOG.warning("oldest refused objects removed", count=removed)

    def check_disk(self) -> None:
        """Say in time that room is running out."""
        free = self.spool.free_bytes()
        if free < 2 * self.min_free_bytes:
            _LOG.warning("room on the spool's disk is running out", free_bytes=free, refuse_below=self.min_free_bytes)


def unproved_removable(settings: Settings) -> list[str]:
    """Return the destinations without whose proof local copies may be removed."""
    return [destination.name for destination in settings.destinations if destination.proof.remove_unproved]


def start_schedule(chores: Chores, sweep_seconds: float, more: Sequence[tuple[Callable[[], None], float]] = ()) -> Any:
    """Start the scheduler in the background and return it; one chore never overlaps with itself.

    Parameters
    ----------
    chores : Chores
    sweep_seconds : float
        How often leases and holds are looked at.
    more : sequence of (callable, float)
        Other chores, each with its seconds.
    """
    from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415  # slow to import

    scheduler = BackgroundScheduler(
        timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    )
    for chore, seconds in (
        (chores.complete, min(sweep_seconds, _LOOK_SECONDS)),
        (chores.sweep, sweep_seconds),
        (chores.reconcile, _RECONCILE_SECONDS),
        (chores.retain, 60.0),
        (chores.check_disk, 30.0),
        *more,
    ):
        scheduler.add_job(_guarded, "interval", args=(chore,), seconds=seconds, id=chore.__name__)
    scheduler.start()
    return scheduler


def _guarded(chore: Callable[[], None]) -> None:
    try:
        chore()
    except (PacsGuardError, OSError) as error:
        _LOG.error("periodic work failed; it is tried again", work=chore.__name__, error=str(error))
