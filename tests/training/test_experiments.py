"""The whole way on small made-up slices: from an index to a report."""

import csv
import json
import math
import re

import numpy as np
import pytest

from pacs_guard.errors import ConfigurationError
from training import experiments, samples
from training.classifiers import Weights
from training.console import RUN, report_command
from training.experiment_report import read_results, write_report
from training.experiments import Plan, run
from training.index import Index, IndexRow
from training.settings import Experiment, Form, ProtocolName, Size

PATIENTS = 24
EXPERIMENT = Experiment("mine", "Mine", Form.LOCALISED, ("untampered", "tampered"), True, "none", {"svm": 0.9})
THREE = Experiment("three", "Three", Form.LOCALISED, ("untampered", "FB", "FM"), False, "none", {})
GRIDS = {"svm": {"C": [1.0, 10.0]}, "tree": {"max_depth": [2, 3]}, "network": {"alpha": [0.1]}}
SIZE = Size("tiny", 2, dict.fromkeys(Form, (16, 16)), 1, 3, 50, GRIDS)


@pytest.fixture
def index(monkeypatch):
    """Altered places are bright (FM) or dark (FB); every patient has two, and there are as many clean patients."""
    rows = [
        IndexRow("ctgan", f"{p}", "E", f"{p}", 10 + n, 40, 40, "FM" if n else "FB", f"{p}{n}", f"{p}-{n}.dcm")
        for p in range(PATIENTS)
        for n in range(2)
    ]
    rows += [
        IndexRow("clean", f"clean:{p}", "", f"{p}", n, 40, 40, "nodule", f"c{p}{n}", f"{p}-{n}-clean.dcm")
        for p in range(PATIENTS)
        for n in range(2)
    ]

    class OneSlice:
        def __init__(self, file):
            rng = np.random.default_rng(sum(map(ord, file)))
            _, n, *clean = file.removesuffix(".dcm").split("-")
            level = 0 if clean else (300 if n == "1" else -300)
            self.hu = (rng.standard_normal((1, 80, 80)) * 60 - 300 + level).astype(np.int16)

    monkeypatch.setattr(samples, "_volume", OneSlice)
    return Index(tuple(rows), ("one line about a missing slice",))


def plan(**changes):
    given = {
        "experiments": (EXPERIMENT,),
        "protocols": (ProtocolName.PAPER,),
        "classifiers": ("svm", "tree"),
        "size": SIZE,
        "weights": Weights("none"),
    }
    return Plan(**(given | changes))


def test_what_can_be_told_apart_is_learned_and_shuffled_labels_are_not(index, tmp_path):
    for result in run(plan(), index, tmp_path, tmp_path / "cache"):
        assert result["accuracy"] > 0.95
        assert result["auc"] > 0.95
        assert result["mark"] == "leaky: optimistic"
        assert result["n"]["test"]["pictures"] == math.ceil(0.15 * 3 * 4 * PATIENTS)
        assert result["parameters"].keys() == GRIDS[result["classifier"]].keys()


def test_shuffled_labels_show_the_leak_of_the_paper_s_split_and_none_of_the_grouped_one(index, tmp_path, monkeypatch):
    # grouped localised negatives come from the altered slices, which this index has none of: take the clean ones
    chosen = samples.choose_samples(index, Form.LOCALISED, ProtocolName.PAPER, (16, 16), 0)
    monkeypatch.setattr(experiments, "choose_samples", lambda *_: chosen)
    # an SVM that can learn single pictures by heart
    size = Size("tiny", 2, SIZE.shapes, 1, 8, 50, {"svm": {"C": [100.0], "gamma": [0.001]}})
    both = plan(protocols=tuple(ProtocolName), classifiers=("svm",), size=size)
    areas = {
        result["protocol"]: np.mean(result["permuted_auc"]) for result in run(both, index, tmp_path, tmp_path / "cache")
    }
    assert areas["grouped"] == pytest.approx(0.5, abs=0.15)
    assert areas["paper"] > areas["grouped"]


