import numpy as np
import pytest
from sklearn import metrics

from training import measures


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 2, 60)
    positive = np.round(0.05 + rng.random(60) * 0.5 + 0.4 * answers, 2)  # with ties
    return answers, np.stack([1 - positive, positive], axis=1)


def test_the_roc_is_scikit_learn_s(scored):
    answers, scores = scored
    false, true, _ = metrics.roc_curve(answers, scores[:, 1], drop_intermediate=False)
    np.testing.assert_allclose(measures.roc_curve(answers, scores, 1), np.stack([false, true], axis=1))


def test_auc_accuracy_and_loss_are_scikit_learn_s(scored):
    answers, scores = scored
    assert measures.area(answers, scores) == pytest.approx(metrics.roc_auc_score(answers, scores[:, 1]))
    assert measures.accuracy(answers, scores) == pytest.approx(metrics.accuracy_score(answers, scores[:, 1] > 0.5))
    assert measures.log_loss(answers, scores) == pytest.approx(metrics.log_loss(answers, scores))


def test_three_classes_are_each_against_the_rest():
    rng = np.random.default_rng(1)
    answers, scores = rng.integers(0, 3, 90), rng.dirichlet([1, 1, 1], 90)
    expected = metrics.roc_auc_score(answers, scores, multi_class="ovr", average="macro")
    assert measures.area(answers, scores) == pytest.approx(expected)


def test_precision_and_recall_by_hand():
    answers = np.array([0, 0, 0, 1, 1])
    scores = np.eye(2)[[0, 0, 1, 1, 0]]
    found = measures.by_class(answers, scores, ("untampered", "tampered"))
    assert found["untampered"] == {"precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3)}
    assert found["tampered"] == {"precision": 0.5, "recall": 0.5}


def test_a_class_that_nothing_was_called_has_no_precision():
    found = measures.by_class(np.array([0, 1]), np.eye(2)[[0, 0]], ("untampered", "tampered"))
    assert found["tampered"] == {"precision": None, "recall": 0.0}


def test_intervals_hold_the_figure_and_draw_whole_patients(scored):
    answers, scores = scored
    patients = [f"p{i // 4}" for i in range(60)]
    found = measures.measured(answers, scores, patients, ("untampered", "tampered"), rounds=200, seed=0)
    low, high = found["auc_interval"]
    assert low < found["auc"] < high
    one = measures.measured(answers, scores, ["same"] * 60, ("untampered", "tampered"), rounds=20, seed=0)
    assert one["auc_interval"] == pytest.approx((found["auc"], found["auc"]))
