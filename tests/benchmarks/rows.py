"""Whether receiving slows down as the database grows.

    python -m tests.benchmarks.rows --rows 1000000

Writes instances down as the receiver does, in turn into an empty database and into one that holds many rows, and prints
the median of the pairs' ratios. Only the queue's part is measured: the spool does not know how many rows there are.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.recording import Arrival
from pacs_guard.queue.schema import instances, studies

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, full = (Database(f"sqlite:///{Path(folder) / name}.sqlite") for name in ("empty", "full"))
        for database in (empty, full):
            database.prepare()
        fill(full, options.rows)
        pairs = [(rate(empty, 10**6 + pair), rate(full, 10**6 + pair)) for pair in range(options.pairs)]
        for database in (empty, full):
            database.close()
    for without, with_rows in pairs:
        print(f"empty {without:6.0f}/s   {options.rows} rows {with_rows:6.0f}/s   ratio {with_rows / without:.2f}")
    print(f"median ratio {statistics.median(with_rows / without for without, with_rows in pairs):.2f}")


if __name__ == "__main__":
    main()
