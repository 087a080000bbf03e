import numpy as np
import pytest

from training.protocol import auc, folds_by_group, group_bootstrap


def test_no_patient_is_in_two_folds_and_all_folds_have_both_sorts():
    groups = [f"p{i // 3}" for i in range(30)] + [f"clean:{i}" for i in range(5)]
    folds = folds_by_group(groups, 5, seed=1)
    assert set(folds) == set(groups)
    for prefix in ("p", "clean:"):
        assert {fold for group, fold in folds.items() if group.startswith(prefix)} == set(range(5))


def test_splits_repeat_with_their_seed_and_change_with_another():
    groups = [f"p{i}" for i in range(40)]
    assert folds_by_group(groups, 5, seed=1) == folds_by_group(groups[::-1], 5, seed=1)
    assert folds_by_group(groups, 5, seed=1) != folds_by_group(groups, 5, seed=2)


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [([2, 3], [0, 1], 1.0), ([0, 1], [2, 3], 0.0), ([1, 1], [1, 1], 0.5), ([1, 3], [2, 0], 0.75)],
)
def test_auc_is_the_share_of_pairs_in_order(positive, negative, expected):
    assert auc(positive, negative) == expected


def test_auc_of_nothing_is_not_a_number():
    assert np.isnan(auc([], [1.0]))


def test_intervals_come_from_patients_not_from_slices():
    values = np.repeat([0.0, 1.0] * 4, 50)
    few = [f"p{i // 50}" for i in range(400)]
    many = [f"p{i}" for i in range(400)]
    wide = group_bootstrap(lambda rows: float(values[rows].mean()), few, seed=0)
    narrow = group_bootstrap(lambda rows: float(values[rows].mean()), many, seed=0)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert wide[0] < 0.5 < wide[1]
