import numpy as np
import pytest

from pacs_guard.errors import ConfigurationError
from training.settings import ProtocolName
from training.splits import FOLDS, Table, balanced, split


@pytest.fixture
def table():
    """40 patients with 3 samples each, every other patient tampered, four copies of every sample."""
    answers = [patient % 2 for patient in range(40) for _ in range(3)]
    patients = [f"p{patient}" for patient in range(40) for _ in range(3)]
    return Table.of(answers, patients, 4)


def patients_of(table, rows):
    return {table.patients[i] for i in table.sample[rows]}


def test_grouped_no_patient_is_on_both_sides(table):
    made = split(table, ProtocolName.GROUPED, seed=0)
    assert not patients_of(table, made.train) & patients_of(table, made.test)
    assert len(patients_of(table, made.test)) == 6
    assert len(made.folds) == FOLDS
    for fit, check in made.folds:
        assert not patients_of(table, fit) & patients_of(table, check)
        assert not patients_of(table, check) & patients_of(table, made.test)


def test_grouped_only_originals_are_tested_and_validated(table):
    made = split(table, ProtocolName.GROUPED, seed=0)
    assert not table.copy[made.test].any()
    assert all(not table.copy[check].any() for _, check in made.folds)
    assert table.copy[made.train].any()


def test_grouped_every_training_patient_is_validated_once(table):
    made = split(table, ProtocolName.GROUPED, seed=0)
    checked = np.concatenate([check for _, check in made.folds])
    assert len(checked) == len(set(checked)) == 34 * 3


def test_paper_copies_of_one_picture_are_on_both_sides(table):
    made = split(table, ProtocolName.PAPER, seed=0)
    assert set(table.sample[made.train]) & set(table.sample[made.test])
    assert not set(made.train) & set(made.test)
    assert len(made.test) == round(0.15 * 480)


@pytest.mark.parametrize("protocol", list(ProtocolName))
def test_the_same_seed_splits_alike_and_another_does_not(table, protocol):
    one, same, other = (split(table, protocol, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.test, same.test)
    assert not np.array_equal(one.test, other.test)


def test_classes_are_balanced_and_copies_go_first():
    table = Table.of([0] * 10 + [1] * 5, [str(i) for i in range(15)], 3)
    rows = balanced(table, np.arange(45), seed=0)
    assert np.bincount(table.row_answers[rows]).tolist() == [15, 15]
    originals = rows[(table.copy[rows] == 0) & (table.row_answers[rows] == 0)]
    assert len(originals) == 10


def test_too_few_patients_are_said():
    with pytest.raises(ConfigurationError, match="class 1 has 1 patients"):
        split(Table.of([0, 0, 1], ["a", "b", "c"], 1), ProtocolName.GROUPED, seed=0)
