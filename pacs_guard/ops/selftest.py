"""What came of the node's last test of itself: kept in a file, shown as metrics."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

_FILE = "self-test.json"


@dataclass(frozen=True, slots=True)
class SelfTestOutcome:
    """What came of a test.

    Attributes
    ----------
    ok : bool
        Whether the clean study came out byte-identical, and the altered one was held.
    reason : str
        In one sentence.
    at : float
        When it ended, seconds since the epoch.
    seconds : float
        How long it took.
    """

    ok: bool
    reason: str
    at: float
    seconds: float


def write_outcome(folder: Path, outcome: SelfTestOutcome) -> None:
    """Keep the outcome of the last test in the node's folder for running roles."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f"{_FILE}.new"
    fresh.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    fresh.rename(folder / _FILE)


def last_outcome(folder: Path) -> SelfTestOutcome | None:
    """Return the outcome of the last test; None if there was none."""
    try:
        return SelfTestOutcome(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # never run here, or by another release
        return None


class SelfTestCollector(Collector):
    """Gauges of the last test, read when they are scraped; none where there was no test.

    Parameters
    ----------
    folder : Path
        The node's folder for running roles.
    every_seconds : float
        How often the test is to be run.
    """

    def __init__(self, folder: Path, every_seconds: float) -> None:
        self._folder = folder
        self._every_seconds = every_seconds

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering reads nothing."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield what came of the last test."""
        outcome = last_outcome(self._folder)
        if outcome is None:
            return
        for name, text, value in (
            ("success", "Whether the node's last test of itself succeeded.", float(outcome.ok)),
            ("timestamp_seconds", "When the node's last test of itself ended.", outcome.at),
            ("interval_seconds", "How long after a test of itself the node runs the next one.", self._every_seconds),
            ("duration_seconds", "How long the node's last test of itself took.", outcome.seconds),
        ):
            yield GaugeMetricFamily(f"pacs_guard_self_test_{name}", text, value=value)
