"""How often clean patients score as high: conformal p-values from a compact table of clean scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

TABLES = ("fb", "fm", "any")


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
