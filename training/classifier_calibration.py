"""Set the operating point of a slice or site classifier, on a hospital's own clean series too."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.detect.bundle import save_bundle
from pacs_guard.detect.registry import load_detector
from pacs_guard.errors import ConfigurationError
from training.calibration import left_out_alarms, operating_point, safe_margin
from training.classifier_card import CARD, classifier_card
from training.recalibrate import LOWERED_FROM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pacs_guard.detect.bundle import Bundle
    from pacs_guard.domain.volume import AssembledSeries

LEAST_PATIENTS = 2
_ABOVE = 1e-3
_TAGS = ["PatientID", "IssuerOfPatientID", "Manufacturer", "ManufacturerModelName", "ConvolutionKernel"]


def recalibrate_classifier(
    bundle: Bundle, series: Path, out: Path, *, version: str, say: Callable[[str], None] = lambda _: None
) -> tuple[Bundle, list[str]]:
    """Judge clean series with a bundle, and write it again with an operating point above all of them.

    With fewer than twenty patients the point is only raised, as the highest of few says too little of the next one.

    Parameters
    ----------
    bundle : Bundle
        Of a slice or site classifier.
    series : Path
        Folder with clean CT series, none of which the bundle was trained on.
    out : Path
        Folder of the new version.
    version : str
        Of the new version.
    say : callable
        Told what is under way.

    Returns
    -------
    bundle : Bundle
        The new version.
    problems : list of str
        One line for each file or series that could not be used.

    Raises
    ------
    ConfigurationError
        If there are too few patients.
    """
    detector = load_detector(bundle.path)
    problems: list[str] = []
    clean: dict[str, float] = {}
    scanners: Counter[str] = Counter()
    for patient, scanner, one in clean_series(series, problems):
        say(f"series {scanners.total() + 1}")
        result = detector.assess(one)
        if result.score is None:
            problems.append(f"series {one.series_uid}: {result.undetermined}")
            continue
        clean[patient] = max(clean.get(patient, -np.inf), result.score)
        scanners[scanner] += 1
    point, calibration = calibrated(clean, f"{scanners.total()} whole series of own scanners, judged as in the node")
    if len(clean) < LOWERED_FROM:
        point["slice"] = max(point["slice"], float(bundle.section("operating_point", "slice")))
    manifest = bundle.manifest | {
        "version": version,
        "operating_point": point,
        "calibration": calibration | {"own": True, "scanners": dict(sorted(scanners.items()))},
    }
    files = {file: bundle.read(file) for file in bundle.manifest["files"]} | {CARD: classifier_card(manifest).encode()}
    return save_bundle(out, manifest, files), problems


def clean_series(folder: Path, problems: list[str]) -> Iterator[tuple[str, str, AssembledSeries]]:
    """Yield every CT series under a folder with its patient (a hash) and scanner; what is none adds a line."""
    instances, lines = find_instances([folder])
    problems += lines
    studies = defaultdict(list)
    for instance in instances:
        studies[instance.key.study_uid].append(instance)
    for study_uid, own in studies.items():
        header = pydicom.dcmread(own[0].path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        who = f"{header.get('IssuerOfPatientID') or ''}\0{header.get('PatientID') or study_uid}"
        scanner = " ".join(str(header.get(tag) or "?") for tag in _TAGS[2:])
        for series in assemble_study(own, Path("/"), split_gaps=True, from_network=False):
            if series.volume is None:
                problems.append(f"series {series.series_uid}: {series.refusal}")
            else:
                yield hashlib.sha256(who.encode()).hexdigest()[:16], scanner, series


def calibrated(clean: Mapping[str, float], judged: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the sections ``operating_point`` and ``calibration`` of a slice classifier's bundle.

    Parameters
    ----------
    clean : mapping
        Patient to the highest score.
    judged : str
        What of the patients was scored, for the card.

    Raises
    ------
    ConfigurationError
        If there are fewer than two patients.
    """
    if len(clean) < LEAST_PATIENTS:
        raise ConfigurationError([f"an operating point needs {LEAST_PATIENTS} clean patients; found {len(clean)}"])
    scores = sorted(round(one, 4) for one in clean.values())
    margin = safe_margin(scores) if len(scores) > LEAST_PATIENTS else 1.0
    # trees give the same score to many: the point must lie above the highest clean one even then
    point = max(operating_point(scores, margin), round(max(scores) + _ABOVE, 4))
    return {"slice": point, "margin_deviations": margin}, {
        "n": len(scores),
        "judged": judged,
        "smallest_p_value": round(1 / (len(scores) + 1), 4),
        "left_out_over_the_point": left_out_alarms(scores) if len(scores) > LEAST_PATIENTS else None,
        "clean_patients": scores,
    }
