"""Whether scores are the log-odds that they claim to be: calibration slope and error, out of fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.forensic import HEADS
from pacs_guard.detect.scoremap import NOTHING
from training.protocol import group_bootstrap
from training.report import Figure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from training.crossval import Scored

_BINS = 10
_WEAK = 1e3
_CHANCE_ROUNDS = 100
_ROUNDS = 200


def reliability_figures(scored: Scored, *, seed: int = 0) -> list[Figure]:
    """Return calibration slope and expected calibration error of each head's slice scores.

    The slope is that of a logistic regression of the answer on the score: 1 for log-odds as they should be, less where
    scores claim too much; its inverse is the temperature to divide them by (Guo et al., ICML 2017). Altered and clean
    slices weigh the same in all, as they do in the lines that made the scores.
    """
    figures = []
    for kind in HEADS:
        scores, answers, groups = _answers(scored, kind)
        patients = len(set(groups))
        n = f"{int(answers.sum())} altered and {int((~answers).sum())} other slices of {patients} patients"
        for name, statistic, said in (
            ("calibration slope", slope, "1 if scores are log-odds"),
            ("expected calibration error", error, f"{chance_error(scores, answers, seed):.3f} by chance if they are"),
        ):

            def of_rows(rows: NDArray[np.intp]) -> float:
                return statistic(scores[rows], answers[rows])  # noqa: B023  # called before the next turn

            low, high = group_bootstrap(of_rows, groups, seed=seed, rounds=_ROUNDS)
            protocol = f"grouped by patient, 5 folds, slice scores on lines of the other folds; {said}"
            figures.append(Figure(f"{kind} slices, {name}", statistic(scores, answers), low, high, n, protocol))
    return figures


def slope(scores: NDArray[np.float64], answers: NDArray[np.bool_]) -> float:
    """Return the slope of the logistic regression of answers on scores, both answers weighing the same."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  # slow to import

    if answers.all() or not answers.any():
        return float("nan")
    fitted = LogisticRegression(C=_WEAK, class_weight="balanced").fit(scores[:, None], answers)
    return float(fitted.coef_[0, 0])


def error(scores: NDArray[np.float64], answers: NDArray[np.bool_]) -> float:
    """Return how far claimed probability and share of altered slices lie apart, over bins of as many slices each."""
    if answers.all() or not answers.any():
        return float("nan")
    return _error(probability(scores), answers.astype(float), _balanced(answers))


def chance_error(scores: NDArray[np.float64], answers: NDArray[np.bool_], seed: int) -> float:
    """Return the error of answers drawn with the claimed probabilities: more than 0, as there are few."""
    rng, claimed, weights = np.random.default_rng(seed), probability(scores), _balanced(answers)
    errors = []
    for _ in range(_CHANCE_ROUNDS):
        own = claimed[rng.choice(claimed.size, claimed.size, p=weights)]
        errors.append(_error(own, (rng.random(own.size) < own).astype(float), np.full(own.size, 1 / own.size)))
    return float(np.mean(errors))


def probability(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what log-odds claim."""
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -30, 30))), np.float64)


def _answers(scored: Scored, kind: FindingKind) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    used = [one for one in scored.slices if one.heads[kind].score > NOTHING]
    scores = np.array([one.heads[kind].score for one in used])
    answers = np.array([one.target is not None and one.target.kind is kind for one in used])
    return scores, answers, [one.group for one in used]


def _balanced(answers: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.where(answers, 0.5 / answers.sum(), 0.5 / (~answers).sum()), np.float64)


def _error(claimed: NDArray[np.float64], answers: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(claimed, kind="stable")
    parts = np.array_split(order, _BINS)
    return float(sum(abs((weights[one] * (claimed[one] - answers[one])).sum()) for one in parts))
