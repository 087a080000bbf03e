"""Real tampered and real clean CT, where this machine has it."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.integration.node import running, write_config
from tests.integration.peers import dataset_bytes, needs_dcmtk, storescp
from tests.integration.sending import send_verbatim

DATA = Path(os.environ.get("PACS_GUARD_DATA", Path(__file__).parents[3] / "shared" / "data"))
HIT_MM = 20.0

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (DATA / "ctgan").is_dir(), reason="no labelled CT at PACS_GUARD_DATA or ../shared/data"),
]


def assess(*paths: Path) -> list[dict]:
    command = [sys.executable, "-m", "pacs_guard", "assess", "--json", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["series"]


@pytest.fixture(scope="module")
def labels() -> dict[tuple[str, int], list[dict]]:
    found: dict[tuple[str, int], list[dict]] = {}
    with (DATA / "ctgan" / "labels_exp1.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault((row["uuid"], int(row["slice"])), []).append(row)
    return found


def test_real_tampered_slices_are_assessed_one_by_one_and_most_sites_are_found(labels):
    reports = assess(DATA / "ctgan")
    slices = [one for report in reports for one in report["slices"]]
    assert len(slices) == 81
    assert {report["verdict"] for report in reports} <= {"SUSPECTED", "CLEAN"}
    hits = 0
    for one in slices:
        file = Path(one["file"])
        spacing = float(dcmread(file, stop_before_pixels=True).PixelSpacing[0])
        places = [(int(row["x"]), int(row["y"])) for row in labels[file.parent.name, int(file.stem)]]
        hits += any(math.dist((one["x"], one["y"]), place) * spacing <= HIT_MM for place in places)
    # the shipped model has seen these slices: this shows that the command works, and is no figure of merit
    assert hits >= 0.75 * len(slices)


@pytest.mark.parametrize("series", ["lungfcp-01-0001", "acrin-flt-breast-013"])
def test_real_clean_series_are_not_suspected(series):
    (report,) = assess(DATA / "clean" / series)
    assert report["verdict"] == "CLEAN"
    assert len(report["slices"]) > 40
    assert [one["z_mm"] for one in report["slices"]] == sorted(one["z_mm"] for one in report["slices"])


def test_real_odd_headers_are_read_and_say_what_is_wrong_with_them():
    reports = assess(DATA / "clean" / "misc-single-slices")
    assert sum(len(report["slices"]) for report in reports) >= 4
    assert "no lung" in " ".join(report["reason"] for report in reports)


@needs_dcmtk
def test_a_real_clean_series_passes_through_the_node_bit_for_bit(tmp_path):
    folder = DATA / "clean" / "lungfcp-01-0001"
    files = sorted(folder.glob("*.dcm"))
    with storescp(tmp_path / "pacs", options=("+xt",)) as pacs:
        config = write_config(tmp_path / "node", {"pacs": ("STORESCP", pacs.port)}, detectors=("integrity", "forensic"))
        with running(config) as node:
            send_verbatim(node.port, files)
            study = node.wait_for(str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), "delivered", "held")
            assert study["state"] == "delivered", study
            assert study["instances"] == len(files)
        assert sorted(pacs.data_sets()) == sorted(dataset_bytes(file) for file in files)
