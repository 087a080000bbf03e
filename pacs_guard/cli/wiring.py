"""Puts the rooms together."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.domain.policy import Policy
from pacs_guard.errors import SupervisionError
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.auditing import Auditing
from pacs_guard.queue.bypass import Bypasses
from pacs_guard.queue.commitment import CommitmentRequests
from pacs_guard.queue.database import Database
from pacs_guard.queue.drift import DriftHistograms
from pacs_guard.queue.forwarding import Forwarding
from pacs_guard.queue.labels import Labels
from pacs_guard.queue.late import LateAssessing
from pacs_guard.queue.models import Models
from pacs_guard.queue.outbox import Outbox
from pacs_guard.queue.proving import Proving
from pacs_guard.queue.reports import Reports
from pacs_guard.queue.results import Results
from pacs_guard.queue.review import Review
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.spool.store import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.config import Settings

CLOCK = time.time


@dataclass(frozen=True)
class Stores:
    """The queue's parts and the spool, opened.

    Attributes
    ----------
    settings : Settings
    database : Database
    assessing, auditing, bypasses, forwarding, labels, late, models, outbox
        The queue, by who uses it.
    proving, reports, requests, results, review, upkeep
        Likewise.
    """

    settings: Settings
    database: Database
    assessing: Assessing
    auditing: Auditing
    bypasses: Bypasses
    drift: DriftHistograms
    forwarding: Forwarding
    labels: Labels
    late: LateAssessing
    models: Models
    outbox: Outbox
    proving: Proving
    reports: Reports
    requests: CommitmentRequests
    results: Results
    review: Review
    upkeep: Upkeep

    @property
    def destinations(self) -> list[str]:
        """Names of the configured destinations."""
        return [destination.name for destination in self.settings.destinations]

    def spool(self) -> Spool:
        """Open the spool."""
        return Spool(self.settings.spool_dir, segment_bytes=self.settings.receive.segment_bytes)


def open_stores(settings: Settings) -> Stores:
    """Open the queue, bringing its schema up to date.

    Raises
    ------
    SchemaVersionError
        If a newer release made the database.
    QueueUnavailableError
        If it cannot be reached.
    """
    prepare_folder(settings.node.data_dir)
    database = Database(settings.database_url)
    database.prepare()
    destinations = [destination.name for destination in settings.destinations]
    return Stores(
        settings=settings,
        database=database,
        assessing=Assessing(database, CLOCK, destinations),
        auditing=Auditing(database, CLOCK),
        bypasses=Bypasses(database, CLOCK),
        drift=DriftHistograms(database, CLOCK),
        forwarding=Forwarding(database, CLOCK),
        labels=Labels(database, CLOCK),
        late=LateAssessing(database, CLOCK),
        models=Models(database, CLOCK),
        outbox=Outbox(database, CLOCK),
        proving=Proving(database, CLOCK),
        reports=Reports(database, CLOCK),
        requests=CommitmentRequests(database, CLOCK),
        results=Results(database, CLOCK),
        review=Review(database, CLOCK),
        upkeep=Upkeep(database, CLOCK),
    )


def prepare_folder(folder: Path) -> None:
    """Create a folder that only its owner can read.

    Raises
    ------
    SupervisionError
        If it cannot be created or written, or belongs to another user than root who runs this.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SupervisionError(
            f"node.data_dir {folder} cannot be created: {error.strerror}; choose another, or create it for this user"
        ) from error
    owner_id = folder.stat().st_uid
    if os.geteuid() == 0 and owner_id != 0:
        # files that root leaves in there would lock the node out
        raise SupervisionError(f"node.data_dir {folder} belongs to user {owner_id}; run this as that user, not as root")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SupervisionError(f"node.data_dir {folder} is not writable by this user; change its owner")


def default_policy() -> Policy:
    """Return the policy for instances whose source is no longer configured: the safe one."""
    return Policy()


def owner(role: str) -> str:
    """Return the name under which this process holds leases."""
    return f"{owner_prefix(role)}{os.getpid()}"


def owner_prefix(role: str) -> str:
    """Return what the names of all lives of a role on this machine begin with."""
    return f"{socket.gethostname()}:{role}:"
