import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier

from pacs_guard.detect.classifier import Classifier
from pacs_guard.errors import BundleError
from training.networks import LIMIT, fit_classifier


def two_clouds(rows=400, features=6, seed=0):
    rng = np.random.default_rng(seed)
    answers = np.arange(rows) % 4 == 0
    return rng.normal(0, 1, (rows, features)).astype(np.float32) + 1.5 * answers[:, None], answers


def test_a_trained_classifier_separates_what_can_be_separated_and_repeats():
    features, answers = two_clouds()
    one, two = (fit_classifier(features, answers, seed=3, networks=2) for _ in range(2))
    scores = one.log_odds(features)
    assert scores[answers].mean() > scores[~answers].mean() + 1
    assert np.array_equal(scores, two.log_odds(features))


def test_plain_arrays_answer_as_the_library_that_trained_them():
    features, answers = two_clouds()
    network = MLPClassifier((8, 4), max_iter=400, tol=1e-2, random_state=0).fit(features, answers)
    layers = tuple(zip(network.coefs_, network.intercepts_, strict=True))
    classifier = Classifier(np.zeros(6, np.float32), np.ones(6, np.float32), 1e6, (layers,))
    probability = 1 / (1 + np.exp(-classifier.log_odds(features)))
    assert probability == pytest.approx(network.predict_proba(features)[:, 1], abs=1e-4)


def test_arrays_come_back_as_the_same_classifier():
    features, answers = two_clouds()
    classifier = fit_classifier(features, answers, seed=0, networks=2)
    again = Classifier.from_arrays(classifier.arrays("FB"), "FB", 6)
    assert np.array_equal(again.log_odds(features), classifier.log_odds(features))
    assert again.limit == LIMIT


@pytest.mark.parametrize("change", ["no centre", "other width", "nothing"])
def test_arrays_that_do_not_fit_are_refused(change):
    features, answers = two_clouds()
    arrays = fit_classifier(features, answers, seed=0, networks=1).arrays("FB")
    if change == "no centre":
        del arrays["FB.centre"]
    if change == "nothing":
        arrays = {name: one for name, one in arrays.items() if "weights" not in name}
    with pytest.raises(BundleError, match="head 'FB'"):
        Classifier.from_arrays(arrays, "FB", 9 if change == "other width" else 6)


def test_what_no_scanner_showed_before_is_clipped():
    features, answers = two_clouds()
    classifier = fit_classifier(features, answers, seed=0, networks=1)
    far, farther = (classifier.log_odds(np.full((1, 6), value, np.float32)) for value in (1e3, 1e6))
    assert far == farther
