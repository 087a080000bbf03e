"""A run that was killed goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from pacs_guard.simulate import make_phantom, write_series

EXPERIMENT = 'title = "Mine"\nform = "raw"\nclasses = ["untampered", "tampered"]\naugmented = false\nfigures = "none"\n'
SIZES = """[tiny]
copies = 1
step = 4
permutations = 15
rounds = 20
[tiny.shapes]
raw = [32, 32]
localised = [32, 32]
delocalised = [32, 32]
[tiny.grids.tree]
max_depth = [2]
[tiny.grids.forest]
n_estimators = [20]
"""
PATIENTS = 8


@pytest.fixture
def arguments(tmp_path):
    config, data = tmp_path / "config", tmp_path / "data"
    config.mkdir()
    (config / "mine.toml").write_text(EXPERIMENT)
    (config / "sizes.toml").write_text(SIZES)
    one = write_series(make_phantom(slices=1, size=96, slice_mm=5.0, seed=1), tmp_path / "one")[0]
    labels = ["type,uuid,slice,x,y"]
    for patient in range(PATIENTS):
        scan = data / "ctgan" / "CT_Scans" / "EXP1_blind" / str(patient)
        scan.mkdir(parents=True)
        shutil.copy(one, scan / "1.dcm")
        labels.append(f"FB,{patient},1,40,40")
        write_series(make_phantom(slices=1, size=96, slice_mm=5.0, seed=9), data / "clean" / f"p{patient}")
    (data / "ctgan" / "labels_exp1.csv").write_text("\n".join(labels) + "\n")
    command = [sys.executable, "-m", "training", "experiment", "mine", "--data", data, "--config", config]
    return [*map(str, command), "--size", "tiny", "--classifiers", "tree,forest", "--protocol", "both"]


def results(folder):
    found = json.loads((folder / "results.json").read_text())["results"]
    return [{**one, "seconds": None} for one in found]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_goes_on_and_gives_what_an_undisturbed_one_gives(arguments, tmp_path):
    out = tmp_path / "out"
    first = out / "cells" / "mine-paper-forest.json"
    started = subprocess.Popen([*arguments, "--out", str(out)], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not first.is_file() and started.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    kept = first.stat().st_mtime_ns
    assert len(list((out / "cells").glob("*.json"))) < 4
    for folder in (out, tmp_path / "undisturbed"):
        subprocess.run([*arguments, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL, timeout=300)
    assert first.stat().st_mtime_ns == kept
    assert results(out) == results(tmp_path / "undisturbed")
    assert len(results(out)) == 4
