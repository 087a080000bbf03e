"""A detector that cannot be loaded, so that studies get their verdict by policy instead of waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs_guard.errors import DetectorError

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.detect.detector import DetectorResult
    from pacs_guard.domain.volume import AssembledSeries


class UnavailableDetector:
    """Fails on every series, saying why.

    Parameters
    ----------
    name : str
        As in the configuration.
    why : str
        What kept the real one from being loaded.
    """

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.version = "unavailable"
        self._why = why

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:  # noqa: ARG002  # the interface
        """Raise.

        Raises
        ------
        DetectorError
            Always.
        """
        raise DetectorError(self._why)
