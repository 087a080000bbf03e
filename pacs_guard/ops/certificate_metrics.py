"""Until when certificates hold, as a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from pacs_guard.tls.inventory import CertificateFile


class CertificateCollector(Collector):
    """Reads the certificate files when it is scraped.

    Parameters
    ----------
    files : callable
        Returns those that the settings in force name.
    """

    def __init__(self, files: Callable[[], list[CertificateFile]]) -> None:
        self._files = files

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering reads nothing."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present values."""
        expiry = GaugeMetricFamily(
            "pacs_guard_certificate_expiry_timestamp_seconds",
            "When the first certificate of a file ends, or its revocation list is due; 0 if it cannot be read.",
            labels=["setting", "file"],
        )
        for one in self._files():
            expiry.add_metric([one.setting, str(one.file)], _expiry(one))
        yield expiry


def _expiry(one: CertificateFile) -> float:
    try:
        return one.expires
    except ConfigurationError:
        return 0.0
