"""Where slices lie in the patient, and whether they make one regular stack. Pure arithmetic.

Stated tolerances:

- direction cosines of two slices may differ by 0.001 each (less than 0.1 degree);
- steps between neighbours along the normal may differ from the usual step by 1 % of it or 0.05 mm, whichever is larger
  (positions are written with one to three decimals);
- neighbours may be shifted sideways, against the usual shift (gantry tilt), by half a pixel;
- two slices less than 0.01 mm apart lie at the same position.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.errors import AssemblyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

COSINE_TOLERANCE = 1e-3
STEP_TOLERANCE = 0.01
STEP_TOLERANCE_MM = 0.05
SAME_POSITION_MM = 0.01
BELIEVED_STEP_COUNT = 3
BELIEVED_STEP_THICKNESSES = 1.5

Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices that lie one behind the other at equal distances.

    Attributes
    ----------
    order : tuple of int
        Indices into what was given, in the order of position along the normal.
    step_mm : float or None
        Distance between neighbours along the normal; None for a single slice.
    """

    order: tuple[int, ...]
    step_mm: float | None


def checked_orientation(cosines: tuple[float, ...]) -> Orientation:
    """Return direction cosines that are unit vectors at a right angle (PS3.3 C.7.6.2.1.1).

    Raises
    ------
    AssemblyError
        If they are not six numbers, not of length one, or not at a right angle.
    """
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths_fit = len(cosines) == 6 and all(abs(np.linalg.norm(v) - 1) < 0.01 for v in (row, column))
    if not lengths_fit or abs(float(row @ column)) > 0.01:
        raise AssemblyError(f"ImageOrientationPatient is {cosines}; expected two unit vectors at a right angle")
    return (*(float(v) for v in row), *(float(v) for v in column))  # type: ignore[return-value]  # length checked above


def same_orientation(one: Orientation, other: Orientation) -> bool:
    """Whether two orientations are equal within the stated tolerance."""
    return bool(np.allclose(one, other, rtol=0, atol=COSINE_TOLERANCE))


def depths(positions_mm: NDArray[np.float64], orientation: Orientation) -> NDArray[np.float64]:
    """Return the positions of slices along their normal.

    Parameters
    ----------
    positions_mm : ndarray of float64, shape (slices, 3)
        ImagePositionPatient, mm.
    orientation : tuple of float
        Direction cosines of a row, then of a column.

    Returns
    -------
    ndarray of float64, shape (slices,)
        mm along row x column.
    """
    result: NDArray[np.float64] = positions_mm @ np.cross(orientation[:3], orientation[3:])
    return result


def stack_all(positions_mm: NDArray[np.float64], orientation: Orientation, *, pixel_mm: float) -> Stack:
    """Order slices along their normal, and refuse them unless they make one regular stack.

    Parameters
    ----------
    positions_mm : ndarray of float64, shape (slices, 3)
        ImagePositionPatient of each slice, mm.
    orientation : tuple of float
        Direction cosines that all slices share.
    pixel_mm : float
        The smaller in-plane pixel spacing, mm.

    Raises
    ------
    AssemblyError
        If slices share a position, a slice is missing or out of step, or one is shifted sideways; the sentence names
        the first such place, counting slices from 1 along the normal.
    """
    depth = depths(positions_mm, orientation)
    order = np.argsort(depth, kind="stable")
    if len(order) == 1:
        return Stack((0,), None)
    depth = depth[order]
    steps = np.diff(depth)
    _refuse_shared_positions(depth, steps)
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > _tolerance(usual))
    if len(wrong):
        first = int(wrong[0])
        kind = "gap" if steps[first] > usual else "step"
        more = f" ({len(wrong)} such places)" if len(wrong) > 1 else ""
        raise AssemblyError(
            f"{kind} of {steps[first]:.2f} mm between slices {first + 1} and {first + 2}, expected {usual:.2f} mm{more}"
        )
    _refuse_sideways_shifts(positions_mm[order], pixel_mm)
    return Stack(tuple(int(i) for i in order), float((depth[-1] - depth[0]) / len(steps)))


