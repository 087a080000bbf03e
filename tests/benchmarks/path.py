"""The path as a whole: what the node adds to quiet period and detector, and what the detector costs receiving.

    python -m tests.benchmarks.path --instances 300 --repeats 3

Per repeat a whole node (`pacs-guard serve`) receives a study and delivers it to a receiver in C that throws everything
away; beside it DCMTK's dcmsend sends as much to the same receiver. Then a second study is received while the first is
being assessed, against the same with the detector idle, in pairs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.queue.database import Database
from tests.benchmarks.loads import Load, loads
from tests.benchmarks.sender import send
from tests.benchmarks.senders import by_dcmtk, sink
from tests.integration import peers
from tests.integration.node import Node, running, write_config

if TYPE_CHECKING:
    from collections.abc import Sequence

QUIET_SECONDS = 1.0
_LAST = """
SELECT s.state, s.last_instance_at, a.started_at, a.finished_at, (
    SELECT max(i.delivered_at) FROM delivery_items i JOIN deliveries d ON d.id = i.delivery_id WHERE d.study_id = s.id
)
FROM studies s LEFT JOIN assessments a ON a.study_id = s.id ORDER BY s.id DESC, a.id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Passed:
    """Seconds of one study's way: waiting to be whole, being assessed, and everything else."""

    total: float
    detector: float

    @property
    def node(self) -> float:
        """What the node itself took: total less detector and quiet period."""
        return self.total - self.detector - QUIET_SECONDS


def pass_a_study(node: Node, load: Load, count: int) -> Passed:
    """Send a study and wait until its last instance is delivered."""
    send(node.port, "PACSGUARD", load, count, 1)
    database = Database(f"sqlite:///{node.data_dir / 'queue.sqlite'}")

    def ended():
        with database.read() as connection:
            row = connection.exec_driver_sql(_LAST).one()
        return row if row[0] == "delivered" else None

    try:
        _, last, started, finished, delivered = peers.wait_until(ended, seconds=600, what="the study delivered")
    finally:
        database.close()
    return Passed(delivered - last, finished - started)


def receive_while(node: Node, load: Load, count: int, *, assessing: bool) -> float:
    """Rate at which a study is received, instances a second, with the detector at work or idle."""
    database = Database(f"sqlite:///{node.data_dir / 'queue.sqlite'}")

    def states() -> set[str]:
        with database.read() as connection:
            return {row[0] for row in connection.exec_driver_sql("SELECT state FROM studies")}

    try:
        if assessing:
            send(node.port, "PACSGUARD", load, 10 * count, 1)
            peers.wait_until(lambda: "assessing" in states(), seconds=60, what="the detector at work")
        rate = count / send(node.port, "PACSGUARD", load, count, 1)
        assert not assessing or "assessing" in states(), "the detector ended too early: send more instances"
        peers.wait_until(lambda: not states() - {"delivered", "held"}, seconds=600, what="an idle node")
    finally:
        database.close()
    return rate


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--detectors", nargs="+", default=["integrity", "forensic"])
    parser.add_argument("--scheduling", choices=["normal", "batch", "idle"], default="batch", help="of the detector")
    options = parser.parse_args()
    load, count = loads()["ct"], options.instances
    passed, sent, busy, idle = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, sink(Path(folder) / "sink") as port:
        base = Path(folder)
        config = write_config(
            base / "node", {"pacs": ("ANY-SCP", port)}, detectors=tuple(options.detectors), quiet=QUIET_SECONDS
        )
        config.write_text(
            config.read_text().replace("[detect]\n", f'[detect]\nscheduling = "{options.scheduling}"\n', 1)
        )
        with running(config) as node:
            pass_a_study(node, load, 10)  # warms it up
            for number in range(options.repeats):
                passed.append(pass_a_study(node, load, count))
                sent.append(by_dcmtk("dcmsend", "-dn")(base / f"files-{number}", load, count, 1, port).seconds)
                idle.append(receive_while(node, load, count, assessing=False))
                busy.append(receive_while(node, load, count, assessing=True))
    ratio = _median([ours.node / theirs for ours, theirs in zip(passed, sent, strict=True)])
    slower = _median([1 - one / other for one, other in zip(busy, idle, strict=True)])
    print(f"| a study of {count} CT slices | median |\n|---|---|")
    print(f"| last received to last delivered, s | {_median([way.total for way in passed]):.2f} |")
    print(f"| of it in the detector, s | {_median([way.detector for way in passed]):.2f} |")
    print(f"| the node itself, without {QUIET_SECONDS:g} s of quiet, s | {_median([way.node for way in passed]):.2f} |")
    print(f"| dcmsend with as much, s | {_median(sent):.2f} |")
    print(f"| the node ÷ dcmsend, pairs | {ratio:.2f} |")
    print(f"| received per second, detector idle | {_median(idle):.0f} |")
    print(f"| received per second, detector at work | {_median(busy):.0f} |")
    print(f"| slower by, pairs | {100 * slower:.0f} % |")


if __name__ == "__main__":
    main()
