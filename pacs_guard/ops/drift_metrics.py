"""Metrics of how far each scanner is from what the models were calibrated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from pacs_guard.domain.drift import Drift

_LABELS = ["detector", "scanner", "measure"]


class DriftCollector(Collector):
    """Gauges read from the queue when they are scraped.

    Parameters
    ----------
    drift : callable
        Returns the comparisons of the models in force.
    """

    def __init__(self, drift: Callable[[], Iterable[Drift]]) -> None:
        self._drift = drift

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering asks no database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present values."""
        index = GaugeMetricFamily(
            "pacs_guard_drift_index",
            "Population stability index of a scanner's scores and noise against the reference.",
            labels=_LABELS,
        )
        limit = GaugeMetricFamily(
            "pacs_guard_drift_index_limit", "From here on the index is neither small nor chance.", labels=_LABELS
        )
        series = GaugeMetricFamily("pacs_guard_drift_series", "Series that the index is of.", labels=_LABELS)
        for one in self._drift():
            labels = [one.name, one.scanner, str(one.measure)]
            index.add_metric(labels, one.index)
            limit.add_metric(labels, one.limit)
            series.add_metric(labels, one.series)
        yield from (index, limit, series)
