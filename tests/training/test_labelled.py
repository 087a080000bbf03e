"""What a challenger may learn from, and what it never sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pacs_guard.assemble import find_instances
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import ConfigurationError
from pacs_guard.simulate import make_phantom
from tests.training.labelling import is_held_back, write_patient
from training import challenger
from training.labelled import PRESUMED, read_labelled, training_cases
from training.reviewed import read_reviewed

LEARNT = [number for number in range(50) if not is_held_back(number)]
HELD = [number for number in range(50) if is_held_back(number)]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Patients of both parts: altered at two places, clean with a suspected place, and passed."""
    tmp_path = tmp_path_factory.mktemp("export")
    volume = make_phantom(slices=44, size=64, slice_mm=5.0)
    studies = []
    for number, label, action in (
        (LEARNT[0], "tampered", "reject"),
        (LEARNT[1], "clean", "release"),
        (LEARNT[2], "clean", "none"),
        (HELD[0], "tampered", "reject"),
        (HELD[1], "clean", "label"),
    ):
        folder = tmp_path / f"study-{number}"
        _, places = write_patient(volume, [("FB", (5, 20, 30)), ("FM", (6, 25, 35))], number, folder)
        instances = [
            {"file": f"{folder.name}/{Path(one.path).name}", "sop_uid": one.key.sop_uid, "sha256": one.key.sha256}
            for one in find_instances([folder])[0]
        ]
        studies.append(
            {
                "folder": folder.name,
                "label": label,
                "action": action,
                "places": places if label == "tampered" else [],
                "found": places,
                "instances": instances,
            }
        )
    (tmp_path / "labels.json").write_text(json.dumps({"format": 1, "studies": studies}))
    return tmp_path


def test_patients_are_held_back_by_a_hash_that_tells_nobody_and_stays(export):
    studies = read_labelled(export)
    assert [one.held_back for one in studies] == [False, False, False, True, True]
    assert [one.label for one in studies] == ["tampered", "clean", PRESUMED, "tampered", "clean"]
    assert not any("SIM" in one.patient for one in studies)
    shares = [is_held_back(number) for number in range(3000)]
    assert sum(shares) / len(shares) == pytest.approx(0.4, abs=0.03)


def test_labelled_slices_and_the_stretch_around_a_false_alarm_are_learnt_from(export):
    first, second, clean = training_cases(read_labelled(export))
    assert (first.target.kind, first.target.x, first.target.y) == (FindingKind.FB, 30, 20)
    assert [(label.kind, label.depth_mm) for label in second.labels] == [(FindingKind.FM, 0.0), (FindingKind.FB, 5.0)]
    assert (len(first.volume.hu), len(clean.volume.hu)) == (1, 40)
    assert set(clean.hard) == {(30, 20), (35, 25)}
    assert first.group.startswith("reviewed:")
    assert clean.group.startswith("clean:reviewed:")


def test_a_classifier_sees_no_row_of_who_is_held_back_or_of_what_only_passed(export):
    studies = read_labelled(export)
    rows = challenger._training_rows(export, studies).rows
    folders = {Path(row.file).parent.name for row in rows}
    assert folders == {f"study-{number}" for number in LEARNT[:2]}
    # not even if the base holds them from an earlier export
    kept = challenger._learnable(read_reviewed(export)).rows
    assert {Path(row.file).parent.name for row in kept} == {f"study-{number}" for number in LEARNT[:3]}


def test_too_few_of_one_kind_are_counted_and_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(challenger.TooFewError, match="patients to train on: 0 clean, 0 FB, 0 FM; expected 5 of each"):
        challenger._enough([])
    (tmp_path / "labels.json").write_text('{"format": 9, "studies": []}')
    with pytest.raises(ConfigurationError, match="has format 9; expected 1"):
        read_labelled(tmp_path)
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ConfigurationError, match="is no list of labelled studies"):
        read_labelled(tmp_path)
