"""Operating points and conformal calibration from out-of-fold scores of clean patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

MARGINS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""In standard deviations of the clean patients; the first that raises no alarm on a patient left out is taken."""


def operating_point(clean: Sequence[float], margin: float, *, floor: float = 0.0) -> float:
    """Return a threshold above every clean patient: the highest plus `margin` standard deviations of all of them.

    Parameters
    ----------
    clean : sequence of float
        One out-of-fold maximum for each clean patient.
    margin : float
        In standard deviations.
    floor : float
        Never lower than this; at 0 an alteration is as likely as not on the training data.
    """
    scores = np.asarray(clean, float)
    spread = float(scores.std(ddof=1)) if scores.size > 1 else 1.0
    return round(max(float(scores.max()) + margin * spread, floor), 4)


def safe_margin(clean: Sequence[float]) -> float:
    """Return the smallest of `MARGINS` at which no clean patient left out is over the point of the others."""
    return next((margin for margin in MARGINS if not left_out_alarms(clean, margin)), MARGINS[-1])


def left_out_alarms(clean: Sequence[float], margin: float) -> int:
    """Return how many clean patients would be over the point that the others give."""
    scores = list(clean)
    return sum(score >= operating_point(scores[:i] + scores[i + 1 :], margin) for i, score in enumerate(scores))


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
        margins = {head: safe_margin(scores) for head, scores in heads.items()}
        points[of] = {head: operating_point(scores, margins[head]) for head, scores in heads.items()}
        calibration[of] = {
            "n": len(patients),
            "smallest_p_value": round(1 / (len(patients) + 1), 4),
            "margin_deviations": margins,
            "left_out_patients_over_the_point": {
                head: left_out_alarms(scores, margins[head]) for head, scores in heads.items()
            },
            **heads,
            "any": [max(one["fb"], one["fm"]) for one in patients],
        }
    return points, calibration
