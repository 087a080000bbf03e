"""The JSON in which assessments are printed and kept; its keys are a promise."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pacs_guard.domain.verdict import CleanTable, Finding, SeriesResult, SliceScore

_DIGITS = 6


def series_report(study_uid: str, result: SeriesResult, files: Mapping[str, str]) -> dict[str, Any]:
    """Return one series of ``assess --json``.

    Parameters
    ----------
    study_uid : str
    result : SeriesResult
    files : mapping of str to str
        File of each SOPInstanceUID.
    """
    return {
        "study_uid": study_uid,
        "series_uid": result.series_uid,
        "verdict": str(result.verdict),
        "reason": result.reason,
        "score": _number(result.score),
        "p_value": _number(result.p_value),
        "p_value_from": _table(result.p_value_from),
        "single_slice": len(result.slices) == 1,
        "slices": [_slice(one, files) for one in result.slices],
        "findings": [finding_report(finding, files) for finding in result.findings],
    }


def finding_report(finding: Finding, files: Mapping[str, str]) -> dict[str, Any]:
    """Return one finding of ``assess --json``."""
    return {
        "kind": str(finding.kind),
        "severity": str(finding.severity),
        "detector": finding.detector,
        "score": _number(finding.score),
        "p_value": _number(finding.p_value),
        "sop_uid": finding.sop_uid,
        "file": files.get(finding.sop_uid or ""),
        "x": _number(finding.x),
        "y": _number(finding.y),
        "box": finding.box.as_list() if finding.box else None,
        "position_mm": [_number(value) for value in finding.position_mm] if finding.position_mm else None,
        "sentence": finding.sentence,
        "cues": {name: _number(value) for name, value in finding.cues.items()},
        "picture": finding.picture,
    }


def _table(table: CleanTable | None) -> dict[str, Any] | None:
    return None if table is None else {"table": table.name, "clean_patients": table.patients}


def _slice(one: SliceScore, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "sop_uid": one.sop_uid,
        "file": files.get(one.sop_uid),
        "z_mm": _number(one.z_mm),
        "score_fb": _number(one.score_fb),
        "score_fm": _number(one.score_fm),
        "x": _number(one.x),
        "y": _number(one.y),
    }


def _number(value: float | None) -> float | None:
    # JSON knows neither infinities nor NaN, and NumPy's numbers are not JSON's
    if value is None or value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124  # NaN
        return None
    return round(float(value), _DIGITS)


def write_evidence(folder: Path, report: dict[str, Any]) -> None:
    """Write ``evidence.json`` durably into `folder`."""
    temporary = folder / "evidence.json.part"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / "evidence.json")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
