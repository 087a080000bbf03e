"""``pacs-guard assess``: the detectors on files at hand."""

from __future__ import annotations

import json as json_module
import warnings
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pacs_guard.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pacs_guard.detect.detector import Detector
    from pacs_guard.domain.instance import StoredInstance

DEFAULT_DETECTORS = ("integrity", "forensic")


def assess_paths(paths: list[Path], *, detectors: Sequence[str] | None, pictures: Path | None, json: bool) -> int:
    """Assess every series under `paths` and print what was found.

    Returns
    -------
    int
        Exit code: 0 if something was assessed, 1 if no DICOM instance was found.
    """
    from pacs_guard.assemble.files import find_instances
    from pacs_guard.detect.registry import load_detector

    instances, problems = find_instances(paths)
    for problem in problems:
        typer.echo(f"pacs-guard: {problem}", err=True)
    if not instances:
        typer.echo(f"pacs-guard: no DICOM instance under {', '.join(map(str, paths))}", err=True)
        return 1
    loaded = [load_detector(name) for name in detectors or DEFAULT_DETECTORS]
    reports = list(_assess(instances, loaded, pictures))
    if json:
        typer.echo(json_module.dumps({"series": reports}, indent=2))
    else:
        _print(reports)
    return 0


def _assess(
    instances: list[StoredInstance], detectors: Sequence[Detector], pictures: Path | None
) -> Iterator[dict[str, Any]]:
    from pathlib import Path

    from pacs_guard.assemble.series import assemble_study
    from pacs_guard.detect.assess import NoMetrics, assess_series
    from pacs_guard.detect.report import series_report

    with Progress(console=Console(stderr=True), transient=True) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # malformed headers are findings here, not warnings
        task = progress.add_task("assessing", total=len(instances))
        for number, series in enumerate(
            assemble_study(instances, Path("/"), split_gaps=True, from_network=False), start=1
        ):
            folder = pictures / f"series-{number}" if pictures is not None else None
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            result, _ = assess_series(series, detectors, NoMetrics(), folder)
            yield series_report(series.study_uid, result, series.files)
            progress.advance(task, len(series.instances))


def _print(reports: list[dict[str, Any]]) -> None:
    console = output.console()
    table = Table("series", "slices", "verdict", "score", "p", "reason")
    for report in reports:
        table.add_row(
            report["series_uid"][-24:],
            str(len(report["slices"])),
            report["verdict"],
            _short(report["score"]),
            _short(report["p_value"]),
            report["reason"],
        )
    console.print(table)
    for report in reports:
        for finding in report["findings"]:
            place = f" at x={finding['x']:.0f} y={finding['y']:.0f}" if finding["x"] is not None else ""
            console.print(
                f"{finding['kind']} ({finding['severity']}){place} {finding['file'] or ''}: {finding['sentence']}",
                highlight=False,
                markup=False,
            )


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
