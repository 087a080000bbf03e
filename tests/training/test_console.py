"""The commands as a user gives them."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pacs_guard.domain.volume import Volume
from training import datasets, samples
from training.__main__ import main
from training.index import Index, IndexRow
from training.settings import Form, ProtocolName

EXPERIMENT = """title = "Mine"
form = "localised"
classes = ["untampered", "tampered"]
augmented = true
figures = "none"
"""
SIZES = """[tiny]
copies = 1
step = 4
permutations = 2
rounds = 20
[tiny.shapes]
raw = [16, 16]
localised = [16, 16]
delocalised = [16, 16]
[tiny.grids.svm]
C = [1.0]
[tiny.grids.tree]
max_depth = [2]
"""


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.mkdir()
    (config / "mine.toml").write_text(EXPERIMENT)
    (config / "sizes.toml").write_text(SIZES)
    rows = [IndexRow("ctgan", f"{p}", "E", f"{p}", 9, 40, 40, "FB", f"a{p}", f"a{p}.dcm") for p in range(14)]
    rows += [IndexRow("c", f"clean:{p}", "", f"{p}", 9, 40, 40, "nodule", f"c{p}", f"c{p}.dcm") for p in range(14)]

    def volume(path):
        rng = np.random.default_rng(sum(map(ord, str(path))))
        hu = rng.normal(-300 if str(path).startswith("a") else -700, 60, (1, 80, 80)).astype(np.int16)
        return Volume(hu, None, (1, 1, 1), (1, 0, 0, 0, 1, 0), np.zeros((1, 3)), ("1",), "2", "3")

    monkeypatch.setattr(samples, "read_slice", volume)
    monkeypatch.setattr(datasets, "read_index", lambda *_: Index(tuple(rows), ("scan 7: missing 3",)))
    return ["--data", "data", "--config", str(config), "--size", "tiny", "--out", str(tmp_path / "out")]


def test_an_experiment_ends_in_a_report_that_says_what_made_it(arguments, tmp_path, capsys):
    chosen = ["--protocol", "paper", "--classifiers", "tree,svm", "--seed", "5"]
    assert main(["experiment", "all", *arguments, *chosen]) == 0
    said = capsys.readouterr().out
    assert "mine paper (leaky: optimistic) svm" in said
    whole = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["classifier"] for one in whole["results"]] == ["svm", "tree"]
    assert whole["run"]["made_with"]["seed"] == 5
    assert len(whole["run"]["made_with"]["data_sha256"]) == 64
    page = tmp_path / "out" / "report.html"
    assert "scan 7: missing 3" in page.read_text()
    page.unlink()
    assert main(["report", "--out", str(tmp_path / "out")]) == 0
    assert page.is_file()


def test_one_classifier_is_evaluated_and_fitted_by_its_name(arguments, tmp_path, capsys, monkeypatch):
    given = ["--data", "data", "--cache", str(tmp_path / "cache"), *arguments[2:6]]
    chosen = samples.choose_samples(datasets.read_index("data"), Form.LOCALISED, ProtocolName.PAPER, (16, 16), 0)
    monkeypatch.setattr("training.experiments.choose_samples", lambda *_: chosen)
    assert main(["evaluate", "mine/tree", *given, "--report", str(tmp_path / "tree.json")]) == 0
    assert "mine grouped (grouped by patient) tree" in capsys.readouterr().out
    assert json.loads((tmp_path / "tree.json").read_text())["protocol"] == "grouped"
    written = []
    monkeypatch.setattr("training.console.export_command", written.append)
    assert main(["fit", "mine/tree", *given, "--out", str(tmp_path / "bundle")]) == 0
    assert (written[0].name, written[0].classifiers, written[0].bundle) == ("mine", "tree", tmp_path / "bundle")
    assert main(["fit", "mine", *given, "--out", str(tmp_path / "bundle")]) == 1
    assert "expected forensic, or such as table6/forest" in capsys.readouterr().err


def test_missing_weights_end_the_run_with_a_report_of_what_is_done(arguments, tmp_path, capsys):
    chosen = ["--protocol", "paper", "--classifiers", "tree,vgg19", "--weights", str(tmp_path / "absent.h5")]
    assert main(["experiment", "mine", *arguments, *chosen]) == 1
    said = capsys.readouterr()
    assert "holds no weights of vgg19" in said.err
    assert "report:" in said.out


def test_the_index_draws_a_sheet_of_each_class(arguments, tmp_path, capsys):
    assert main(["index", "--data", "data", "--sheets", str(tmp_path / "sheets")]) == 0
    assert "scan 7: missing 3" in capsys.readouterr().err
    levels = {}
    for kind in ("FB", "nodule"):
        with Image.open(tmp_path / "sheets" / f"{kind}.png") as sheet:
            levels[kind] = np.asarray(sheet)[40:200].mean()
    assert levels["FB"] > levels["nodule"] + 20


def test_what_is_not_known_is_said_with_what_is(arguments, capsys):
    assert main(["experiment", "table9", *arguments, "--classifiers", "lenet"]) == 1
    said = capsys.readouterr().err
    assert "no experiment 'table9'; there are mine" in said
    assert "no classifier 'lenet'; there are svm" in said
    assert main(["report", "--out", "nowhere"]) == 1
    assert "nowhere holds no run" in capsys.readouterr().err


def test_help_is_there_at_once_and_loads_no_library_of_learning():
    begun = time.monotonic()
    code = (
        "import sys, contextlib\n"
        "from training.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print(sorted({'sklearn', 'tensorflow', 'keras', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert "experiment" in ended.stdout
    assert time.monotonic() - begun < 5
