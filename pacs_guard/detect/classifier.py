"""Small networks as plain arrays: from a site's features to log-odds, without the library that trained them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    _Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]


_LINEAR_ALGEBRA = ThreadpoolController()


def single_threaded() -> AbstractContextManager[Any]:
    """Return a context in which matrix products run on one thread; the outermost one restores what was before.

    Products this small take many times longer when threads wait for one another.
    """
    limits: AbstractContextManager[Any] = _LINEAR_ALGEBRA.limit(limits=1, user_api="blas")
    return limits


@dataclass(frozen=True, slots=True)
class Classifier:
    """Several small multi-layer networks whose log-odds are averaged.

    Attributes
    ----------
    centre, scale : ndarray of float32, shape (features,)
        Subtracted from the features, and what the rest is divided by.
    limit : float
        Scaled features are clipped to plus or minus this, so that no foreign scanner drives a network where it has
        seen nothing.
    networks : tuple of tuple of (ndarray, ndarray)
        For each network its layers: weights of shape (inputs, outputs) and biases of shape (outputs,). Hidden layers
        are rectified; the last has one output, the log-odds.
    """

    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    limit: float
    networks: tuple[_Layers, ...]

    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean log-odds, shape (sites,), of features of shape (sites, features)."""
        scaled = np.clip((features - self.centre) / self.scale, -self.limit, self.limit)
        total = np.zeros(len(features), np.float32)
        with single_threaded():
            for layers in self.networks:
                signal = scaled
                for weights, biases in layers[:-1]:
                    signal = np.maximum(signal @ weights + biases, 0.0)
                weights, biases = layers[-1]
                total += (signal @ weights + biases)[:, 0]
        return total / np.float32(len(self.networks))

    def arrays(self, prefix: str) -> dict[str, NDArray[np.float32]]:
        """Return everything as named arrays, for an ``.npz`` file."""
        named = {
            f"{prefix}.centre": self.centre,
            f"{prefix}.scale": self.scale,
            f"{prefix}.limit": np.array([self.limit], np.float32),
        }
        for n, layers in enumerate(self.networks):
            for k, (weights, biases) in enumerate(layers):
                named[f"{prefix}.{n}.{k}.weights"] = weights
                named[f"{prefix}.{n}.{k}.biases"] = biases
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]], prefix: str, features: int) -> Classifier:
        """Build it from what `arrays` returned.

        Raises
        ------
        BundleError
            If arrays are missing, do not fit one another, or do not take `features` features.
        """
        try:
            networks: list[_Layers] = []
            while f"{prefix}.{len(networks)}.0.weights" in arrays:
                networks.append(_layers(arrays, f"{prefix}.{len(networks)}"))
            classifier = cls(
                centre=arrays[f"{prefix}.centre"],
                scale=arrays[f"{prefix}.scale"],
                limit=float(arrays[f"{prefix}.limit"][0]),
                networks=tuple(networks),
            )
            fits = bool(networks) and classifier.log_odds(np.zeros((1, features), np.float32)).shape == (1,)
        except (KeyError, ValueError, IndexError) as error:
            raise BundleError(f"the weights of head {prefix!r} cannot be used for {features} features") from error
        if not fits:
            raise BundleError(f"there are no weights for head {prefix!r}")
        return classifier


def _layers(arrays: Mapping[str, NDArray[np.float32]], prefix: str) -> _Layers:
    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    while f"{prefix}.{len(layers)}.weights" in arrays:
        layers.append((arrays[f"{prefix}.{len(layers)}.weights"], arrays[f"{prefix}.{len(layers)}.biases"]))
    return tuple(layers)
