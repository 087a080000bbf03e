"""Splits by patient, and figures with their confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


def folds_by_group(groups: Sequence[str], count: int, seed: int) -> dict[str, int]:
    """Assign every group to one of `count` folds; clean groups (``clean:``) are dealt out on their own.

    Examples
    --------
    >>> sorted(folds_by_group(["a", "b", "a", "clean:c"], 2, seed=0))
    ['a', 'b', 'clean:c']
    """
    rng = np.random.default_rng(seed)
    folds: dict[str, int] = {}
    for clean in (False, True):
        members = sorted({group for group in groups if group.startswith("clean:") is clean})
        for position, member in enumerate(rng.permutation(len(members))):
            folds[members[member]] = position % count
    return folds


def auc(positive: Sequence[float] | NDArray[np.float64], negative: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the probability that a positive scores higher than a negative; ties count half."""
    high, low = np.asarray(positive, float), np.asarray(negative, float)
    if not high.size or not low.size:
        return float("nan")
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    upto = np.searchsorted(ordered, high, side="right")
    return float((below + upto).sum() / 2 / high.size / low.size)


def group_bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], groups: Sequence[str], *, seed: int, rounds: int = 1000
) -> tuple[float, float]:
    """Return the 95 % interval of `statistic` over samples that draw whole patients with replacement.

    Parameters
    ----------
    statistic : callable
        From row numbers (repeated as drawn) to a figure; rounds where it is not a number are left out.
    groups : sequence of str
        The patient of every row.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    rows = [np.array(one, np.intp) for one in members.values()]
    tampered = [i for i, group in enumerate(members) if not group.startswith("clean:")]
    clean = [i for i, group in enumerate(members) if group.startswith("clean:")]
    figures = []
    for _ in range(rounds):
        drawn = [int(i) for pool in (tampered, clean) if pool for i in rng.choice(pool, len(pool))]
        figures.append(statistic(np.concatenate([rows[i] for i in drawn])))
    kept = np.array(figures)[np.isfinite(figures)]
    if not kept.size:
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [0.025, 0.975])
    return float(low), float(high)
