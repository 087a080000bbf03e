"""Detecting, and training again what detects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pacs_guard.config.section import Name, Seconds, Section


class DetectSettings(Section):
    """Detection.

    Attributes
    ----------
    detectors : tuple of str
        Names of shipped detectors, or folders of bundles.
    lease_seconds : float
        A worker that has not been heard of for so long loses its study.
    max_attempts : int
        How often a study may bring a worker down before the detector counts as failed.
    threads : int
        For numeric libraries; 0 lets them choose.
    drift_days : float
        Length of the window in which scores and noise of a scanner are compared with what is expected.
    nice : int
        How much the detector stands back behind receiving and delivering; see ``nice(2)``.
    scheduling : str
        ``batch`` never takes a processor from who is woken meanwhile, ``idle`` runs only where nobody else wants to,
        and may starve; ``normal`` has `nice` alone. See ``sched(7)``; of no effect where the system knows neither.
    accelerator : str
        What networks run on: ``auto``, a GPU if there is one; ``cpu``; or ``gpu`` and nothing else.
    reader_memory_bytes, reader_seconds
        What the process that parses and decodes may take for one series: address space, and processor time; a series
        that needs more is undetermined.
    """

    # with none of them, everything would count as judged
    detectors: Annotated[tuple[str, ...], Field(min_length=1)] = ("integrity", "forensic")
    lease_seconds: Seconds = 120.0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    drift_days: Annotated[float, Field(ge=1, le=366)] = 30.0
    nice: Annotated[int, Field(ge=0, le=19)] = 15
    scheduling: Literal["normal", "batch", "idle"] = "batch"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    reader_memory_bytes: Annotated[int, Field(ge=2**29)] = 4 * 1024**3
    reader_seconds: Seconds = 300.0


class RetrainingSettings(Section):
    """Training challengers from what people decided.

    Attributes
    ----------
    enabled : bool
        Whether it is done by schedule; ``pacs-guard model retrain`` works in any case.
    detectors : tuple of str
        Names of their bundles.
    every_days : float
        Shortest time between two trainings of one detector.
    least_new_labels : int
        Fewest studies that people decided about since the last training.
    least_held_back : int
        Fewest held-back patients, altered as well as clean, that a proposal is made on.
    presumed_clean : int
        How many studies that passed are taken along, to see how many of them the challenger suspects.
    data : Path or None
        Base: the data folder that the shipped model was trained on.
    networks : int
        Networks of each head of the forensic detector.
    nice : int
        How much the training stands back; see ``nice(2)``.
    max_hours : float
        After so long it is ended.
    """

    enabled: bool = False
    detectors: Annotated[tuple[Name, ...], Field(min_length=1)] = ("forensic",)
    every_days: Annotated[float, Field(gt=0)] = 7.0
    least_new_labels: Annotated[int, Field(ge=1)] = 10
    least_held_back: Annotated[int, Field(ge=1)] = 6
    presumed_clean: Annotated[int, Field(ge=0)] = 50
    data: Path | None = None
    networks: Annotated[int, Field(ge=1, le=20)] = 5
    nice: Annotated[int, Field(ge=0, le=19)] = 19
    max_hours: Annotated[float, Field(gt=0)] = 24.0
