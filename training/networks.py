"""Train a head's networks with scikit-learn and take them out as plain arrays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.classifier import Classifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

HIDDEN = (48, 24)
LIMIT = 6.0
_PENALTY = 1.0


def fit_classifier(
    features: NDArray[np.float32], answers: NDArray[np.bool_], *, seed: int, networks: int = 3
) -> Classifier:
    """Train several networks from different starts and average them.

    Parameters
    ----------
    features : ndarray of float32, shape (rows, features)
    answers : ndarray of bool, shape (rows,)
    seed : int
        The same seed and rows give the same networks.
    networks : int
        How many.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415  # slow to import
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415  # slow to import

    centre = np.median(features, axis=0)
    scale = 1.4826 * np.median(np.abs(features - centre), axis=0) + 1e-3
    scaled = np.clip((features - centre) / scale, -LIMIT, LIMIT)
    trained = []
    for number in range(networks):
        network = MLPClassifier(
            HIDDEN,
            alpha=_PENALTY,
            batch_size=min(512, len(features)),
            learning_rate_init=2e-3,
            max_iter=12,
            n_iter_no_change=6,
            random_state=1000 * seed + number,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are limited on purpose
            network.fit(scaled, answers)
        layers = zip(network.coefs_, network.intercepts_, strict=True)
        trained.append(tuple((weights.astype(np.float32), biases.astype(np.float32)) for weights, biases in layers))
    return Classifier(centre.astype(np.float32), scale.astype(np.float32), LIMIT, tuple(trained))
