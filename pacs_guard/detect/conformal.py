"""How often clean patients score as high: conformal p-values from a compact table of clean scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.domain.verdict import CleanTable
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

TABLES = ("fb", "fm", "any")
ALL = "all"
"""Name of the table of all clean patients."""

LEAST_IN_STRATUM = 20
"""Clean patients from which on a stratum has a table of its own; with fewer its p-values would be too coarse."""


@dataclass(frozen=True, slots=True)
class CleanScores:
    """Scores of clean patients, each of whom counts once however many slices there are.

    Attributes
    ----------
    levels : ndarray of float, shape (levels,)
        Shares, rising, the last one 1.
    tables : dict of str to ndarray of float, shape (patients, levels)
        For each of `TABLES` and patient the scores that these shares of the patient's slices do not exceed.
    """

    levels: NDArray[np.float64]
    tables: dict[str, NDArray[np.float64]]

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> CleanScores:
        """Read a part of a bundle's ``calibration``.

        Raises
        ------
        BundleError
            If it is no such table.
        """
        try:
            levels = np.array(section["levels"], np.float64)
            tables = {name: np.array(section[name], np.float64).reshape(-1, levels.size) for name in TABLES}
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the calibration has no table of clean scores: {error}") from error
        counts = {len(table) for table in tables.values()}
        rising = levels.size and levels[-1] == 1 and (np.diff(levels) > 0).all()
        if not rising or len(counts) != 1 or counts == {0}:
            raise BundleError("the calibration's levels must rise to 1, and every table needs the same patients")
        return cls(levels, tables)

    @property
    def patients(self) -> int:
        """How many clean patients there are."""
        return len(self.tables[TABLES[0]])

    def shares(self, table: str, score: float) -> NDArray[np.float64]:
        """Return for each patient the share of slices that score as high; between two levels the larger one."""
        below = (self.tables[table] < score).sum(axis=1)
        shares: NDArray[np.float64] = 1.0 - np.concatenate(([0.0], self.levels))[below]
        return shares

    def p_value(self, table: str, score: float) -> float:
        """Return (1 + sum of the patients' shares) / (patients + 1), the judged patient counted in."""
        return float((1.0 + self.shares(table, score).sum()) / (self.patients + 1))


@dataclass(frozen=True, slots=True)
class CleanTables:
    """Clean scores of all patients, and of the strata that have enough.

    Attributes
    ----------
    pooled : CleanScores
    strata : dict of str to CleanScores
        By name, see `pacs_guard.detect.strata`.
    """

    pooled: CleanScores
    strata: dict[str, CleanScores]

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> CleanTables:
        """Read a part of a bundle's ``calibration``; bundles made before there were strata have none.

        Raises
        ------
        BundleError
            If it is no such table, or one of the strata is none.
        """
        strata = section.get("strata", {}) if isinstance(section, dict) else {}
        if not isinstance(strata, dict):
            raise BundleError("the calibration's strata are no tables by name")
        tables = {str(name): CleanScores.from_section(part) for name, part in strata.items()}
        large = {name: table for name, table in tables.items() if table.patients >= LEAST_IN_STRATUM}
        return cls(CleanScores.from_section(section), large)

    def table_for(self, stratum: str | None) -> tuple[CleanTable, CleanScores]:
        """Return the table of a stratum if it has enough patients, or else that of all."""
        name = stratum if stratum in self.strata else ALL
        scores = self.strata.get(name, self.pooled)
        return CleanTable(name, scores.patients), scores
