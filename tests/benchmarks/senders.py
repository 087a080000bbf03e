"""The senders that are compared: each sends the same studies, one for each association, to the same sink."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.config import ReceiveSettings
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.lifecycle import ItemState
from pacs_guard.domain.policy import Decision, Judgement
from pacs_guard.domain.verdict import Verdict
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.assessments import Assessment
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.spool.store import Spool
from tests.benchmarks import measure
from tests.benchmarks.receivers import program
from tests.integration import peers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.benchmarks.loads import Load

_CLEARING_SECONDS = 0.3
CONFIG = """\
[node]
data_dir = "{folder}/data"
[deliver]
transport = "{transport}"
[ops]
log_level = "warning"
[[sources]]
name = "ct-1"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "ANY-SCP"
port = {port}
associations = {associations}
"""


@dataclass(frozen=True)
class Sent:
    """One measurement: seconds from the order to the last answer, CPU seconds, peak memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


@contextmanager
def sink(folder: Path) -> Iterator[int]:
    """A receiver in C that throws everything away; yields its port."""
    port = peers.free_port()
    path = peers.dcmtk("storescp")
    assert path, "DCMTK's storescp is not installed"
    folder.mkdir(parents=True, exist_ok=True)
    command = [path, "-q", "+xa", "--ignore", "--fork", "-od", str(folder), str(port)]
    with program(command, port, folder / "sink.log"):
        yield port


def by_dcmtk(name: str, *options: str) -> Callable[[Path, Load, int, int, int], Sent]:
    """Send with one process of DCMTK's `dcmsend` or `storescu` for each association."""

    def run(folder: Path, load: Load, count: int, associations: int, port: int) -> Sent:
        studies = [
            load.write_files(folder / f"study-{number}", max(1, count // associations))
            for number in range(associations)
        ]
        os.sync()
        path = peers.dcmtk(name)
        assert path
        commands = [
            [path, "-q", *options, "-aet", "DCMSEND", "127.0.0.1", str(port), *map(str, files)] for files in studies
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        with ThreadPoolExecutor(associations) as pool:
            list(pool.map(lambda command: subprocess.run(command, check=True, env=peers.ENVIRONMENT), commands))
        seconds = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Sent(seconds, cpu, 0.0)

    return run


def by_pacs_guard(transport: str) -> Callable[[Path, Load, int, int, int], Sent]:
    """Let the deliver role send studies that are in the queue from the moment they are cleared."""

    def run(folder: Path, load: Load, count: int, associations: int, port: int) -> Sent:
        folder.mkdir(parents=True)
        config = folder / "pacs-guard.toml"
        config.write_text(CONFIG.format(folder=folder, transport=transport, port=port, associations=associations))
        database = Database(f"sqlite:///{folder / 'data' / 'queue.sqlite'}")
        database.prepare()
        assessing = Assessing(database, time.time, ["pacs"])
        spool = Spool(folder / "data" / "spool", segment_bytes=ReceiveSettings().segment_bytes)
        for number in (1, *[max(1, count // associations)] * associations):  # the first warms the role up
            _fill(database, spool, load, number)
            assessing.complete_quiet(CompletenessRule(0.0, 0.0))
        spool.release()
        os.sync()
        command = [sys.executable, "-m", "pacs_guard", "run", "deliver", "--config", str(config)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _clear(database, 1, time.time())
            peers.wait_until(lambda: _ended(database), seconds=120, what="the first study delivered")
            started = time.time() + _CLEARING_SECONDS * associations
            _clear(database, associations, started)
            assert time.time() < started, "the studies were due before all of them were cleared"
            cpu = measure.cpu_seconds(process.pid)
            ended = peers.wait_until(lambda: _ended(database), seconds=300, what="every study delivered")
            return Sent(ended - started, measure.cpu_seconds(process.pid) - cpu, measure.peak_mib(process.pid))
        finally:
            process.terminate()
            process.wait(60)
            database.close()

    return run


def _clear(database: Database, studies: int, due: float) -> None:
    """Play the detector; nothing is sent before `due`, so that all studies leave at once and this is not counted."""
    assessing = Assessing(database, lambda: due, ["pacs"])
    for _ in range(studies):
        study = assessing.claim("benchmark", 60)
        assert study is not None
        judgement = Judgement(Decision.FORWARD, Verdict.CLEAN, "benchmark")
        assessing.decide(study, Assessment(judgement, (), {}, None, time.time()))


def _fill(database: Database, spool: Spool, load: Load, count: int) -> None:
    """Play the receiver; the benchmark of receiving measures that."""
    intake = Intake(database, time.time, "benchmark")
    intake.open_association("a", calling_ae="CT1", address="127.0.0.1", source="ct-1")
    study = load.study_uid
    for sop, head in load.heads(count):
        start = head.index(b"\x20\x00\x0d\x00UI") + 8
        study = head[start : start + len(load.study_uid)].decode()
        incoming = spool.receive(load.preamble(sop))
        incoming.write(head)
        incoming.write(load.tail)
        key = InstanceKey(study, f"{study}.1", sop, incoming.sha256)
        placed = incoming.place(spool.path_for(study))
        spool.sync(placed.holder)
        placed.holder.settle()
        instance = StoredInstance(
            0, key, load.sop_class_uid, "1.2.840.10008.1.2.1", placed.path, incoming.offset, incoming.length, "ct-1"
        )
        intake.record(instance, calling_ae="CT1", association_id="a")
    intake.close_association("a")


def _ended(database: Database) -> float | None:
    """When the last instance was answered, once all of them were."""
    query = "SELECT sum(state <> ?), max(delivered_at) FROM delivery_items"
    with database.read() as connection:
        waiting, last = connection.exec_driver_sql(query, (str(ItemState.DELIVERED),)).one()
    return None if waiting or last is None else float(last)


def senders(*, stock: bool) -> dict[str, Callable[[Path, Load, int, int, int], Sent]]:
    """Every sender that is installed, by the name in the table."""
    found = {"PACS Guard": by_pacs_guard("fast")}
    if stock:
        found["PACS Guard, stock transport"] = by_pacs_guard("stock")
    if peers.dcmtk("dcmsend"):
        found["dcmsend"] = by_dcmtk("dcmsend", "-dn")
    if peers.dcmtk("storescu"):
        found["storescu"] = by_dcmtk("storescu", "-R")
    return found
