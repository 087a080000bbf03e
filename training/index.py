"""One table of every slice and site that a data folder holds, whatever data set it came from."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TAMPERED = ("FB", "FM")
CLEAN = "clean"
NODULE = "nodule"
AWAY_SLICES = 40
"""Slices of a tampered scan this far from every altered place are untampered."""


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A slice, or a site on a slice.

    Attributes
    ----------
    source : str
        Data set.
    patient : str
        No patient is ever on both sides of a split. Patients without any altered slice begin with ``clean:``, except
        in the CT-GAN set, where one uuid may be clean in one experiment and altered in the other.
    experiment, series : str
        Of the CT-GAN set, its experiment and uuid; else empty and the SeriesInstanceUID.
    slice : int
        InstanceNumber; 0 where there is none.
    x, y : int or None
        Column and row of the site, from 0; None where the row is about the whole slice.
    kind : str
        FB, FM, TM or TB as in the CT-GAN set; ``nodule`` (a real one, LIDC-IDRI); ``clean`` (an untampered slice).
    sha256 : str
        Of the file, or of its data set where it was read as an instance.
    file : str
        Absolute path.
    readers : int
        How many radiologists marked the nodule; 0 where not known.
    diameter_px, diameter_mm : float
        Largest extent of the nodule on any slice; 0 where not known.
    depth_mm : float
        How far the slice is from the one that the site was labelled on.
    """

    source: str
    patient: str
    experiment: str
    series: str
    slice: int
    x: int | None
    y: int | None
    kind: str
    sha256: str
    file: str
    readers: int = 0
    diameter_px: float = 0.0
    diameter_mm: float = 0.0
    depth_mm: float = 0.0


@dataclass(frozen=True, slots=True)
class Index:
    """The table, and one line for everything that is wrong or missing."""

    rows: tuple[IndexRow, ...]
    problems: tuple[str, ...]

    def digest(self) -> str:
        """Return a hash of what the data are, wherever they lie."""
        lines = sorted(
            repr((one.source, one.patient, one.experiment, one.slice, one.x, one.y, one.kind, one.sha256))
            for one in self.rows
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def joined(parts: Iterable[Index]) -> Index:
    """Return several tables as one."""
    every = list(parts)
    return Index(tuple(row for one in every for row in one.rows), tuple(line for one in every for line in one.problems))


def write_table(index: Index, path: Path) -> None:
    """Write the table as CSV; the column of `kind` is called class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class" if one.name == "kind" else one.name for one in fields(IndexRow)])
        writer.writerows(["" if value is None else value for value in astuple(row)] for row in index.rows)


def summary_lines(index: Index) -> list[str]:
    """Return how many rows, slices and patients there are of each source and class, and how many problems."""
    counts: dict[tuple[str, str], list[IndexRow]] = defaultdict(list)
    for row in index.rows:
        counts[row.source, row.kind].append(row)
    lines = [
        f"{source}: {kind}: {len(rows)} rows, {len({row.file for row in rows})} slices, "
        f"{len({row.patient for row in rows})} patients"
        for (source, kind), rows in sorted(counts.items())
    ]
    total = Counter(row.kind for row in index.rows)
    lines.append("all: " + (", ".join(f"{kind} {count}" for kind, count in sorted(total.items())) or "nothing"))
    lines.append(f"{len(index.problems)} missing or unusable; data hash {index.digest()[:16]}")
    return lines
