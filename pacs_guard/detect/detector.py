"""The interface of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.domain.verdict import CleanTable, Finding, SliceScore
    from pacs_guard.domain.volume import AssembledSeries


@dataclass(frozen=True, slots=True)
class DetectorResult:
    """What one detector says of one series.

    Attributes
    ----------
    findings : tuple of Finding
        Empty if nothing reached the operating point.
    slices : tuple of SliceScore
        One for each slice of the volume, in its order; empty if the detector does not score slices.
    score : float or None
        The series score, larger is more suspicious; None if nothing could be scored.
    p_value : float or None
        Its conformal p-value.
    undetermined : str or None
        Why the series could not be judged, if it could not.
    p_value_from : CleanTable or None
        With whom the p-value compares.
    """

    findings: tuple[Finding, ...] = ()
    slices: tuple[SliceScore, ...] = ()
    score: float | None = None
    p_value: float | None = None
    undetermined: str | None = None
    p_value_from: CleanTable | None = None


class Detector(Protocol):
    """Something that looks at a series and says what is suspicious about it.

    Attributes
    ----------
    name : str
        As in the configuration.
    version : str
        Of its bundle, or of its rules.
    """

    name: str
    version: str

    def assess(self, series: AssembledSeries, evidence: Path | None = None) -> DetectorResult:
        """Judge one series.

        Parameters
        ----------
        series : AssembledSeries
            Its volume is None where none could be made; a detector that needs one then answers with `undetermined`.
        evidence : Path, optional
            Folder to write one picture per finding into; no pictures are made without it.

        Raises
        ------
        DetectorError
            If the detector itself failed; never for what the series contains.
        """
        ...