def stack_runs(
    positions_mm: NDArray[np.float64], orientation: Orientation, *, pixel_mm: float, thickness_mm: float | None
) -> list[Stack]:
    """Split slices into regular stacks, single slices included, so that each can be judged.

    Slices at a position that is already taken begin another stack. A step is believed where it is the commonest one
    and occurs at least three times, or is at most 1.5 slice thicknesses; elsewhere a stack ends.

    Parameters
    ----------
    positions_mm, orientation, pixel_mm
        As for `stack_all`.
    thickness_mm : float or None
        SliceThickness, mm.

    Returns
    -------
    list of Stack
        Every given slice is in exactly one of them.
    """
    depth = depths(positions_mm, orientation)
    stacks = []
    for layer in _layers(depth):
        usual = _usual_step(np.diff(depth[layer]), thickness_mm)
        run = [layer[0]]
        for previous, index in itertools.pairwise(layer):
            step = depth[index] - depth[previous]
            # |move|^2 = step^2 + sideways^2
            sideways = max(0.0, float(np.sum((positions_mm[index] - positions_mm[previous]) ** 2)) - step**2) ** 0.5
            if usual is None or abs(step - usual) > _tolerance(usual) or sideways > max(pixel_mm / 2, step):
                stacks.append(_run(run, usual))
                run = []
            run.append(index)
        stacks.append(_run(run, usual))
    return stacks


def _run(indices: list[int], usual: float | None) -> Stack:
    return Stack(tuple(indices), usual if len(indices) > 1 else None)


def _layers(depth: NDArray[np.float64]) -> list[list[int]]:
    layers: list[list[int]] = []
    for index in np.argsort(depth, kind="stable"):
        free = [layer for layer in layers if depth[index] - depth[layer[-1]] >= SAME_POSITION_MM]
        if free:
            free[0].append(int(index))
        else:
            layers.append([int(index)])
    return layers


def _usual_step(steps: NDArray[np.float64], thickness_mm: float | None) -> float | None:
    if not len(steps):
        return None
    counts = [int(np.sum(np.abs(steps - step) <= _tolerance(float(step)))) for step in steps]
    # the commonest step, and of equally common ones the smallest
    best = min(range(len(steps)), key=lambda i: (-counts[i], steps[i]))
    usual = float(np.median(steps[np.abs(steps - steps[best]) <= _tolerance(float(steps[best]))]))
    if counts[best] >= BELIEVED_STEP_COUNT:
        return usual
    return usual if thickness_mm is not None and usual <= BELIEVED_STEP_THICKNESSES * thickness_mm else None


def _tolerance(step: float) -> float:
    return max(STEP_TOLERANCE * abs(step), STEP_TOLERANCE_MM)


def _refuse_shared_positions(depth: NDArray[np.float64], steps: NDArray[np.float64]) -> None:
    shared = np.flatnonzero(steps < SAME_POSITION_MM)
    if len(shared):
        raise AssemblyError(
            f"{len(shared)} of {len(depth)} slices lie where another lies, first at {depth[shared[0]]:.2f} mm along "
            "the normal; expected one slice per position"
        )


def _refuse_sideways_shifts(positions_mm: NDArray[np.float64], pixel_mm: float) -> None:
    moves = np.diff(positions_mm, axis=0)
    off = np.linalg.norm(moves - np.median(moves, axis=0), axis=1)
    wrong = np.flatnonzero(off > pixel_mm / 2 + STEP_TOLERANCE_MM)
    if len(wrong):
        first = int(wrong[0])
        raise AssemblyError(
            f"slice {first + 2} is shifted sideways by {off[first]:.2f} mm against slice {first + 1}; expected at most "
            f"half a pixel ({pixel_mm / 2:.2f} mm)"
        )
