"""Trained slice classifiers in the node: trees and support vectors as plain arrays, and networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pacs_guard.detect.networks import Network
from pacs_guard.detect.preprocess import block_mean
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle

WEIGHTS = "weights.npz"
_LEAST_PROBABILITY = 1e-3


class SliceModel(Protocol):
    """Scores pictures."""

    def scores(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return a score for each class, shape (n, classes), of pictures of shape (n, rows, columns)."""
        ...


@dataclass(frozen=True, slots=True)
class Trees:
    """A decision tree, or a forest whose probabilities are averaged.

    Attributes
    ----------
    step : int
        Pixels are means of blocks of this side.
    roots : ndarray of int, shape (trees,)
        First node of each tree.
    left, right, feature : ndarray of int, shape (nodes,)
        Where to go on; a leaf has -1. Node numbers count through all trees.
    threshold : ndarray of float64, shape (nodes,)
        A pixel at most this goes left.
    share : ndarray of float64, shape (nodes, classes)
        Of each class in a node.
    """

    step: int
    roots: NDArray[np.intp]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    share: NDArray[np.float64]

    def scores(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return log probabilities, shape (n, classes)."""
        pixels = _pixels(pictures, self.step)
        node = np.broadcast_to(self.roots, (len(pixels), len(self.roots))).copy()
        rows = np.arange(len(pixels))[:, None]
        while (inner := self.left[node] >= 0).any():
            goes_left = pixels[rows, np.maximum(self.feature[node], 0)] <= self.threshold[node]
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        probabilities = self.share[node].mean(axis=1)
        return np.asarray(np.log(np.maximum(probabilities, _LEAST_PROBABILITY)), float)


@dataclass(frozen=True, slots=True)
class SupportVectors:
    """A support vector machine with a linear or radial kernel, one against one.

    Attributes
    ----------
    step : int
        Pixels are means of blocks of this side.
    centre, scale : ndarray of float64, shape (pixels,)
        Subtracted from the pixels, and what the rest is divided by.
    vectors : ndarray of float32, shape (vectors, pixels)
        Scaled, class by class.
    counts : ndarray of int, shape (classes,)
        How many vectors each class has.
    dual : ndarray of float64, shape (classes - 1, vectors)
    intercept : ndarray of float64, shape (pairs of classes,)
    gamma : float
        Of the radial kernel; 0 for the linear one.
    """

    step: int
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    vectors: NDArray[np.float64]
    counts: NDArray[np.intp]
    dual: NDArray[np.float64]
    intercept: NDArray[np.float64]
    gamma: float

    def scores(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return decision values, shape (n, classes): half the distance for two, votes and confidence for more."""
        pixels = (_pixels(pictures, self.step) - self.centre) / self.scale
        kernel = pixels @ self.vectors.T
        if self.gamma:
            squares = (pixels**2).sum(axis=1)[:, None] + (self.vectors**2).sum(axis=1) - 2 * kernel
            kernel = np.exp(-self.gamma * np.maximum(squares, 0.0))
        decisions = self._pairs(kernel)
        if len(self.counts) == 2:
            return np.concatenate([decisions, -decisions], axis=1) / 2
        return self._votes(decisions)

    def _pairs(self, kernel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each pair of classes a value that is positive where the first is likelier."""
        ends = np.cumsum(self.counts)
        own = [slice(end - count, end) for end, count in zip(ends, self.counts, strict=True)]
        found: list[NDArray[np.float64]] = []
        for first in range(len(own)):
            for second in range(first + 1, len(own)):
                part = kernel[:, own[first]] @ self.dual[second - 1, own[first]]
                part = part + kernel[:, own[second]] @ self.dual[first, own[second]]
                found.append(part + self.intercept[len(found)])
        return np.stack(found, axis=1)

    def _votes(self, decisions: NDArray[np.float64]) -> NDArray[np.float64]:
        classes, pair = len(self.counts), 0
        votes, confidence = np.zeros((2, len(decisions), classes))
        for first in range(classes):
            for second in range(first + 1, classes):
                value = decisions[:, pair]
                confidence[:, first] += value
                confidence[:, second] -= value
                votes[:, first] += value >= 0
                votes[:, second] += value < 0
                pair += 1
        # confidence only decides between equal votes
        return votes + confidence / (3 * (abs(confidence) + 1))


def read_model(bundle: Bundle) -> SliceModel:
    """Return the model of a bundle.

    Raises
    ------
    BundleError
        If the bundle's model is of no known kind, or its files do not fit it.
    """
    kind = str(bundle.section("preprocessing", "model"))
    if kind == "network":
        return Network(bundle)
    arrays = bundle.arrays(WEIGHTS)
    try:
        if kind == "trees":
            return Trees(step=int(arrays.pop("step")), **arrays)
        if kind == "support vectors":
            return SupportVectors(step=int(arrays.pop("step")), gamma=float(arrays.pop("gamma")), **arrays)
    except (KeyError, TypeError) as error:
        raise BundleError(f"{bundle.path / WEIGHTS} does not hold the arrays of {kind}: {error}") from error
    raise BundleError(
        f"{bundle.path} holds a model of kind {kind!r}; this release reads trees, support vectors, network"
    )


def trees_arrays(fitted: Any, step: int) -> Mapping[str, NDArray[Any]]:
    """Return a scikit-learn tree or forest as the arrays of `Trees`."""
    trees = [one.tree_ for one in getattr(fitted, "estimators_", [fitted])]
    roots = np.cumsum([0, *(one.node_count for one in trees)])[:-1]
    moved = [
        [np.where(child >= 0, child + root, -1) for child in (one.children_left, one.children_right)]
        for one, root in zip(trees, roots, strict=True)
    ]
    shares = [one.value[:, 0] / one.value[:, 0].sum(axis=1, keepdims=True) for one in trees]
    return {
        "step": np.array(step),
        "roots": roots,
        "left": np.concatenate([left for left, _ in moved]),
        "right": np.concatenate([right for _, right in moved]),
        "feature": np.concatenate([one.feature for one in trees]),
        "threshold": np.concatenate([one.threshold for one in trees]),
        "share": np.concatenate(shares),
    }


def support_arrays(fitted: Any, scale: Any, step: int) -> Mapping[str, NDArray[Any]]:
    """Return a scikit-learn SVC and the scaler before it as the arrays of `SupportVectors`."""
    # libsvm's own sign for two classes is the other way round than scikit-learn's public one
    sign = -1.0 if len(fitted.classes_) == 2 else 1.0
    return {
        "step": np.array(step),
        "centre": scale.mean_,
        "scale": scale.scale_,
        "vectors": fitted.support_vectors_,
        "counts": fitted.n_support_,
        "dual": sign * fitted.dual_coef_,
        "intercept": sign * fitted.intercept_,
        "gamma": np.array(0.0 if fitted.kernel == "linear" else fitted._gamma),  # noqa: SLF001  # "scale" as a number
    }


def _pixels(pictures: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    return np.stack([block_mean(one, step).ravel() for one in pictures])
