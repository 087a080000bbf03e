"""The copies that the paper made of every picture (section 3.1.3)."""

from __future__ import annotations

import itertools

import numpy as np

from pacs_guard.detect.preprocess import ORIGINAL, Transform

SHIFT = 4
STEP_DEGREES = 6


def all_transforms() -> list[Transform]:
    """Return the original and every copy of the paper, 71 in all.

    Flips over x, y and both; shifts by 4 pixels in each combination of directions; turns of 6 to 354 degrees in steps
    of 6.
    """
    flips = [Transform(flip_x=x, flip_y=y) for x, y in ((True, False), (False, True), (True, True))]
    moves = itertools.product((-SHIFT, 0, SHIFT), repeat=2)
    shifts = [Transform(dx=dx, dy=dy) for dx, dy in moves if dx or dy]
    turns = [Transform(degrees=float(degrees)) for degrees in range(STEP_DEGREES, 360, STEP_DEGREES)]
    return [ORIGINAL, *flips, *shifts, *turns]


def some_transforms(count: int, seed: int) -> list[Transform]:
    """Return the original and `count` copies drawn from all; the same for the same seed."""
    original, *copies = all_transforms()
    drawn = np.random.default_rng(seed).permutation(len(copies))[:count]
    return [original, *(copies[i] for i in sorted(drawn))]
