"""Rounds of the crash test: two studies each, one thing that goes wrong, and a look at what is left."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.config import Settings
from pacs_guard.domain.lifecycle import ItemState, StudyState
from pacs_guard.queue import schema
from pacs_guard.queue.database import Database
from pacs_guard.queue.reports import Reports
from pacs_guard.queue.upkeep import Upkeep
from pacs_guard.spool.reconcile import reconcile
from pacs_guard.spool.sealed import records_in
from pacs_guard.spool.store import Spool
from tests.integration.peers import free_port
from tests.recovery.network import Line, Modality, Pacs, wait_for
from tests.recovery.points import DELIVER, FAILING, POINTS, PROCESSES, Strike, role_of
from tests.recovery.roles import FORK, Roles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.benchmarks.loads import Load

STUDIES = 2
"""They arrive over an association each at the same time, and leave so."""
INSTANCES = 3
"""Of each study."""
SEGMENT_BYTES = 1 << 16
"""Holds a few rounds' instances of the first study; those of the second are larger, so that each gets a file."""
_PADDING = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, SEGMENT_BYTES) + bytes(SEGMENT_BYTES)
ROUND_SECONDS = 60.0
KINDS = ("point", "point", "point", "point", "random", "failing", "locked", "cut")
"""What goes wrong, as often as it stands here."""


@dataclass
class Outcome:
    """What a round was and how it went.

    Attributes
    ----------
    number : int
    kind : str
        One of `KINDS`.
    fault : str
        What was to go wrong, exactly.
    fired : bool
        Whether it came to that: a call that is not made so often cannot be struck.
    deaths, refused, twice : int
        Processes that died, instances answered with a failure first, and instances that the PACS got more than once.
    seconds : float
    error : str
        Empty if every promise was kept.
    """

    number: int
    kind: str
    fault: str = ""
    fired: bool = False
    deaths: int = 0
    refused: int = 0
    twice: int = 0
    seconds: float = 0.0
    error: str = ""


