"""Operating points and conformal calibration from out-of-fold scores of clean patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.conformal import LEAST_IN_STRATUM, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Patients = Sequence[Mapping[str, Any]]

HEADS = ("fb", "fm")

MARGINS = (1.0, 1.5, 2.0, 2.5, 3.0)
"""In deviations of the clean patients' upper half; the first that raises no alarm on a patient left out is taken.

It starts at one: with half of that, chosen by the others, one patient of five left out was over the point."""

SLICE_SHARE = 0.005
"""Share of clean single slices that each head may flag, so that both together flag 1 % at most."""

_LEVELS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.97, 0.98, 0.99, 1.0)
_FLOOR = 0.0
_ROUNDS = 2000


def operating_point(clean: Sequence[float], margin: float, *, floor: float = _FLOOR) -> float:
    """Return a threshold above every clean patient: the highest plus `margin` deviations of the upper half.

    The deviation is the root mean square distance from the median of the patients at or above it: how far below the
    others the lowest ones lie says nothing of how far above them the next one may.

    Parameters
    ----------
    clean : sequence of float
        One out-of-fold maximum for each clean patient.
    margin : float
        In deviations of the upper half.
    floor : float
        Never lower than this; at 0 an alteration is as likely as not on the training data.
    """
    scores = np.asarray(clean, float)
    upper = scores[scores >= np.median(scores)] - np.median(scores)
    spread = float(np.sqrt(np.mean(upper**2))) if scores.size > 1 else 1.0
    return round(max(float(scores.max()) + margin * spread, floor), 4)


def safe_margin(clean: Sequence[float]) -> float:
    """Return the smallest of `MARGINS` at which no clean patient left out is over the point of the others."""
    return next((margin for margin in MARGINS if not left_out_alarms(clean, margin)), MARGINS[-1])


def left_out_alarms(clean: Sequence[float], margin: float | None = None) -> int:
    """Return how many clean patients would be over the point that the others give.

    Without a margin the others choose theirs as well, so that the patient left out has no part in it.
    """
    scores, alarms = list(clean), 0
    for i, score in enumerate(scores):
        others = scores[:i] + scores[i + 1 :]
        alarms += score >= operating_point(others, safe_margin(others) if margin is None else margin)
    return alarms


def slice_point(clean: Sequence[Sequence[float]], share: float = SLICE_SHARE, *, floor: float = _FLOOR) -> float:
    """Return the smallest threshold that at most `share` of clean slices reach, each patient counting once.

    Parameters
    ----------
    clean : sequence of sequence of float
        For each clean patient the out-of-fold scores of the slices.
    share : float
        Of slices, averaged over patients.
    floor : float
        Never lower than this.
    """
    scores = np.concatenate([np.asarray(one, float) for one in clean])
    weights = np.concatenate([np.full(len(one), 1.0 / (len(one) * len(clean))) for one in clean])
    order = np.argsort(-scores, kind="stable")
    allowed = int((np.cumsum(weights[order]) <= share + 1e-12).sum())
    # just above the highest score that must not be flagged
    highest = scores[order[min(allowed, scores.size - 1)]]
    return max(float(np.ceil((highest + 1e-9) * 1e4) / 1e4), floor)


def left_out_shares(patients: Patients) -> list[float]:
    """Return for each patient the share of slices that either head flags at the points of all the others."""
    shares = []
    for i, one in enumerate(patients):
        others = [other for k, other in enumerate(patients) if k != i]
        flagged = np.zeros(len(one["fb"]), bool)
        for head in HEADS:
            flagged |= np.asarray(one[head]) >= slice_point([other[head] for other in others])
        shares.append(float(flagged.mean()))
    return shares


def calibration_sections(
    clean: Mapping[str, Patients], strata: Mapping[str, Mapping[str, Patients]] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bundle's ``operating_point`` and ``calibration`` sections.

    Parameters
    ----------
    clean : mapping
        For ``"series"`` and ``"slice"`` the clean patients, each with ``patient`` and the scores ``fb`` and ``fm``: one
        for the patient's highest series, one for each slice.
    strata : mapping, optional
        For ``"series"`` and ``"slice"`` the same of each stratum by name. Those with `LEAST_IN_STRATUM` patients or
        more get a table of their own, for p-values; the points are from all patients.
    """
    points: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    rules: dict[str, tuple[Callable[[Patients], tuple[dict[str, float], dict[str, Any]]], tuple[float, ...]]] = {
        "series": (_series_rule, (1.0,)),
        "slice": (_slice_rule, _LEVELS),
    }
    for of, patients in clean.items():
        rule, levels = rules[of]
        points[of], stated = rule(patients)
        calibration[of] = _table(patients, levels, stated)
        own = {
            name: members for name, members in (strata or {}).get(of, {}).items() if len(members) >= LEAST_IN_STRATUM
        }
        if own:
            calibration[of]["strata"] = {name: _table(own[name], levels, {}) for name in sorted(own)}
    return points, calibration


def _table(patients: Patients, levels: Sequence[float], stated: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": len(patients),
        "smallest_p_value": round(1 / (len(patients) + 1), 4),
        **stated,
        "patients": [one["patient"] for one in patients],
        "slices": [len(one["fb"]) for one in patients],
        "levels": list(levels),
        **{table: [_quantiles(_scores(one, table), levels) for one in patients] for table in TABLES},
    }


def _series_rule(patients: Patients) -> tuple[dict[str, float], dict[str, Any]]:
    heads = {head: [max(one[head]) for one in patients] for head in HEADS}
    margins = {head: safe_margin(scores) for head, scores in heads.items()}
    point = {head: operating_point(scores, margins[head]) for head, scores in heads.items()}
    return point, {
        "margin_deviations": margins,
        "left_out_patients_over_the_point": {head: left_out_alarms(scores) for head, scores in heads.items()},
    }


def _slice_rule(patients: Patients) -> tuple[dict[str, float], dict[str, Any]]:
    point = {head: slice_point([one[head] for one in patients]) for head in HEADS}
    flagged = [np.mean(np.any([np.asarray(one[head]) >= point[head] for head in HEADS], axis=0)) for one in patients]
    left_out = np.array(left_out_shares(patients))
    rng = np.random.default_rng(0)
    drawn = left_out[rng.integers(left_out.size, size=(_ROUNDS, left_out.size))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return point, {
        "share_aimed_at_each_head": SLICE_SHARE,
        "share_flagged": round(float(np.mean(flagged)), 4),
        "left_out_share_flagged": round(float(left_out.mean()), 4),
        "left_out_share_interval": [round(float(low), 4), round(float(high), 4)],
        "left_out_patients_with_a_flagged_slice": int((left_out > 0).sum()),
    }


def _scores(patient: Mapping[str, Any], table: str) -> list[float]:
    if table != "any":
        return list(patient[table])
    return [max(pair) for pair in zip(patient["fb"], patient["fm"], strict=True)]


def _quantiles(scores: Sequence[float], levels: Sequence[float]) -> list[float]:
    # the next higher score, and rounded up, so that p-values read from the table are never too small
    return [float(np.ceil(one * 1e4) / 1e4) for one in np.quantile(scores, levels, method="inverted_cdf")]
