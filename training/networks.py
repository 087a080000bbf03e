"""Train a head's networks with scikit-learn and take them out as plain arrays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.classifier import Classifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

HIDDEN = (48, 24)
LIMIT = 6.0
HARD = 0.12
"""Share of the negatives, those that a first network finds most suspicious, that every network sees."""

EASY = 0.08
"""Share of the other negatives that each network draws for itself; they weigh as much as all of them."""

_PENALTY = 1.0
_EPOCHS = 12
_SCOUT_EPOCHS = 5
_SCOUT_NEGATIVES = 60_000


def fit_classifier(
    features: NDArray[np.float32], answers: NDArray[np.bool_], *, seed: int, networks: int = 5
) -> Classifier:
    """Train several networks from different starts and draws of the negatives, and average them.

    What matters at a low false alarm rate are the few suspicious negatives among hundreds of thousands. A first network
    finds them; the others see all of these and a weighted draw of the rest.

    Parameters
    ----------
    features : ndarray of float32, shape (rows, features)
    answers : ndarray of bool, shape (rows,)
    seed : int
        The same seed and rows give the same networks.
    networks : int
        How many.
    """
    centre = np.median(features, axis=0)
    scale = 1.4826 * np.median(np.abs(features - centre), axis=0) + 1e-3
    scaled = np.clip((features - centre) / scale, -LIMIT, LIMIT).astype(np.float32)
    positive, negative = np.flatnonzero(answers), np.flatnonzero(~answers)

    def trained(always: NDArray[np.intp], sometimes: NDArray[np.intp], count: int, start: int, epochs: int) -> _Layers:
        drawn = np.random.default_rng(start).choice(sometimes, min(count, sometimes.size), replace=False)
        rows = np.concatenate([always, drawn])
        weights = np.ones(rows.size)
        weights[always.size :] = sometimes.size / max(drawn.size, 1)
        return _network(scaled[rows], answers[rows], weights / weights.mean(), start, epochs)

    def classifier(members: tuple[_Layers, ...]) -> Classifier:
        return Classifier(centre.astype(np.float32), scale.astype(np.float32), LIMIT, members)

    scout = classifier((trained(positive, negative, _SCOUT_NEGATIVES, 1000 * seed + 999, _SCOUT_EPOCHS),))
    suspicion = scout.log_odds(features)[negative]
    hard = suspicion >= np.quantile(suspicion, 1 - HARD)
    always, sometimes = np.concatenate([positive, negative[hard]]), negative[~hard]
    count = max(1, int(EASY * sometimes.size))
    return classifier(
        tuple(trained(always, sometimes, count, 1000 * seed + number, _EPOCHS) for number in range(networks))
    )


def _network(
    features: NDArray[np.float32], answers: NDArray[np.bool_], weights: NDArray[np.float64], seed: int, epochs: int
) -> _Layers:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # slow to import
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415  # slow to import

    network = MLPClassifier(
        HIDDEN,
        alpha=_PENALTY,
        batch_size=min(512, len(features)),
        learning_rate_init=2e-3,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are limited on purpose
        network.fit(features, answers, sample_weight=weights)
    layers = zip(network.coefs_, network.intercepts_, strict=True)
    return tuple((weights.astype(np.float32), biases.astype(np.float32)) for weights, biases in layers)
