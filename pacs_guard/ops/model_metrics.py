"""Metrics of the models in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from pacs_guard.domain.models import LoadedModel
    from pacs_guard.ops.proposals import Proposal

_UNAVAILABLE = "unavailable"


class ModelsCollector(Collector):
    """Gauges read from the queue when they are scraped.

    Parameters
    ----------
    models : callable
        Returns what the detector workers judge by, once for each worker.
    proposals : callable
        Returns the newest proposal of each detector.
    """

    def __init__(
        self, models: Callable[[], Iterable[LoadedModel]], proposals: Callable[[], Iterable[Proposal]]
    ) -> None:
        self._models = models
        self._proposals = proposals

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering asks no database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present values."""
        models = list(self._models())
        info = InfoMetricFamily("pacs_guard_model", "Detectors and their versions.", labels=["detector"])
        for name, version, sha256 in sorted({(one.name, one.version, one.sha256 or "") for one in models}):
            info.add_metric([name], {"version": version, "sha256": sha256[:12]})
        yield info
        failed = GaugeMetricFamily(
            "pacs_guard_model_switch_failed",
            "Workers that could not load the version in force and judge by another one.",
            labels=["detector"],
        )
        for name in sorted({one.name for one in models}):
            kept = [one for one in models if one.name == name and one.error and one.version != _UNAVAILABLE]
            failed.add_metric([name], float(len(kept)))
        yield failed
        proposed = GaugeMetricFamily(
            "pacs_guard_retraining_last_timestamp_seconds",
            "When a detector was last retrained, by what came of it.",
            labels=["detector", "outcome"],
        )
        for one in self._proposals():
            proposed.add_metric([one.name, one.outcome], one.at)
        yield proposed
