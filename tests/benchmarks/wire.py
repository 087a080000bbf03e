"""The wire against DCMTK and Orthanc, side by side in one run.

    python -m tests.benchmarks.wire receive send          # about ten minutes on two cores
    python -m tests.benchmarks.wire receive --associations 1 8 --loads ct --repeats 5 --delay-ms 10 --stock

Every peer takes its turn in each repeat, so that what else happens on the machine meets all of them; figures are
medians over the repeats. TCP_NODELAY is set for DCMTK and Orthanc, without which both are many times slower. Receiving:
one cheap sender for all, a process for each association, everything encoded beforehand. Sending: one receiver in C for
all, which throws everything away.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import measure
from tests.benchmarks.loads import Load, loads
from tests.benchmarks.receivers import receivers
from tests.benchmarks.sender import send
from tests.benchmarks.senders import senders, sink

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE = "PACS Guard"


class Table:
    """Measurements by peer and number of associations, printed as Markdown."""

    def __init__(self, title: str, associations: Sequence[int]) -> None:
        self._title = title
        self._associations = associations
        self._rates: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._cpu: dict[tuple[str, int], list[float]] = defaultdict(list)
        self._peak: dict[str, float] = defaultdict(float)

    def add(self, peer: str, associations: int, count: int, seconds: float, cpu_seconds: float, peak: float) -> None:
        self._rates[peer, associations].append(count / seconds)
        self._cpu[peer, associations].append(1000 * cpu_seconds / count)
        self._peak[peer] = max(self._peak[peer], peak)

    def lines(self) -> list[str]:
        numbers = " / ".join(map(str, self._associations))
        head = f"| {self._title} | per second, {numbers} | PACS Guard ÷ this, median of pairs | CPU ms | peak MiB |"
        return [head, "|---|---|---|---|---|", *map(self._line, dict.fromkeys(peer for peer, _ in self._rates))]

    def _line(self, peer: str) -> str:
        rates = " / ".join(f"{statistics.median(self._rates[peer, n]):.4g}" for n in self._associations)
        ratios = " / ".join(f"{self._ratio(peer, n):.2f}" for n in self._associations)
        cpu = " / ".join(f"{statistics.median(self._cpu[peer, n]):.2f}" for n in self._associations)
        peak = f"{self._peak[peer]:.0f}" if self._peak[peer] else "-"
        return f"| {peer} | {rates} | {ratios} | {cpu} | {peak} |"

    def _ratio(self, peer: str, associations: int) -> float:
        pairs = zip(self._rates[BASELINE, associations], self._rates[peer, associations], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


def measure_receiving(load: Load, count: int, options: argparse.Namespace) -> Table:
    """Send the same to every receiver."""
    table = Table(f"receiving {load.name}", options.associations)
    starts = receivers(options.delay_ms, stock=options.stock, processes=options.processes)
    for _ in range(options.repeats):
        for number in options.associations:
            for peer, start in starts.items():
                total = max(1, count // number) * number
                with tempfile.TemporaryDirectory(dir=options.folder) as folder, start(Path(folder) / "peer") as running:
                    send(running.port, running.ae_title, load, min(number, total), number)  # warms it up
                    cpu = measure.cpu_seconds(running.pid)
                    seconds = send(running.port, running.ae_title, load, total, number)
                    time.sleep(0.1)  # the peer closes its associations
                    cpu = measure.cpu_seconds(running.pid) - cpu
                    table.add(peer, number, total, seconds, cpu, measure.peak_mib(running.pid))
                    _say(f"{peer}, {number}: {total / seconds:.0f}/s")
    return table


def measure_sending(load: Load, count: int, options: argparse.Namespace) -> Table:
    """Let every sender send the same to one sink."""
    table = Table(f"sending {load.name}", options.associations)
    with tempfile.TemporaryDirectory(dir=options.folder) as base, sink(Path(base) / "sink") as port:
        for _ in range(options.repeats):
            for number in options.associations:
                for peer, run in senders(stock=options.stock).items():
                    total = max(1, count // number) * number
                    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                        sent = run(Path(folder) / "peer", load, total, number, port)
                    table.add(peer, number, total, sent.seconds, sent.cpu_seconds, sent.peak_mib)
                    _say(f"{peer}, {number}: {total / sent.seconds:.0f}/s")
    return table


_MEASURES = {"receive": measure_receiving, "send": measure_sending}
_started = time.monotonic()


def _say(text: str) -> None:
    print(f"  [{time.monotonic() - _started:5.0f} s] {text}", flush=True)


def main() -> None:
    """Measure what the command line asks for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["receive", "send"], default=["receive", "send"])
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--loads", nargs="+", choices=list(loads()), default=["ct", "small", "multiframe"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--instances", type=int, help="of each load; by default 300 CT slices and 2,000 small ones")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="also a receiver whose syncs take so much longer")
    parser.add_argument("--processes", type=int, default=1, help="also a receiver with so many processes")
    parser.add_argument("--stock", action="store_true", help="also PACS Guard's stock transport")
    parser.add_argument("--folder", type=Path, help="where the receivers write; the system's temporary folder")
    options = parser.parse_args()
    tables = []
    for what in options.what:
        for name in options.loads:
            load = loads()[name]
            tables.append(_MEASURES[what](load, options.instances or load.instances, options))
    for table in tables:
        print("\n" + "\n".join(table.lines()))


if __name__ == "__main__":
    main()
