"""Calibrate the forensic detector on clean series of the scanners that it is to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacs_guard.detect.bundle import MANIFEST, save_bundle
from pacs_guard.detect.conformal import LEAST_IN_STRATUM
from pacs_guard.detect.forensic import HEADS, heads_of, score_volume
from pacs_guard.detect.scoremap import NOTHING, agreement, highest
from pacs_guard.detect.strata import stratum_of
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
    clean = _nothing()
    strata: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for case in cases:
        volume = case.volume
        scored = score_volume(volume.hu, volume.spacing_mm, heads)
        if not scored.has_lung:
            say(f"{case.name}: no lung, passed over")
            continue
        patient, stratum = case.group.removeprefix("clean:"), stratum_of(volume)
        series = _add(clean, patient, scored, volume.spacing_mm[0])
        if stratum is not None:
            _add(strata.setdefault(stratum, _nothing()), patient, scored, volume.spacing_mm[0])
        found = ", ".join(f"{head} {at:.2f}" for head, at in series.items())
        say(f"{case.name}: {len(volume.hu)} slices ({stratum or 'noise not measured'}), {found}")
    if len(clean["series"]) < LEAST_PATIENTS:
        raise ConfigurationError(
            [f"clean series of {len(clean['series'])} patients; expected those of {LEAST_PATIENTS} or more"]
        )
    by_stratum = {of: {name: list(own[of].values()) for name, own in strata.items()} for of in clean}
    points, calibration = calibration_sections({of: list(own.values()) for of, own in clean.items()}, by_stratum)
    for name, members in sorted(by_stratum["series"].items()):
        own_table = "a table of its own" if len(members) >= LEAST_IN_STRATUM else f"pooled, under {LEAST_IN_STRATUM}"
        say(f"series that are {name}: {len(members)} patients, {own_table}")
    points = {of: _bounded(points[of], bundle.section("operating_point", of), len(clean[of])) for of in points}
    manifest = {key: part for key, part in bundle.manifest.items() if key not in {"format", "files"}}
    manifest |= {"version": version, "operating_point": points, "calibration": calibration}
    files = {file: bundle.read(file) for file in bundle.section("files") if file != MANIFEST}
    files[CARD] = (files[CARD].decode() + _section(bundle, version, points, calibration)).encode()
    return save_bundle(out, manifest, files)


def _nothing() -> dict[str, dict[str, dict[str, Any]]]:
    return {"series": {}, "slice": {}}


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
    tables = [
        f"| {of}, {name} | as all | as all | {table['n']} | {table['smallest_p_value']} |"
        for of, part in calibration.items()
        for name, table in part.get("strata", {}).items()
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
            *tables,
            "",
            f"A stratum (grain of the noise, slice distance) with {LEAST_IN_STRATUM} patients or more has p-values of",
            "its own; the others are compared with all patients.",
            "",
            f"With fewer than {LOWERED_FROM} patients no point is lower than it was before.",
            "",
        ]
    )
