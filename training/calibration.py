"""Operating points and conformal calibration from out-of-fold scores of clean patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARGIN_DEVIATIONS = 1.0


def operating_point(clean: Sequence[float], *, floor: float = 0.0) -> float:
    """Return a threshold above every clean patient: the highest plus one standard deviation of all of them.

    Parameters
    ----------
    clean : sequence of float
        One out-of-fold maximum for each clean patient.
    floor : float
        Never lower than this; at 0 an alteration is as likely as not on the training data.
    """
    scores = np.asarray(clean, float)
    spread = float(scores.std(ddof=1)) if scores.size > 1 else 1.0
    return round(max(float(scores.max()) + _MARGIN_DEVIATIONS * spread, floor), 4)


def left_out_alarms(clean: Sequence[float]) -> int:
    """Return how many clean patients would be over the point that the others give."""
    scores = list(clean)
    return sum(score >= operating_point(scores[:i] + scores[i + 1 :]) for i, score in enumerate(scores))


def calibration_sections(maxima: dict[str, list[dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bundle's ``operating_point`` and ``calibration`` sections.

    Parameters
    ----------
    maxima : dict
        For ``"series"`` and ``"slice"``: one entry for each clean patient with ``patient``, ``fb`` and ``fm``.
    """
    points: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    for of, patients in maxima.items():
        heads = {head: [one[head] for one in patients] for head in ("fb", "fm")}
        points[of] = {head: operating_point(scores) for head, scores in heads.items()}
        calibration[of] = {
            "n": len(patients),
            "smallest_p_value": round(1 / (len(patients) + 1), 4),
            "left_out_patients_over_the_point": {head: left_out_alarms(scores) for head, scores in heads.items()},
            **heads,
            "any": [max(one["fb"], one["fm"]) for one in patients],
        }
    return points, calibration
