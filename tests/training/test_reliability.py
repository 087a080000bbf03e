from __future__ import annotations

import numpy as np
import pytest

from pacs_guard.domain.verdict import FindingKind
from training.crossval import HeadScore, Scored, ScoredSlice
from training.reliability import chance_error, error, probability, reliability_figures, slope
from training.sources import Label


def _drawn(claims_too_much: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    true = rng.normal(0, 2, count)
    return claims_too_much * true, rng.random(count) < probability(true)


@pytest.mark.parametrize("times", [1.0, 2.0, 0.5])
def test_the_slope_is_the_inverse_of_how_much_too_much_is_claimed(times: float) -> None:
    assert slope(*_drawn(times)) == pytest.approx(1 / times, rel=0.1)


def test_the_error_is_chance_for_log_odds_and_larger_for_others() -> None:
    scores, answers = _drawn(1.0)
    assert error(scores, answers) < 2 * chance_error(scores, answers, seed=0)
    assert error(*_drawn(4.0)) > 4 * chance_error(scores, answers, seed=0)


def test_with_one_answer_alone_there_is_neither() -> None:
    scores, answers = np.array([1.0, 2.0]), np.array([True, True])
    assert np.isnan(slope(scores, answers))
    assert np.isnan(error(scores, answers))


def test_both_heads_have_figures_by_patient() -> None:
    scores, answers = _drawn(1.0, 200)
    slices = []
    for number, (score, answer) in enumerate(zip(scores, answers, strict=True)):
        kind = FindingKind.FB if number % 2 else FindingKind.FM
        target = Label(kind, 1, 1) if answer else None
        heads = {one: HeadScore(float(score) if one is kind or not answer else -9.0, 1.0, 1.0) for one in FindingKind}
        group = f"{'' if answer else 'clean:'}p{number % 40}"
        labels = (target,) if target else ()
        slices.append(ScoredSlice("ctgan", group, str(number), number % 5, target, labels, (1.0, 1.0), heads))
    figures = reliability_figures(Scored(slices, [], []))
    assert [one.name.split(",")[0] for one in figures] == ["FB slices"] * 2 + ["FM slices"] * 2
    assert all(one.low <= one.value <= one.high for one in figures if "slope" in one.name)
    assert "altered and" in figures[0].n
