"""Resident memory of a node's processes over time, and whether it grows."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.integration.node import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP_SECONDS = 60.0
LEAST_SECONDS = 120.0
LONG_SECONDS = 300.0
"""Of lives this long the second half is looked at for itself: caches and heaps are full by then."""
_MIB = 1 << 20
MOST_MIB_PER_HOUR = 60.0


class Memory:
    """Samples by role; each life of a role counts for itself, as a killed one begins anew.

    Parameters
    ----------
    pid : callable
        Returns the process id of a role, None while it does not run.
    supervisor : int
        Process id.
    """

    def __init__(self, pid: Callable[[str], int | None], supervisor: int) -> None:
        self._pid = pid
        self._supervisor = supervisor
        self._samples: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)

    def sample(self) -> None:
        """Look at every process once."""
        found = {role: self._pid(role) for role in ROLES} | {"serve": self._supervisor}
        if found["detect"] is not None:
            found |= {"detect's reader": next(iter(_children(found["detect"])), None)}
        for name, pid in found.items():
            resident = _resident_mib(pid) if pid is not None else None
            if pid is not None and resident is not None:
                self._samples[name, pid].append((time.monotonic(), resident))

    def slope(self, name: str, *, late: bool = False) -> tuple[float, float] | None:
        """Return the growth in MiB per hour within lives of a process and its standard error; None without enough.

        Each life has a level of its own; the first minute of each is left out, and if `late` the first half of long
        lives, and every short one.
        """
        times, values, seconds, lives = [], [], 0.0, 0
        for (role, _), samples in self._samples.items():
            used = np.array(_second_half(samples) if late else _warm(samples))
            if role == name and len(used) > 2:
                times.append(used[:, 0] - used[:, 0].mean())
                values.append(used[:, 1] - used[:, 1].mean())
                seconds += used[-1, 0] - used[0, 0]
                lives += 1
        if seconds < LEAST_SECONDS:
            return None
        x, y = np.concatenate(times), np.concatenate(values)
        spread = float(x @ x)
        slope = float(x @ y) / spread
        error = float(np.sqrt(((y - slope * x) ** 2).sum() / max(1, len(x) - lives - 1) / spread))
        return 3600 * slope, 3600 * error

    def grown(self) -> list[str]:
        """Return the processes that certainly grow, more than a cache that fills would make them.

        Long lives are judged by their second half, if there are any.
        """
        found = []
        for name in self._names():
            slope = self.slope(name, late=True) or self.slope(name)
            if slope is not None and slope[0] - 3 * slope[1] > MOST_MIB_PER_HOUR:
                found.append(f"{name} by {slope[0]:.0f} MiB an hour (standard error {slope[1]:.0f})")
        return found

    def report(self) -> dict[str, dict[str, float | int | None]]:
        """Return lives, largest memory and growth of every process."""
        told = {}
        for name in self._names():
            lives = [samples for (role, _), samples in self._samples.items() if role == name]
            told[name] = {
                "lives": len(lives),
                "longest_life_seconds": round(max(samples[-1][0] - samples[0][0] for samples in lives)),
                "largest_mib": round(max(value for samples in lives for _, value in samples), 1),
                **_told("", self.slope(name)),
                **_told("second_half_", self.slope(name, late=True)),
            }
        return told

    def _names(self) -> list[str]:
        return sorted({name for name, _ in self._samples})


def _warm(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [one for one in samples if one[0] - samples[0][0] >= WARM_UP_SECONDS]


def _second_half(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    first, last = samples[0][0], samples[-1][0]
    return [one for one in samples if one[0] >= (first + last) / 2] if last - first >= LONG_SECONDS else []


def _told(of: str, slope: tuple[float, float] | None) -> dict[str, float | None]:
    growth, error = (None, None) if slope is None else (round(slope[0], 1), round(slope[1], 1))
    return {f"{of}mib_per_hour": growth, f"{of}standard_error": error}


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in listed]


def _resident_mib(pid: int) -> float | None:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / _MIB
    except OSError:
        return None
    return None