def test_three_classes_have_a_curve_each(index, tmp_path):
    (result,) = run(plan(experiments=(THREE,), classifiers=("tree",)), index, tmp_path, tmp_path / "cache")
    assert set(result["roc"]) == set(result["classes"]) == {"untampered", "FB", "FM"}
    assert result["accuracy"] > 0.9


def test_a_finished_result_is_read_again_and_another_seed_is_not(index, tmp_path, monkeypatch):
    first = list(run(plan(), index, tmp_path, tmp_path / "cache"))
    monkeypatch.setattr(experiments, "_cell", lambda *_: pytest.fail("computed again"))
    assert list(run(plan(), index, tmp_path, tmp_path / "cache")) == first
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        list(run(plan(seed=1), index, tmp_path, tmp_path / "cache"))


def test_the_same_seed_gives_the_same_figures(index, tmp_path):
    one, again = (
        [{**result, "seconds": None} for result in run(plan(), index, tmp_path / name, tmp_path / name)]
        for name in ("a", "b")
    )
    assert one == again


@pytest.fixture
def finished(index, tmp_path):
    results = list(run(plan(), index, tmp_path, tmp_path / "cache"))
    results[1]["warning"] = "RANDOM BASE: said"
    facts = {
        "titles": {"mine": "Mine <first>"},
        "problems": list(index.problems),
        "made_with": results[0]["made_with"],
    }
    (tmp_path / RUN).write_text(json.dumps(facts))
    return tmp_path, facts, results


def test_a_report_holds_page_plots_table_and_everything_as_json(finished):
    folder, facts, results = finished
    page = write_report(folder, facts, results).read_text()
    assert "leaky: optimistic" in page
    assert "RANDOM BASE: said" in page
    assert "Mine &lt;first&gt;" in page
    assert "one line about a missing slice" in page
    for picture in ("roc-mine-paper.png", "samples-mine-paper.png"):
        assert picture in page
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    with (folder / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["classifier"] for row in rows] == ["svm", "tree"]
    assert all(row["mark"] == "leaky: optimistic" for row in rows)
    assert rows[0]["published_accuracy"] == "0.9"
    assert json.loads((folder / "results.json").read_text())["results"] == results


def test_both_protocols_stand_side_by_side_and_only_one_is_marked_leaky(finished):
    folder, facts, (result, _) = finished
    grouped = result | {"protocol": "grouped", "mark": "grouped by patient", "auc": None, "permuted_auc": [None]}
    page = write_report(folder, facts, [result, grouped]).read_text()
    sides = page.split('<section class="side ')[1:]
    assert [side.split('"')[0] for side in sides] == ["leaky", "grouped"]
    assert "leaky: optimistic" in sides[0]
    assert "leaky" not in sides[1].split("</section>")[0]
    assert page.count('<td class="leaky">') == 1  # in the table of all experiments
    for file in re.findall(r'<img src="([^"]+)"', page):
        assert (folder / file).is_file()


def test_results_of_another_run_are_left_out_of_a_report(finished):
    folder, facts, _ = finished
    assert report_command(folder).is_file()
    assert len(read_results(folder, facts["made_with"])) == 2
    assert read_results(folder, facts["made_with"] | {"seed": 9}) == []


@pytest.mark.filterwarnings("ignore")  # dask's own business
def test_a_grid_can_be_handed_to_a_cluster_of_two_workers(index, tmp_path):
    distributed = pytest.importorskip("distributed")
    alone = list(run(plan(classifiers=("tree",)), index, tmp_path / "alone", tmp_path / "cache"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        given = plan(classifiers=("tree",), cluster=cluster.scheduler_address)
        handed = list(run(given, index, tmp_path / "handed", tmp_path / "cache"))
        assert any(entry[2] == "memory" for entry in cluster.scheduler.transition_log)  # the workers had work
    assert [{**one, "seconds": None} for one in handed] == [{**one, "seconds": None} for one in alone]


@pytest.mark.filterwarnings("ignore")  # dask's own business
def test_a_cluster_that_is_not_there_is_said(index, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(experiments, "_CONNECT_S", 1)
    with pytest.raises(ConfigurationError, match="no Dask scheduler answers at tcp"):
        list(run(plan(cluster="tcp://127.0.0.1:1"), index, tmp_path, tmp_path / "cache"))
