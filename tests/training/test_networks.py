import numpy as np
import pytest

from training.networks import fit_classifier
from training.protocol import auc


@pytest.fixture(scope="module")
def rows():
    """Few positives among many negatives, some of which look nearly like them."""
    rng = np.random.default_rng(0)
    easy, hard, positive = rng.normal(-2, 1, (60000, 4)), rng.normal(1, 0.5, (3000, 4)), rng.normal(2.2, 0.5, (800, 4))
    features = np.concatenate([easy, hard, positive]).astype(np.float32)
    return features, np.arange(len(features)) >= 63000


def test_the_networks_tell_positives_from_the_hardest_negatives(rows):
    features, answers = rows
    scores = fit_classifier(features, answers, seed=0, networks=2).log_odds(features)
    assert auc(scores[answers], scores[60000:63000]) > 0.9
    assert auc(scores[answers], scores[:60000]) > 0.99


def test_negatives_that_were_not_drawn_keep_their_weight(rows):
    features, answers = rows
    scores = fit_classifier(features, answers, seed=0, networks=2).log_odds(features)
    # the mean probability is near the share of positives, as in training on every row
    assert (1 / (1 + np.exp(-scores))).mean() == pytest.approx(answers.mean(), abs=0.01)


def test_the_same_seed_and_rows_give_the_same_networks(rows):
    features, answers = rows
    one, two, other = (fit_classifier(features, answers, seed=seed, networks=1) for seed in (1, 1, 2))
    assert np.array_equal(one.log_odds(features), two.log_odds(features))
    assert not np.array_equal(one.log_odds(features), other.log_odds(features))


def test_few_rows_are_enough():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(30, 3)).astype(np.float32)
    answers = np.arange(30) < 10
    assert np.isfinite(fit_classifier(features, answers, seed=0, networks=1).log_odds(features)).all()