class CrashTest:
    """A node, a modality and a PACS, and everything that goes wrong between them.

    Parameters
    ----------
    folder : Path
        Holds the node's data, in ``data``.
    load : Load
        What is sent.
    instances : int
        Of each study.
    """

    def __init__(self, folder: Path, load: Load, instances: int = INSTANCES) -> None:
        self._load = load
        self._instances = instances
        receive_port = free_port()
        self._pacs = Pacs(folder / "pacs.txt")
        self._to_pacs = Line(self._pacs.port)
        self._to_node = Line(receive_port)
        settings = Settings(
            node={"data_dir": folder / "data"},
            receive={
                "host": "127.0.0.1",
                "port": receive_port,
                "processes": 2,
                "min_free_bytes": 0,
                "dimse_timeout_seconds": 5,
                "segment_bytes": SEGMENT_BYTES,
            },
            sources=[{"name": "ct-1", "ae_titles": ["CT1"]}],
            destinations=[
                {
                    "name": "pacs",
                    "ae_title": "PACS",
                    "port": self._to_pacs.port,
                    "retry": {"base_seconds": 0.05, "cap_seconds": 0.05, "max_attempts": 100},
                    "associations": STUDIES,
                }
            ],
        )
        settings.node.data_dir.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        # no connection may be open when a role is forked: what the child inherits would meddle with SQLite's files
        database = Database(settings.database_url)
        database.prepare()
        database.close()
        self._roles = Roles(settings, folder / "roles.log")
        self._sent: dict[str, str] = {}
        self._armed: str | None = None
        self._timer: threading.Timer | None = None

    def round(self, number: int, seed: int) -> Outcome:
        """Let studies pass while one thing goes wrong."""
        rng = random.Random(seed * 1_000_003 + number)
        kind = rng.choice(KINDS)
        fault = getattr(self, f"_{kind}")
        outcome = Outcome(number, kind)
        started, self._roles.fired.value, self._roles.deaths = time.monotonic(), 0, 0
        cuts = self._to_node.cuts + self._to_pacs.cuts
        try:
            outcome.fault = fault(rng)
            sent = self._pass_studies(outcome)
            self._check(outcome, sent)
        except AssertionError as error:
            outcome.error = str(error)
        finally:
            # what did not come to pass in this round must not do so in the next
            if self._armed is not None and not self._roles.fired.value:
                self._roles.start(self._armed)
            self._armed = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer.join()  # it may be killing just now
                self._timer = None
            self._to_node.cut_after(-1)
            self._to_pacs.cut_after(-1)
        cut = self._to_node.cuts + self._to_pacs.cuts > cuts
        outcome.fired = bool(self._roles.fired.value) or cut or kind == "locked"
        outcome.deaths = self._roles.deaths
        outcome.seconds = round(time.monotonic() - started, 3)
        return outcome

    def _point(self, rng: random.Random) -> str:
        process = rng.choice(PROCESSES)
        strike = Strike(
            rng.choice(POINTS[role_of(process)]), rng.randint(1, INSTANCES), rng.choice(("before", "after"))
        )
        self._roles.start(process, strike)
        self._armed = process
        return f"{process} killed {strike}"

    def _failing(self, rng: random.Random) -> str:
        process = rng.choice(PROCESSES)
        point, error = rng.choice(FAILING[role_of(process)])
        strike = Strike(point, rng.randint(1, INSTANCES), error)
        self._roles.start(process, strike)
        self._armed = process
        return f"{process}: {strike}"

    def _random(self, rng: random.Random) -> str:
        process, after = rng.choice(PROCESSES), rng.uniform(0.0, 0.2)
        self._roles.tend()
        self._timer = threading.Timer(after, self._kill, (process,))
        self._timer.start()
        return f"{process} killed after {after:.3f} s"

    def _kill(self, process: str) -> None:
        self._roles.fired.value = 1
        self._roles.kill(process)

    def _locked(self, rng: random.Random) -> str:
        seconds = rng.uniform(0.1, 0.6)
        self._roles.tend()
        FORK.Process(target=_hold_lock, args=(self._settings.node.data_dir / "queue.sqlite", seconds)).start()
        return f"database locked for {seconds:.3f} s"

    def _cut(self, rng: random.Random) -> str:
        name, line = rng.choice((("modality", self._to_node), ("PACS", self._to_pacs)))
        count = rng.randint(1, (STUDIES * INSTANCES + 1) * self._load.length)
        line.cut_after(count)
        return f"line to the {name} cut after {count} bytes"

    def fill_up(self, make_room: Callable[[], None]) -> Outcome:
        """Send more than the disk holds, let it have room once everybody was refused, and look at what is left."""
        outcome = Outcome(0, "full", "the disk is full", fired=True)
        modalities = self._modalities()
        # what fits is taken, and the rest refused as long as it lasts
        for _ in range(3):
            self._send(modalities)
        taken = sum(len(modality.acknowledged) for modality in modalities)
        waiting = sum(len(modality.waiting) for modality in modalities)
        assert taken, "nothing fitted the disk"
        assert waiting, "the disk was not filled: make it smaller"
        make_room()
        self._check(outcome, self._pass_on(modalities, outcome))
        return outcome

    def _pass_studies(self, outcome: Outcome) -> dict[str, str]:
        return self._pass_on(self._modalities(), outcome)

    def _modalities(self) -> list[Modality]:
        """One for each study."""
        found = []
        for number in range(STUDIES):
            rest = self._load.tail + (_PADDING if number % 2 else b"")
            instances = [(sop, head + rest) for sop, head in self._load.heads(self._instances)]
            found.append(Modality(self._to_node.port, instances))
        return found

    def _send(self, modalities: list[Modality]) -> bool:
        """Let each try once, at the same time, and return whether everything is acknowledged."""
        self._roles.tend()
        threads = [threading.Thread(target=modality.try_once) for modality in modalities]
        for thread in threads:
            thread.start()
        for thread in threads:  # none may run when a process is forked
            thread.join()
        return not any(modality.waiting for modality in modalities)

    def _pass_on(self, modalities: list[Modality], outcome: Outcome) -> dict[str, str]:
        """Wait until everything is acknowledged and delivered, and return each SOP Instance UID with its hash."""
        sent = {sop: digest for modality in modalities for sop, digest in modality.sent.items()}
        self._sent |= sent
        wait_for(lambda: self._send(modalities), ROUND_SECONDS, "every instance acknowledged")
        outcome.refused = sum(modality.failed for modality in modalities)
        assert all(modality.acknowledged == modality.sent for modality in modalities)

        def arrived() -> bool:
            self._roles.tend()
            return self._states() == {str(StudyState.DELIVERED)}

        wait_for(arrived, ROUND_SECONDS, "every study delivered")
        return sent

    def _states(self) -> set[str]:
        with self._database() as connection:
            return set(connection.execute(sa.select(schema.studies.c.state)).scalars())

    def _database(self):
        return sa.create_engine(self._settings.database_url, poolclass=sa.pool.NullPool).connect()

    def _check(self, outcome: Outcome, last: dict[str, str]) -> None:
        """Compare what was sent, what the node says and what the PACS has."""
        got = self._pacs.received()
        for sop, digest in self._sent.items():
            assert set(got.get(sop, ())) == {digest}, f"{sop} did not arrive bit for bit: {got.get(sop)}"
        assert set(got) == set(self._sent), f"never sent: {set(got) - set(self._sent)}"
        twice = [sop for sop in last if got[sop].total() > 1]
        outcome.twice = len(twice)
        may_repeat = outcome.fault.startswith(DELIVER) or "PACS" in outcome.fault
        assert may_repeat or not twice, f"delivered more than once although no answer was lost: {twice}"
        with self._database() as connection:
            rows = connection.execute(sa.select(schema.instances.c.sop_uid, schema.instances.c.sha256)).all()
            items = connection.execute(sa.select(schema.delivery_items.c.state)).scalars().all()
        assert sorted(map(tuple, rows)) == sorted(self._sent.items()), "the rows are not what was sent"
        assert items == [str(ItemState.DELIVERED)] * len(self._sent), f"items: {items}"
        database = Database(self._settings.database_url)
        try:
            ledger = Reports(database, time.time).ledger()
            assert all(line.adds_up for line in ledger), f"the ledger does not add up: {ledger}"
            assert sum(line.delivered for line in ledger) == len(self._sent), f"the ledger counts wrong: {ledger}"
        finally:
            database.close()

    def look_at_the_spool(self) -> None:
        """End every role, tidy up as at a start, and compare each byte with what was sent."""
        self._roles.end_all()
        database = Database(self._settings.database_url)
        try:
            spool = Spool(self._settings.spool_dir)
            found = reconcile(spool, Upkeep(database, time.time), now=time.time(), grace_seconds=-1.0)
            assert not found.missing, f"missing from the spool: {found.missing}"
            with self._database() as connection:
                for row in connection.execute(sa.select(schema.instances)).mappings():
                    with spool.content_at(row["path"]) as file:
                        content = file.read()[row["offset"] : row["offset"] + row["length"]]
                    assert hashlib.sha256(content).hexdigest() == row["sha256"], f"altered: {row['path']}"
            kept = len(list(spool.instance_paths())) + _count_records(spool)
            assert kept == len(self._sent), f"{kept} files and records for {len(self._sent)} instances"
        finally:
            database.close()

    def close(self) -> None:
        """End everything."""
        self._roles.end_all()
        for end in (self._to_node, self._to_pacs, self._pacs):
            end.close()


def _count_records(spool: Spool) -> int:
    count = 0
    for segment in (spool.root / "segments").iterdir():
        with segment.open("rb") as file:
            count += len(list(records_in(file.fileno(), segment.name)))
    return count


def _hold_lock(path: Path, seconds: float) -> None:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()
