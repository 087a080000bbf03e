"""Generators on disk: plain arrays, which no loading can run anything from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.bundle import pack_arrays
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from training.attack.generator import Fill, Generator
from training.attack.scale import Scale

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.attack.gan import Gan

FILES = {FindingKind.FB: "removal.npz", FindingKind.FM: "injection.npz"}


def save_state(path: Path, gan: Gan, scale: Scale, width: int, steps: int) -> None:
    """Write all that training needs to go on; a run that stops meanwhile leaves the earlier file."""
    arrays = {f"v{number:04d}": value for number, value in enumerate(gan.values())}
    arrays |= {"width": np.array(width), "steps": np.array(steps), "hu": scale.hu, "share": scale.share}
    arrays["range"] = np.array([scale.mean, scale.low, scale.high])
    temporary = path.with_suffix(".part")
    temporary.write_bytes(pack_arrays(arrays))
    temporary.replace(path)


def load_state(path: Path, gan: Gan) -> tuple[int, Scale]:
    """Set a GAN's variables from a file; return how many steps they were trained for, and the scale.

    Raises
    ------
    ConfigurationError
        If the file holds another network's.
    """
    arrays = _arrays(path)
    _assign(path, gan.variables(), arrays)
    return int(arrays["steps"]), _scale(arrays)


def load_generator(folder: Path) -> Generator:
    """Return the trained generators of a folder.

    Raises
    ------
    ConfigurationError
        If one is missing or is none.
    """
    missing = [str(folder / name) for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise ConfigurationError([f"{path} is missing; expected a trained generator" for path in missing])
    scales: dict[FindingKind, Scale] = {}
    fills: dict[FindingKind, Fill] = {}
    name = []
    for kind, file in FILES.items():
        arrays = _arrays(folder / file)
        scales[kind], fills[kind] = _scale(arrays), _Network(folder / file, arrays)
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()[:8]
        name.append(f"{kind} width {int(arrays['width'])}, {int(arrays['steps'])} steps, {digest}")
    return Generator("trained: " + "; ".join(name), scales, fills)


class _Network:
    """A trained network as a filling; built when it is first used."""

    def __init__(self, path: Path, arrays: dict[str, NDArray[Any]]) -> None:
        self._path, self._arrays = path, arrays
        self._model: Any = None

    def __call__(
        self, blanked: NDArray[np.float32], diameter_mm: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return the rendered cube; the network draws nothing and chooses the size itself."""
        del diameter_mm, rng
        if self._model is None:
            from training.attack.gan import build_generator  # noqa: PLC0415  # slow to import

            self._model = build_generator(int(self._arrays["width"]))
            _assign(self._path, self._model.variables, self._arrays)
        made = self._model.predict_on_batch(blanked[np.newaxis, ..., np.newaxis])
        return np.asarray(made, np.float32)[0, ..., 0]


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in ("width", "steps", "hu", "share", "range")} | {
                name: stored[name] for name in stored.files if name.startswith("v")
            }
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError([f"{path}: is no generator ({error})"]) from error


def _assign(path: Path, variables: list[Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Set variables from the first arrays of a file, which are the generator's."""
    for number, variable in enumerate(variables):
        value = arrays.get(f"v{number:04d}")
        if value is None or value.shape != tuple(variable.shape):
            found = "nothing" if value is None else f"shape {value.shape}"
            raise ConfigurationError([f"{path}: {variable.path} is {found}; expected shape {tuple(variable.shape)}"])
        variable.assign(value)


def _scale(arrays: dict[str, NDArray[Any]]) -> Scale:
    mean, low, high = (float(value) for value in arrays["range"])
    return Scale(arrays["hu"], arrays["share"], mean, low, high)
