"""From a node's quarantine to rows of the index."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

import pytest

from pacs_guard.assemble import find_instances
from pacs_guard.cli import reviewed as command
from pacs_guard.errors import ConfigurationError
from pacs_guard.queue.reviewed import ReviewedStudy
from pacs_guard.simulate import make_phantom, write_series
from pacs_guard.spool.store import StoredFiles
from training.datasets import read_index
from training.reviewed import read_reviewed


@pytest.fixture
def exported(tmp_path, monkeypatch, capsys):
    """One false alarm, one confirmed removal, and one confirmed study of which nothing is left."""
    studies = []
    for number, action in ((1, "release"), (2, "reject")):
        folder = tmp_path / f"received{number}"
        write_series(make_phantom(slices=3, size=64, slice_mm=5.0, seed=number), folder)
        instances = tuple(find_instances([folder])[0])
        uid = instances[1].key.sop_uid
        findings = (
            {"kind": "FB", "sop_uid": uid, "x": 20.4, "y": 30.0, "detector": "forensic"},
            {"kind": "integrity", "sop_uid": uid, "x": None, "y": None, "detector": "integrity"},
        )
        studies.append(ReviewedStudy(number, action, "dr. rad", "looked at it", 0.0, findings, instances, 0))
    studies.append(ReviewedStudy(3, "reject", "dr. rad", "gone", 0.0, (), (), 4))
    stores = SimpleNamespace(database=None, review=None, spool=lambda: StoredFiles(Path("/")))
    monkeypatch.setattr(command, "settings_from", lambda _: None)
    monkeypatch.setattr(command, "open_stores", lambda _: stores)
    monkeypatch.setattr(command, "reviewed_studies", lambda *_: iter(studies))
    to = tmp_path / "data" / "reviewed" / "may"
    command.export_reviewed(None, to)
    assert "study 3: 4 instances were deleted" in capsys.readouterr().err
    return to


def test_a_false_alarm_is_clean_and_a_confirmed_place_is_altered(exported):
    found = read_index(exported.parents[1])
    rows = [(row.source, row.kind, row.x, row.y) for row in found.rows]
    assert rows.count(("reviewed", "clean", None, None)) == 3
    assert rows.count(("reviewed", "FB", 20, 30)) == 1
    assert len(rows) == 4
    assert {row.patient.split(":")[0] for row in found.rows} == {"reviewed"}
    labels = json.loads((exported / "labels.json").read_text())
    assert [one["label"] for one in labels["studies"]] == ["clean", "tampered"]
    assert labels["studies"][0] | {"instances": None} == {
        "folder": "study-1",
        "label": "clean",
        "action": "release",
        "by": "dr. rad",
        "reason": "looked at it",
        "at": "1970-01-01T00:00:00+00:00",
        "places": [],
        "found": [{"kind": "FB", "sop_uid": ANY, "x": 20.4, "y": 30.0, "detector": "forensic"}],
        "instances": None,
    }


def test_what_was_changed_or_lost_since_is_a_line_and_not_a_row(exported):
    (exported / "study-1" / "00001.dcm").unlink()
    other = (exported / "study-2" / "00001.dcm").read_bytes()
    (exported / "study-1" / "00002.dcm").write_bytes(other)
    found = read_reviewed(exported)
    assert sum(row.kind == "clean" for row in found.rows) == 1
    assert any("is not what was exported" in line for line in found.problems)
    assert any("2 exported instances are missing" in line for line in found.problems)
    (exported / "labels.json").write_text("{}")
    assert "is no list of reviewed studies" in read_reviewed(exported).problems[0]


def test_nothing_is_written_into_a_folder_that_holds_something(exported):
    with pytest.raises(ConfigurationError, match="is not empty"):
        command.export_reviewed(None, exported)
