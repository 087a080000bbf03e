"""Many writers on one study's first instance, and the same from several processes."""

from __future__ import annotations

import subprocess
import sys
import threading

import sqlalchemy as sa

from pacs_guard.queue.rows import Outcome
from pacs_guard.queue.schema import studies

THREADS = 8


def test_first_instances_over_parallel_associations_make_one_study(node, instance):
    outcomes, errors = [], []
    start = threading.Barrier(THREADS)

    def receive(number):
        association = f"parallel{number}"
        node.intake.open_association(association, calling_ae="CT1", address="10.0.0.1", source="ct")
        start.wait(timeout=30)
        try:
            outcomes.extend(
                node.intake.record(value, calling_ae="CT1", association_id=association)
                for value in (instance(number), instance(100))  # one of its own, one that all of them send
            )
        except Exception as error:  # noqa: BLE001  # shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert errors == []
    assert sorted(outcomes) == sorted([Outcome.STORED] * (THREADS + 1) + [Outcome.DUPLICATE] * (THREADS - 1))
    with node.database.read() as connection:
        [study] = connection.execute(sa.select(studies)).mappings().all()
    assert (study["received_count"], study["revision"]) == (THREADS + 1, THREADS + 1)
    [line] = node.reports.ledger()
    assert line.adds_up
    assert (line.received, line.duplicates) == (THREADS + 1, THREADS - 1)


RECEIVER = """
import sys, time
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
url, name = sys.argv[1:]
intake = Intake(Database(url), time.time, name)
intake.open_association(name, calling_ae="CT1", address="10.0.0.1", source="ct")
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    for who in (name, "all"):
        key = InstanceKey("1.2", "1.2.1", f"{who}.{number}", f"{who}{number}")
        value = StoredInstance(0, key, "1.2.3", "1.2.4", f"{name}/{who}/{number}", 1, 2, "ct")
        intake.record(value, calling_ae="CT1", association_id=name)
"""


def test_several_receiver_processes_write_one_study(node, database_url):
    receivers = [
        subprocess.Popen(
            [sys.executable, "-c", RECEIVER, database_url, f"receiver{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for receiver in receivers:
        assert receiver.stdout.readline() == "ready\n"
    for receiver in receivers:
        receiver.stdin.write("\n")
        receiver.stdin.flush()
    results = [receiver.communicate(timeout=60)[1] for receiver in receivers]

    assert results == [""] * 3
    [line] = node.reports.ledger()
    assert (line.received, line.duplicates, line.waiting) == (100, 50, 100)
    assert len(node.review.list_studies()) == 1
