"""Run the paper's experiments: every classifier under both protocols, one small file for each result."""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.preprocess import ORIGINAL, block_mean
from pacs_guard.errors import ConfigurationError
from training import measures
from training.augmentation import some_transforms
from training.classifiers import NETWORKS, TITLES, Weights, base_features, estimator, scores, unconverged
from training.figures import draw_gradcam, draw_samples
from training.samples import choose_samples, make_pictures
from training.splits import Split, Table, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.index import Index
    from training.samples import Sample
    from training.settings import Experiment, ProtocolName, Size

CELL_FORMAT = 2
_CONNECT_S = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what a run gives.

    Attributes
    ----------
    experiments : tuple of Experiment
    protocols : tuple of ProtocolName
    classifiers : tuple of str
    size : Size
    weights : Weights
    seed : int
    jobs : int
        Folds and grid points tried at once.
    cluster : str or None
        Address of a Dask scheduler that folds and grid points are handed to.
    """

    experiments: tuple[Experiment, ...]
    protocols: tuple[ProtocolName, ...]
    classifiers: tuple[str, ...]
    size: Size
    weights: Weights
    seed: int = 0
    jobs: int = 1
    cluster: str | None = None

    def made_with(self, digest: str) -> dict[str, Any]:
        """Return what must be the same for results to stand in one report: data, size, seed and weights."""
        return {"data_sha256": digest, "size": self.size.name, "seed": self.seed, "weights": self.weights.choice}

    def cells(self) -> list[tuple[Experiment, ProtocolName, str]]:
        """Return what there is to do, in order; the quick classifiers of all experiments come first."""
        networks = [False, True]
        return [
            (experiment, protocol, name)
            for network in networks
            for experiment in self.experiments
            for protocol in self.protocols
            for name in self.classifiers
            if (name in NETWORKS) is network
        ]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of an experiment under a protocol, and how they are split.

    Attributes
    ----------
    samples : list of Sample
    parts : tuple of (ndarray of float16, str)
        The originals, and their copies where there are any: shape (samples, copies, rows, columns), and a hash of what
        went into them. Apart, so that experiments that differ in copies alone share what is made of the originals.
    table : Table
    split : Split
    notes : list of str
        What should be known about the choice.
    """

    samples: list[Sample]
    parts: tuple[tuple[NDArray[np.float16], str], ...]
    table: Table
    split: Split
    notes: list[str] = field(default_factory=list)

    def picture(self, row: int) -> NDArray[np.float32]:
        """Return the picture of one row of the table, shape (rows, columns)."""
        sample, copy = self.table.sample[row], self.table.copy[row]
        of = self.parts[0][0][:, 0] if copy == 0 else self.parts[1][0][:, copy - 1]
        return np.asarray(of[sample], np.float32)


