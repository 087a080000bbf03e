"""Calibrate the forensic detector on clean series of the scanners that it is to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacs_guard.detect.bundle import MANIFEST, save_bundle
from pacs_guard.detect.forensic import HEADS, heads_of, score_volume
from pacs_guard.detect.scoremap import NOTHING, agreement, highest
from pacs_guard.errors import ConfigurationError
from training.calibration import calibration_sections
from training.card import CARD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.detect.forensic import SeriesMaps
    from training.sources import Case

LEAST_PATIENTS = 3
LOWERED_FROM = 20
"""With fewer patients than this a point is only raised: their highest score says too little of the next patient."""


def recalibrate(
    bundle: Bundle, cases: Iterable[Case], out: Path, *, version: str, say: Callable[[str], None] = print
) -> Bundle:
    """Score clean series with a bundle's networks and write a bundle with the same networks and a new calibration.

    Parameters
    ----------
    bundle : Bundle
        Of the forensic detector; its networks must not have been trained on these patients.
    cases : iterable of Case
        Clean series and slices; `group` is the patient. Every slice of a series counts among the single slices too.
    out : Path
        Folder of the new bundle.
    version : str
        Of the new bundle.
    say : callable
        Told of every series.

    Raises
    ------
    ConfigurationError
        If there are fewer than three patients with series.
    """
    heads = heads_of(bundle)
    clean: dict[str, dict[str, dict[str, Any]]] = {"series": {}, "slice": {}}
    for case in cases:
        volume = case.volume
        scored = score_volume(volume.hu, volume.spacing_mm, heads)
        if not scored.has_lung:
            say(f"{case.name}: no lung, passed over")
            continue
        series = _add(clean, case.group.removeprefix("clean:"), scored, volume.spacing_mm[0])
        say(f"{case.name}: {len(volume.hu)} slices, " + ", ".join(f"{head} {at:.2f}" for head, at in series.items()))
    if len(clean["series"]) < LEAST_PATIENTS:
        raise ConfigurationError(
            [f"clean series of {len(clean['series'])} patients; expected those of {LEAST_PATIENTS} or more"]
        )
    points, calibration = calibration_sections({of: list(patients.values()) for of, patients in clean.items()})
    points = {of: _bounded(points[of], bundle.section("operating_point", of), len(clean[of])) for of in points}
    manifest = {key: part for key, part in bundle.manifest.items() if key not in {"format", "files"}}
    manifest |= {"version": version, "operating_point": points, "calibration": calibration}
    files = {file: bundle.read(file) for file in bundle.section("files") if file != MANIFEST}
    files[CARD] = (files[CARD].decode() + _section(bundle, version, points, calibration)).encode()
    return save_bundle(out, manifest, files)


def _add(
    clean: Mapping[str, dict[str, dict[str, Any]]], patient: str, scored: SeriesMaps, spacing_mm: float
) -> dict[str, float]:
    slices = clean["slice"].setdefault(patient, {"patient": patient, "fb": [], "fm": []})
    for index in range(len(scored.maps[HEADS[0]])):
        found = {kind.lower(): highest(maps[index : index + 1]).score for kind, maps in scored.maps.items()}
        if max(found.values()) > NOTHING:
            for head, score in found.items():
                slices[head].append(score)
    whole = {kind.lower(): highest(agreement(maps, spacing_mm)).score for kind, maps in scored.maps.items()}
    if len(scored.maps[HEADS[0]]) > 1:
        series = clean["series"].setdefault(patient, {"patient": patient, "fb": [NOTHING], "fm": [NOTHING]})
        for head, score in whole.items():
            series[head] = [max(series[head][0], score)]
    return whole


def _bounded(point: dict[str, float], shipped: Mapping[str, float], patients: int) -> dict[str, float]:
    if patients >= LOWERED_FROM:
        return point
    return {head: max(at, float(shipped[head])) for head, at in point.items()}


def _section(bundle: Bundle, version: str, points: Mapping[str, Any], calibration: Mapping[str, Any]) -> str:
    rows = [
        f"| {of} | {points[of]['fb']} | {points[of]['fm']} | {part['n']} | {part['smallest_p_value']} |"
        for of, part in calibration.items()
    ]
    return "\n".join(
        [
            "",
            f"## Calibrated again: {version}",
            "",
            f"The networks are those of {bundle.name} {bundle.version}; the figures above were measured with its",
            "points, not with these. Points and p-values are from clean series that were given for calibration:",
            "",
            "| judged | FB from | FM from | clean patients | smallest p-value |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"With fewer than {LOWERED_FROM} patients no point is lower than it was before.",
            "",
        ]
    )
