"""Whether receiving slows down as the database grows.

    python -m tests.benchmarks.rows --rows 1000000

In turn with an empty database and with one that holds many rows, CT slices are sent to a receiver, four associations at
once; then instances are written down as it does, one commit for each, without network and spool. Prints the medians of
the pairs' ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.recording import Arrival
from pacs_guard.queue.schema import instances, studies
from tests.benchmarks.loads import loads
from tests.benchmarks.receivers import pacs_guard
from tests.benchmarks.sender import send

if TYPE_CHECKING:
    from collections.abc import Sequence

SLICES = 300
_CHUNK = 20_000


def instance(study: int, number: int) -> StoredInstance:
    uid = f"1.2.826.0.1.3680043.8.498.{study}"
    digest = hashlib.sha256(f"{study} {number}".encode()).hexdigest()
    return StoredInstance(
        id=0,
        key=InstanceKey(uid, f"{uid}.1", f"{uid}.1.{number}", digest),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=f"instances/{digest[:2]}/{digest[:24]}/{digest[32:]}.dcm",
        offset=400,
        length=524288,
        source="ct",
    )


def fill(database: Database, rows: int) -> None:
    """Put in what earlier studies left."""
    now = time.time()
    count = -(-rows // SLICES)
    with database.write() as connection:
        connection.execute(
            sa.insert(studies),
            [
                {
                    "study_uid": f"1.2.826.0.1.3680043.8.498.{study}",
                    "state": "delivered",
                    **dict.fromkeys(("created_at", "opened_at", "last_instance_at"), now),
                }
                for study in range(count)
            ],
        )
    for start in range(0, rows, _CHUNK):
        with database.write() as connection:
            connection.execute(sa.insert(instances), [_row(number, now) for number in range(start, start + _CHUNK)])


def _row(number: int, now: float) -> dict[str, object]:
    study, slice_number = divmod(number, SLICES)
    one = instance(study, slice_number)
    return {
        "study_id": study + 1,
        "series_uid": one.key.series_uid,
        "sop_uid": one.key.sop_uid,
        "sha256": one.key.sha256,
        **{name: getattr(one, name) for name in ("sop_class_uid", "transfer_syntax_uid", "path", "offset", "length")},
        "source": "ct",
        "calling_ae": "CT1",
        "received_at": now,
    }


def rate(database: Database, study: int) -> float:
    """Receive one study, one commit for each instance, and return instances a second."""
    intake = Intake(database, time.time, "benchmark")
    association = f"{study:032}"
    intake.open_association(association, calling_ae="CT1", address="127.0.0.1", source="ct")
    arrivals = [Arrival(instance(study, number), "CT1", association) for number in range(SLICES)]
    began = time.perf_counter()
    for arrival in arrivals:
        intake.record_all([arrival])
    seconds = time.perf_counter() - began
    intake.close_association(association)
    return SLICES / seconds


def received(folders: Sequence[Path], pairs: int) -> list[list[float]]:
    """Send studies to a receiver on each data folder in turn, and return instances a second."""
    load = loads()["ct"]
    with ExitStack() as running:
        ports = [running.enter_context(pacs_guard(folder)).port for folder in folders]
        for port in ports:  # warms them up
            send(port, "PACSGUARD", load, SLICES, 4)
        return [[SLICES / send(port, "PACSGUARD", load, SLICES, 4) for port in ports] for _ in range(pairs)]


def show(what: str, rows: int, pairs: Sequence[Sequence[float]]) -> None:
    for without, with_rows in pairs:
        print(f"{what}: empty {without:6.0f}/s   {rows} rows {with_rows:6.0f}/s   ratio {with_rows / without:.2f}")
    print(f"{what}: median ratio {statistics.median(with_rows / without for without, with_rows in pairs):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base, ExitStack() as opened:
        folders = [Path(base) / name for name in ("empty", "full")]
        for folder in folders:
            (folder / "data").mkdir(parents=True, mode=0o700)
        empty, full = (Database(f"sqlite:///{folder / 'data/queue.sqlite'}") for folder in folders)
        for database in (empty, full):
            opened.callback(database.close)
            database.prepare()
        fill(full, options.rows)
        show("received", options.rows, received(folders, options.pairs))
        pairs = [(rate(empty, 10**6 + pair), rate(full, 10**6 + pair)) for pair in range(options.pairs)]
        show("rows alone", options.rows, pairs)


if __name__ == "__main__":
    main()