def run(
    plan: Plan, index: Index, out: Path, cache: Path, *, say: Callable[[str], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """Yield the result of every cell; one that was finished before with the same data and settings is read again.

    Parameters
    ----------
    plan : Plan
    index : Index
    out : Path
        Folder of the report; results are kept under ``cells``.
    cache : Path
        Folder for pictures and features.
    say : callable
        Told what is under way.
    """
    folder = out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    digest = index.digest()
    held: dict[tuple[str, str], Pictures] = {}
    for experiment, protocol, name in plan.cells():
        path = folder / f"{experiment.name}-{protocol}-{name}.json"
        key = _cell_key(plan, experiment, protocol, name, digest)
        known = _finished(path, key)
        if known is not None:
            yield known
            continue
        say(f"{experiment.name} {protocol} {TITLES[name]}")
        if (experiment.name, protocol) not in held:
            held = {(experiment.name, protocol): prepare(plan, experiment, protocol, index, cache, say)}
            made = held[experiment.name, protocol]
            draw_samples(
                made.parts[0][0][:, 0],
                [one.kind for one in made.samples],
                out / f"samples-{experiment.name}-{protocol}.png",
            )
        result, fitted = _cell(plan, experiment, protocol, name, held[experiment.name, protocol], cache, say)
        if name in NETWORKS:
            looked = out / f"gradcam-{experiment.name}-{protocol}-{name}.png"
            _draw_tampered(plan, name, fitted, held[experiment.name, protocol], looked)
        result |= {"key": key, "made_with": plan.made_with(digest)}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(_plain(result), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
        yield _plain(result)


def prepare(
    plan: Plan,
    experiment: Experiment,
    protocol: ProtocolName,
    index: Index,
    cache: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Pictures:
    """Choose an experiment's samples, make their pictures and split them."""
    size, seed = plan.size, plan.seed
    samples, notes = choose_samples(index, experiment.form, protocol, size.shapes[experiment.form], seed)
    original, *copies = some_transforms(size.copies, seed) if experiment.augmented else [ORIGINAL]

    def progress(done: int) -> None:
        say(f"{experiment.name} {protocol} pictures {done}/{len(samples)}")

    parts = tuple(make_pictures(samples, part, protocol, cache, progress) for part in ([original], copies) if part)
    answers = [one.answer(experiment.classes) for one in samples]
    table = Table.of(answers, [one.patient for one in samples], 1 + len(copies))
    return Pictures(samples, parts, table, split(table, protocol, seed), notes)


def features_of(
    plan: Plan, name: str, made: Pictures, cache: Path, say: Callable[[str], None] = lambda _: None
) -> NDArray[np.float32]:
    """Return what a classifier is given, shape (rows, features): pixels, or what its frozen base makes of them."""
    parts = [_part_features(plan, name, pictures, key, cache, say) for pictures, key in made.parts]
    whole = np.concatenate(parts, axis=1)
    return np.asarray(whole.reshape(-1, whole.shape[-1]), np.float32)


def _part_features(
    plan: Plan, name: str, pictures: NDArray[np.float16], key: str, cache: Path, say: Callable[[str], None]
) -> NDArray[np.float32]:
    """Return the features of originals or of copies, shape (samples, copies, features)."""
    rows = pictures.reshape(-1, *pictures.shape[2:])

    def progress(done: int) -> None:
        say(f"{TITLES[name]} features {done}/{len(rows)}")

    if name in NETWORKS:
        features = base_features(name, rows, key, plan.weights, cache, progress)
    else:
        features = np.stack([block_mean(np.asarray(one, np.float32), plan.size.step).ravel() for one in rows])
    return features.reshape(*pictures.shape[:2], -1)


def best_parameters(
    plan: Plan, name: str, features: NDArray[np.float32], answers: NDArray[np.intp], made: Split
) -> tuple[dict[str, Any], float]:
    """Search the grid with the training part's five folds; return the best parameters and their mean accuracy."""
    from sklearn.model_selection import GridSearchCV  # noqa: PLC0415  # slow to import

    grid = plan.size.grids["network" if name in NETWORKS else name]
    search = GridSearchCV(
        estimator(name, plan.seed),
        {f"model__{key}": values for key, values in grid.items()},
        cv=list(made.folds),
        refit=False,
        scoring="accuracy",
    )
    with _workers(plan), unconverged():
        search.fit(features, answers)
    return {key.removeprefix("model__"): value for key, value in search.best_params_.items()}, float(search.best_score_)


@contextmanager
def _workers(plan: Plan) -> Iterator[None]:
    """Let scikit-learn's parallel work run on this machine's processes, or on a cluster."""
    import joblib  # noqa: PLC0415  # slow to import

    if plan.cluster is None:
        with joblib.parallel_config(backend="loky", n_jobs=plan.jobs):
            yield
        return
    try:
        import distributed  # noqa: PLC0415  # an extra dependency
    except ImportError as error:
        raise ConfigurationError(["a cluster needs Dask; install pacs-guard[cluster]"]) from error
    try:
        connect: Any = distributed.Client  # its types are incomplete
        client = connect(plan.cluster, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"no Dask scheduler answers at {plan.cluster}: {error}"]) from error
    with client, joblib.parallel_config(backend="dask"):
        yield


def out_of_part(
    plan: Plan,
    name: str,
    features: NDArray[np.float32],
    made: Pictures,
    parameters: dict[str, Any],
    score: Callable[[Any, NDArray[np.float32]], NDArray[np.float64]] = scores,
) -> NDArray[np.float64]:
    """Return the scores of rows from classifiers that were not fitted on them, or, grouped, on their patients.

    The five folds of the training part, and the test part, are scored each by a classifier fitted on the rest.

    Returns
    -------
    ndarray of float64, shape (rows, classes)
        Not a number for rows that are in no part.
    """
    answers = made.table.row_answers
    found = np.full((len(features), len(np.unique(answers))), np.nan)
    for fit, check in (*made.split.folds, (made.split.train, made.split.test)):
        found[check] = score(_fit(plan, name, features, answers, fit, parameters), features[check])
    return found


def permuted_areas(
    plan: Plan, name: str, features: NDArray[np.float32], made: Pictures, parameters: dict[str, Any]
) -> list[float]:
    """Return the test AUC after training on shuffled labels: near 0.5 unless the split leaks.

    A sample's copies keep its wrong label on both sides of the split, so that a leak shows.
    """
    rng = np.random.default_rng(plan.seed)
    found = []
    for _ in range(plan.size.permutations):
        answers = rng.permutation(made.table.answers)[made.table.sample]
        fitted = _fit(plan, name, features, answers, made.split.train, parameters)
        found.append(measures.area(answers[made.split.test], scores(fitted, features[made.split.test])))
    return found


def _cell(
    plan: Plan,
    experiment: Experiment,
    protocol: ProtocolName,
    name: str,
    made: Pictures,
    cache: Path,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Any]:
    begun = time.monotonic()
    features = features_of(plan, name, made, cache, say)
    ready = time.monotonic()
    say(f"{experiment.name} {protocol} {TITLES[name]} grid search")
    answers, train, test = made.table.row_answers, made.split.train, made.split.test
    parameters, validated = best_parameters(plan, name, features, answers, made.split)
    fitted = _fit(plan, name, features, answers, train, parameters)
    seen, unseen = scores(fitted, features[train]), scores(fitted, features[test])
    patients = [made.table.patients[i] for i in made.table.sample[test]]
    figures = measures.measured(
        answers[test], unseen, patients, experiment.classes, rounds=plan.size.rounds, seed=plan.seed
    )
    every = out_of_part(plan, name, features, made, parameters)
    rows = np.flatnonzero(np.isfinite(every).all(axis=1))
    pooled = measures.measured(
        answers[rows],
        every[rows],
        [made.table.patients[i] for i in made.table.sample[rows]],
        experiment.classes,
        rounds=plan.size.rounds,
        seed=plan.seed,
    )
    lossy = name in NETWORKS
    result = {
        "experiment": experiment.name,
        "protocol": str(protocol),
        "mark": protocol.mark,
        "classifier": name,
        "warning": plan.weights.warning if name in NETWORKS else None,
        "notes": made.notes,
        "parameters": parameters,
        "n": _counts(made, experiment),
        "train_accuracy": measures.accuracy(answers[train], seen),
        "validation_accuracy": validated,
        "train_loss": measures.log_loss(answers[train], seen) if lossy else None,
        "test_loss": measures.log_loss(answers[test], unseen) if lossy else None,
        **figures,
        "pooled": {"n": len(rows), **{key: value for key, value in pooled.items() if key != "roc"}},
        "permuted_auc": permuted_areas(plan, name, features, made, parameters),
        "published_accuracy": experiment.published.get(name),
        "seconds": {"features": round(ready - begun, 2), "rest": round(time.monotonic() - ready, 2)},
    }
    return result, fitted


def _draw_tampered(plan: Plan, name: str, fitted: Any, made: Pictures, path: Path) -> None:
    """Draw where a network looks on the first tampered picture that it was tested with."""
    answers = made.table.row_answers
    row = next(int(one) for one in made.split.test if answers[one] > 0)
    draw_gradcam(name, plan.weights, fitted, made.picture(row), int(answers[row]), path)


def _fit(
    plan: Plan,
    name: str,
    features: NDArray[np.float32],
    answers: NDArray[np.intp],
    train: NDArray[np.intp],
    parameters: dict[str, Any],
) -> Any:
    with unconverged():
        return estimator(name, plan.seed, parameters).fit(features[train], answers[train])


def _counts(made: Pictures, experiment: Experiment) -> dict[str, Any]:
    table, parts = made.table, {"train": made.split.train, "test": made.split.test}
    counted: dict[str, Any] = {}
    for part, rows in parts.items():
        samples = np.unique(table.sample[rows])
        counted[part] = {
            "pictures": len(rows),
            "patients": len({table.patients[i] for i in samples}),
            **{one: int((table.row_answers[rows] == n).sum()) for n, one in enumerate(experiment.classes)},
        }
    return counted


def _cell_key(plan: Plan, experiment: Experiment, protocol: ProtocolName, name: str, digest: str) -> str:
    base = plan.weights.key(name) if name in NETWORKS else None
    what = [CELL_FORMAT, asdict(experiment), protocol, name, plan.size.as_dict(), base, plan.seed, digest]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _finished(path: Path, key: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result if result.get("key") == key else None


def _plain(value: Any) -> Any:
    """Return a value with what JSON does not know made plain; not-a-number becomes None."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def classifier_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return names in the paper's order."""
    return tuple(one for one in TITLES if one in names)
