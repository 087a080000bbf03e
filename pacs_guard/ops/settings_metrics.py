"""Metrics of the settings in force: when they were read, whether a changed file was taken, and a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from pacs_guard.ops.reload import Outcome


class SettingsCollector(Collector):
    """Gauges read when they are scraped.

    Parameters
    ----------
    outcomes : callable
        Returns what became of each role's settings.
    min_free_bytes : callable
        Returns the room on the spool's disk below which nothing is received.
    """

    def __init__(self, *, outcomes: Callable[[], list[Outcome]], min_free_bytes: Callable[[], int]) -> None:
        self._outcomes = outcomes
        self._min_free_bytes = min_free_bytes

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering reads nothing."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present values."""
        yield GaugeMetricFamily(
            "pacs_guard_spool_min_free_bytes",
            "Room on the spool's disk below which nothing is received.",
            value=self._min_free_bytes(),
        )
        success = GaugeMetricFamily(
            "pacs_guard_config_last_reload_successful", "Whether the settings read last were taken.", labels=["role"]
        )
        since = GaugeMetricFamily(
            "pacs_guard_config_last_reload_success_timestamp_seconds",
            "When the settings in force were read.",
            labels=["role"],
        )
        restart = GaugeMetricFamily(
            "pacs_guard_config_restart_needed", "Changed settings that wait for the role's restart.", labels=["role"]
        )
        for outcome in self._outcomes():
            success.add_metric([outcome.role], 1.0 if outcome.ok else 0.0)
            since.add_metric([outcome.role], outcome.in_force_since)
            restart.add_metric([outcome.role], float(len(outcome.restart)))
        yield from (success, since, restart)
