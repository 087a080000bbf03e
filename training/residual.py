"""A small residual network: noise that was made white, and what of it differs, in lung tissue and in soft tissue.

The network sees a slice's high-pass residual after division by the noise power spectrum of the same slice's own lung:
noise looks alike from every scanner and kernel then, white and of unit strength. Neighbouring slices are further
channels where there are any (2.5-D). Hounsfield units do not enter. Only `keras` and `keras.ops`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers, ops

from pacs_guard.domain.verdict import FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from training.whitening import WhiteSlice

PATCH = 49
"""Edge of what the network sees around a place, pixels."""

STRIDE = 4
OUTPUTS = (FindingKind.FB, FindingKind.FM)
"""FB is judged by lung tissue, FM by soft tissue."""

IGNORED = -1.0

_WIDTHS = (12, 16, 24, 24)
_STRIDES = (1, 2, 1, 2)
_FEATURES = 10
_MIDDLE = 4
_HIDDEN = 24
_LEAST_TISSUE = 0.02
_LEARNING_RATE = 2e-3


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a network is trained.

    Attributes
    ----------
    steps : int
        Batches.
    batch : int
        Places in a batch: half in lung tissue, half in soft tissue.
    positives : float
        Share of altered places among them.
    """

    steps: int = 320
    batch: int = 128
    positives: float = 0.35


@dataclass(frozen=True, slots=True)
class Place:
    """A training example: a place of a slice and the answer of one output."""

    image: WhiteSlice
    row: int
    column: int
    output: int
    altered: bool


def build_network(seed: int) -> Any:
    """Return a fully convolutional network from (residual, tissues) to log-odds.

    Inputs have the shapes (n, rows, columns, 3) and (n, rows, columns, 2), the output (n, places, places, 2): one
    place every 4 pixels, the first in the middle of the first 49 x 49 pixels.
    """
    keras.utils.set_random_seed(seed)
    residual, tissues = keras.Input((None, None, 3)), keras.Input((None, None, 2))
    x = residual
    for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
        x = layers.Conv2D(width, 3, strides=stride, activation="relu")(x)
    # the convolutions' outputs lie in the middle of 13 pixels, every 4; so do the tissues' means
    shares = layers.AveragePooling2D(5, strides=STRIDE)(layers.Cropping2D(4)(tissues))
    answers = []
    for output in range(len(OUTPUTS)):
        share = shares[..., output : output + 1]
        seen = layers.Concatenate()([_pooled(x, share, _FEATURES, 0), _pooled(x, share, _MIDDLE, 3)])
        hidden = layers.Conv2D(_HIDDEN, 1, activation="relu")(seen)
        answers.append(layers.Conv2D(1, 1)(hidden))
    return keras.Model([residual, tissues], layers.Concatenate()(answers))


def fit_network(places: Sequence[Place], *, seed: int, effort: Effort) -> Any:
    """Train a network on places of both outputs, each in one of its eight orientations at every turn."""
    network = build_network(seed)
    rate = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, effort.steps)
    network.compile(optimizer=keras.optimizers.Adam(rate), loss=_loss)
    for residual, tissues, answers in _batches(places, np.random.default_rng(seed), effort):
        network.train_on_batch([residual, tissues], answers)
    return network


def log_odds_map(network: Any, image: WhiteSlice) -> NDArray[np.float32]:
    """Return the log-odds of both outputs all over a slice, shape (places, places, 2), from one pass."""
    residual, tissues = image.padded(PATCH // 2)
    return np.asarray(ops.convert_to_numpy(network([residual[None], tissues[None]], training=False))[0], np.float32)


def log_odds_at(
    answers: NDArray[np.float32], image: WhiteSlice, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return what a map of one output, shape (places, places), says at pixels of the slice."""
    at = [
        np.clip(np.rint((pixels - first) / STRIDE).astype(int), 0, count - 1)
        for pixels, first, count in zip((rows, columns), image.origin, answers.shape, strict=True)
    ]
    return np.asarray(answers[at[0], at[1]], np.float32)


def _pooled(features: Any, share: Any, size: int, cropped: int) -> Any:
    """Average features over the tissue in a window."""
    weighted, weights = features * share, share
    if cropped:
        weighted, weights = layers.Cropping2D(cropped)(weighted), layers.Cropping2D(cropped)(weights)
    total, weight = (layers.AveragePooling2D(size, strides=1)(one) for one in (weighted, weights))
    return total / (weight + _LEAST_TISSUE)


def _loss(answers: Any, log_odds: Any) -> Any:
    """Cross-entropy of the outputs that have an answer."""
    known = ops.cast(answers > IGNORED, "float32")
    target = ops.maximum(answers, 0.0)
    entropy = ops.softplus(log_odds) - target * log_odds
    return ops.sum(known * entropy) / ops.sum(known)


def _batches(
    places: Sequence[Place], rng: np.random.Generator, effort: Effort
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    pools = [
        [[one for one in places if one.output == output and one.altered is altered] for altered in (False, True)]
        for output in range(len(OUTPUTS))
    ]
    each = effort.batch // len(OUTPUTS)
    altered = round(effort.positives * each)
    for _ in range(effort.steps):
        drawn = [
            pool[int(number)]
            for clean, fake in pools
            for pool, count in ((clean, each - altered), (fake, altered))
            if pool
            for number in rng.integers(len(pool), size=count)
        ]
        yield _examples(drawn, rng)


def _examples(
    drawn: Sequence[Place], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    residual = np.zeros((len(drawn), PATCH, PATCH, 3), np.float32)
    tissues = np.zeros((len(drawn), PATCH, PATCH, 2), np.float32)
    answers = np.full((len(drawn), 1, 1, len(OUTPUTS)), IGNORED, np.float32)
    for number, place in enumerate(drawn):
        way = int(rng.integers(8))
        for into, patch in zip((residual, tissues), place.image.patch(place.row, place.column, PATCH), strict=True):
            turned = np.rot90(patch, way % 4)
            into[number] = turned[:, ::-1] if way > 3 else turned
        if rng.random() < 0.5:
            residual[number] = residual[number, ..., ::-1]  # up and down are alike
        answers[number, 0, 0, place.output] = place.altered
    return residual, tissues, answers
