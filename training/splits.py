"""Which rows are trained on and which are tested, under each protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.errors import ConfigurationError
from training.settings import ProtocolName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Rows = NDArray[np.intp]

TEST_SHARE = 0.15
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Table:
    """Rows made of samples: each is one copy of one sample.

    Attributes
    ----------
    sample, copy : ndarray of int, shape (rows,)
        Which sample, and which copy of it; copy 0 is the original.
    answers : ndarray of int, shape (samples,)
        Class of each sample.
    patients : sequence of str
        Patient of each sample.
    """

    sample: Rows
    copy: Rows
    answers: Rows
    patients: Sequence[str]

    @classmethod
    def of(cls, answers: Sequence[int], patients: Sequence[str], copies: int) -> Table:
        """Return the table of all `copies` (the original counts) of every sample, sample by sample."""
        samples, each = len(answers), np.arange(copies)
        return cls(np.repeat(np.arange(samples), copies), np.tile(each, samples), np.array(answers, np.intp), patients)

    @property
    def row_answers(self) -> Rows:
        """Class of each row."""
        return self.answers[self.sample]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on, rows to test, and the folds of the training rows for the grid search."""

    train: Rows
    test: Rows
    folds: tuple[tuple[Rows, Rows], ...]


def split(table: Table, protocol: ProtocolName, seed: int) -> Split:
    """Split 85:15, and the training part into five folds.

    Under `paper`, rows are split at random by class, so copies of one picture are on both sides. Under `grouped`,
    whole patients are, and only originals are tested or validated. Classes are balanced where rows are trained on.

    Raises
    ------
    ConfigurationError
        If there are too few patients or rows of a class.
    """
    try:
        return _paper(table, seed) if protocol is ProtocolName.PAPER else _grouped(table, seed)
    except ValueError as error:
        raise ConfigurationError([f"{len(table.answers)} samples cannot be split: {error}"]) from error


def balanced(table: Table, rows: Rows, seed: int) -> Rows:
    """Return as many rows of each class as the rarest has; copies are left out before originals."""
    rng = np.random.default_rng(seed)
    answers = table.row_answers[rows]
    least = int(np.bincount(answers)[np.unique(answers)].min())
    kept = []
    for answer in np.unique(answers):
        own = rng.permutation(rows[answers == answer])
        kept.append(own[np.argsort(table.copy[own] > 0, kind="stable")][:least])
    return np.sort(np.concatenate(kept))


def _paper(table: Table, seed: int) -> Split:
    from sklearn.model_selection import StratifiedKFold, train_test_split  # noqa: PLC0415  # slow to import

    rows = balanced(table, np.arange(len(table.sample)), seed)
    train, test = train_test_split(
        rows, test_size=TEST_SHARE, stratify=table.row_answers[rows], random_state=seed, shuffle=True
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(train, table.row_answers[train])
    return Split(train, test, tuple((train[fit], train[check]) for fit, check in folds))


def _grouped(table: Table, seed: int) -> Split:
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415  # slow to import

    patients = np.array(table.patients)
    tested = np.isin(patients, sorted(_test_patients(table, seed)))
    inside = np.flatnonzero(~tested)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
        inside, table.answers[inside], patients[inside]
    )
    original = table.copy == 0

    def of(samples: Rows) -> NDArray[np.bool_]:
        return np.isin(table.sample, samples)

    def training(samples: Rows) -> Rows:
        return balanced(table, np.flatnonzero(of(samples)), seed)

    return Split(
        training(inside),
        np.flatnonzero(of(np.flatnonzero(tested)) & original),
        tuple((training(inside[fit]), np.flatnonzero(of(inside[check]) & original)) for fit, check in folds),
    )


def _test_patients(table: Table, seed: int) -> set[str]:
    """Draw 15 % of the patients, at least one, of each stratum: patients by their highest class."""
    rng = np.random.default_rng(seed)
    highest: dict[str, int] = {}
    for patient, answer in zip(table.patients, table.answers, strict=True):
        highest[patient] = max(highest.get(patient, 0), int(answer))
    chosen: set[str] = set()
    for answer in sorted(set(highest.values())):
        own = sorted(patient for patient, value in highest.items() if value == answer)
        if len(own) < 2:
            raise ConfigurationError([f"class {answer} has {len(own)} patients; expected 2 or more to split them"])
        count = max(1, round(TEST_SHARE * len(own)))
        chosen.update(own[i] for i in rng.permutation(len(own))[:count])
    return chosen
