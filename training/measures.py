"""Accuracy, loss, precision, recall and ROC of a classifier, with patient-bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from training.protocol import auc, group_bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LEAST_PROBABILITY = 1e-7


def accuracy(answers: NDArray[np.intp], scores: NDArray[np.float64]) -> float:
    """Return the share of rows whose highest score is their class."""
    return float((scores.argmax(axis=1) == answers).mean()) if len(answers) else float("nan")


def log_loss(answers: NDArray[np.intp], probabilities: NDArray[np.float64]) -> float:
    """Return the mean cross-entropy, in natural units."""
    own = probabilities[np.arange(len(answers)), answers]
    return float(-np.log(np.maximum(own, _LEAST_PROBABILITY)).mean())


def area(answers: NDArray[np.intp], scores: NDArray[np.float64]) -> float:
    """Return the AUC of the last of two classes, or the mean of each class against the rest for more."""
    numbers = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    return float(np.mean([auc(scores[answers == n, n], scores[answers != n, n]) for n in numbers]))


def by_class(
    answers: NDArray[np.intp], scores: NDArray[np.float64], classes: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Return precision (None where nothing was called so) and recall of every class, the paper's equations 1 and 2."""
    called = scores.argmax(axis=1)
    found: dict[str, dict[str, float | None]] = {}
    for number, name in enumerate(classes):
        right = int(((called == number) & (answers == number)).sum())
        said, there = int((called == number).sum()), int((answers == number).sum())
        found[name] = {"precision": right / said if said else None, "recall": right / there if there else None}
    return found


def roc_curve(answers: NDArray[np.intp], scores: NDArray[np.float64], number: int) -> list[tuple[float, float]]:
    """Return the (false, true) positive rates of class `number` at every threshold, from (0, 0) to (1, 1)."""
    positive, own = answers == number, scores[:, number]
    order = np.argsort(-own, kind="stable")
    last_of_value = np.append(np.flatnonzero(np.diff(own[order])), len(own) - 1)
    hits = np.cumsum(positive[order])[last_of_value]
    false = last_of_value + 1 - hits
    rates = np.stack([false / max(1, (~positive).sum()), hits / max(1, positive.sum())], axis=1)
    return [(0.0, 0.0), *((float(f), float(t)) for f, t in rates)]


def measured(
    answers: NDArray[np.intp],
    scores: NDArray[np.float64],
    patients: Sequence[str],
    classes: Sequence[str],
    *,
    rounds: int,
    seed: int,
) -> dict[str, Any]:
    """Return all figures of the test rows; ``accuracy`` and ``auc`` with their 95 % intervals."""

    def interval(statistic: Any) -> tuple[float, float]:
        return group_bootstrap(lambda rows: statistic(answers[rows], scores[rows]), patients, seed=seed, rounds=rounds)

    last = [1] if len(classes) == 2 else range(len(classes))
    return {
        "accuracy": accuracy(answers, scores),
        "accuracy_interval": interval(accuracy),
        "auc": area(answers, scores),
        "auc_interval": interval(area),
        "classes": by_class(answers, scores, classes),
        "roc": {classes[number]: roc_curve(answers, scores, number) for number in last},
    }
