"""Train the two generators."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.errors import ConfigurationError
from pacs_guard.simulate.cube import BLANK
from training.attack.cubes import augmented, training_cubes
from training.attack.gan import build_gan
from training.attack.scale import Scale
from training.attack.weights import FILES, load_state, save_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.domain.verdict import FindingKind
    from training.attack.gan import Gan

SETTINGS = "training.json"
_FITTED_ON = 64
_SAVED_EVERY = 100
_SAID_EVERY = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How generators are trained.

    Attributes
    ----------
    width : int
        Channels of the first layer; the paper's is 100.
    steps : int
        Batches for each generator.
    batch : int
        Cubes in a batch; the paper's is 32.
    cubes : int
        Cut for each generator.
    seed : int
        The same one gives the same batches, also after an interruption.
    """

    width: int = 12
    steps: int = 600
    batch: int = 8
    cubes: int = 400
    seed: int = 0


def fit_generators(data: Path, out: Path, plan: Plan, say: Callable[[str], None] = print) -> None:
    """Train the generators for removal and injection, or go on where an earlier run stopped.

    Parameters
    ----------
    data : Path
        With ``clean/``, one folder for each patient.
    out : Path
        Folder of the weights, made if absent.
    plan : Plan
    say : callable
        Gets a line of progress now and then.

    Raises
    ------
    ConfigurationError
        If there is no series to train on, or `out` holds the weights of another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    _keep_to(plan, out / SETTINGS)
    for number, kind in enumerate(FILES):
        _fit(data, out / FILES[kind], kind, plan, plan.seed + number, say)


def batch_of(
    cubes: NDArray[np.int16], scale: Scale, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw and augment cubes; return them normalised, whole and blanked, shape (size, 32, 32, 32, 1)."""
    drawn = rng.integers(len(cubes), size=size)
    real = np.stack([scale.to_network(augmented(cubes[one], rng)) for one in drawn])[..., np.newaxis]
    blanked = real.copy()
    blanked[:, *BLANK] = 0
    return real, blanked


def _fit(data: Path, path: Path, kind: FindingKind, plan: Plan, seed: int, say: Callable[[str], None]) -> None:
    gan = build_gan(plan.width, seed)
    done, scale = load_state(path, gan) if path.is_file() else (0, None)
    if done >= plan.steps:
        say(f"{kind}: {done} steps done before")
        return
    started = time.monotonic()
    cubes = training_cubes(data, kind, plan.cubes, seed)
    scale = scale or Scale.fitted(cubes[:: max(1, len(cubes) // _FITTED_ON)])
    say(f"{kind}: {len(cubes)} cubes cut, {time.monotonic() - started:.0f} s; going on after step {done}")
    _train(gan, cubes, scale, range(done, plan.steps), plan, seed, path, lambda line: say(f"{kind}: {line}"))


def _train(
    gan: Gan,
    cubes: NDArray[np.int16],
    scale: Scale,
    steps: range,
    plan: Plan,
    seed: int,
    path: Path,
    say: Callable[[str], None],
) -> None:
    started = time.monotonic()
    losses: list[tuple[float, float]] = []
    for step in steps:
        losses.append(gan.train(*batch_of(cubes, scale, plan.batch, np.random.default_rng((seed, step)))))
        done = step + 1
        last = done == plan.steps
        if done % _SAVED_EVERY == 0 or last:
            save_state(path, gan, scale, plan.width, done)
        if done % _SAID_EVERY == 0 or last:
            critic, error = np.mean(losses[-_SAID_EVERY:], axis=0)
            pace = (time.monotonic() - started) / (done - steps.start)
            left = pace * (plan.steps - done) / 60
            say(f"step {done} of {plan.steps}, critic {critic:.3f}, error {error:.4f}, {left:.0f} min left")


def _keep_to(plan: Plan, path: Path) -> None:
    """Refuse to go on with other settings than a run began with; more steps are welcome."""
    settings = asdict(plan)
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in settings if name != "steps" and before.get(name) != settings[name]]
        if other:
            begun = ", ".join(f"{name} {before.get(name)}" for name in other)
            raise ConfigurationError([f"{path.parent} was begun with {begun}; go on with these, or elsewhere"])
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
