from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.detect.integrity import IntegrityDetector
from pacs_guard.domain.verdict import FindingKind, Severity
from pacs_guard.domain.volume import AssembledSeries, InstanceFacts

DATA = Path(os.environ.get("PACS_GUARD_DATA", Path(__file__).parents[4] / "shared" / "data"))
real = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real slices are not here; set PACS_GUARD_DATA"),
]


def facts(number, **changes):
    values = {
        "sop_uid": f"1.2.3.{number}",
        "series_uid": "1.2.1",
        "study_uid": "1.2.2",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "content_sha256": f"content {number}",
        "pixel_sha256": f"pixels {number}",
        "position_mm": (0.0, 0.0, 2.5 * number),
        "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "instance_number": float(number),
        "slice_location": 100.0 - 2.5 * number,
    }
    return InstanceFacts(**(values | changes))


def findings(*instances):
    result = IntegrityDetector().assess(AssembledSeries("1.2.2", "1.2.1", tuple(instances)))
    assert result.undetermined is None
    return result.findings


def only(*instances):
    (found,) = findings(*instances)
    assert found.kind is FindingKind.INTEGRITY
    assert found.series_uid == "1.2.1"
    return found


SERIES = tuple(facts(i) for i in range(1, 7))


def test_an_ordinary_series_gives_nothing():
    assert findings(*SERIES) == ()
    assert findings(*reversed(SERIES)) == ()


def test_a_series_without_geometry_or_pixels_gives_nothing():
    bare = [
        replace(f, position_mm=None, orientation=None, pixel_sha256=None, instance_number=None, slice_location=None)
        for f in SERIES
    ]
    assert findings(*bare) == ()


def test_the_same_uid_with_other_pixels_is_suspect():
    found = only(*SERIES, replace(SERIES[2], content_sha256="other", pixel_sha256="other"))
    assert found.severity is Severity.SUSPECT
    assert "different pixels" in found.sentence
    assert found.sop_uid == "1.2.3.3"


@pytest.mark.parametrize("pixels", ["pixels 3", None])
def test_the_same_uid_with_a_corrected_header_is_a_notice(pixels):
    found = only(*SERIES, replace(SERIES[2], content_sha256="other", pixel_sha256=pixels))
    assert found.severity is Severity.NOTICE
    assert "different content" in found.sentence


def test_a_slice_copied_to_another_position_is_suspect():
    found = only(*SERIES[:5], replace(SERIES[5], pixel_sha256="pixels 2"))
    assert found.severity is Severity.SUSPECT
    assert "a slice was copied" in found.sentence


def test_blank_slices_are_not_copies():
    blank = [replace(f, pixel_sha256="nothing", blank=True) for f in SERIES[:3]]
    assert findings(*blank, *SERIES[3:]) == ()


def test_a_slice_sent_again_under_a_new_uid_is_a_notice():
    again = replace(SERIES[2], sop_uid="1.2.3.99", content_sha256="again", instance_number=None)
    assert {f.severity for f in findings(*SERIES, again)} == {Severity.NOTICE}
    assert any("came again under another SOPInstanceUID" in f.sentence for f in findings(*SERIES, again))


@pytest.mark.parametrize("uid", ["1.02.3", "abc", "1.2.", "1"])
def test_malformed_uids_give_one_notice_with_their_count(uid):
    bad = [replace(f, series_uid=uid) for f in SERIES]
    found = only(*bad)
    assert found.severity is Severity.NOTICE
    assert found.sentence.startswith("6 of 6 instances have a UID")


def test_file_meta_that_contradicts_is_one_notice():
    found = only(*(replace(f, meta_sop_uid="1.2.3.1") for f in SERIES))
    assert found.severity is Severity.NOTICE
    assert "5 of 6 instances" in found.sentence
    assert found.sop_uid == "1.2.3.2"


def test_several_phases_at_one_position_are_a_notice():
    phases = [replace(f, sop_uid=f"{f.sop_uid}.9", content_sha256="x", pixel_sha256=f"{f.sop_uid}") for f in SERIES]
    found = only(*SERIES, *phases)
    assert found.severity is Severity.NOTICE
    assert "6 of 12 instances lie where another one lies" in found.sentence


def test_two_slices_that_changed_places_contradict_their_numbers():
    swapped = [replace(SERIES[2], position_mm=(0, 0, 10.0)), replace(SERIES[3], position_mm=(0, 0, 7.5))]
    sentences = [f.sentence for f in findings(*SERIES[:2], *swapped, *SERIES[4:])]
    assert any("InstanceNumber runs against the positions" in sentence for sentence in sentences)
    assert any("SliceLocation contradicts" in sentence for sentence in sentences)


def test_numbers_that_fall_towards_the_head_are_no_contradiction():
    assert findings(*(replace(f, instance_number=50 - f.instance_number) for f in SERIES)) == ()


def test_one_slice_location_for_all_contradicts_the_positions():
    found = only(*(replace(f, slice_location=7.0) for f in SERIES))
    assert found.severity is Severity.NOTICE
    assert "SliceLocation contradicts" in found.sentence


def suspects(folder):
    instances, _ = find_instances([folder])
    found = []
    for series in assemble_study(instances, Path("/"), split_gaps=True, from_network=False):
        assert series.refusal is None
        found += [f for f in IntegrityDetector().assess(series).findings if f.severity is Severity.SUSPECT]
    return len(instances), found


@pytest.mark.parametrize(
    "folder",
    [
        "clean/lidc-idri-0001",
        "clean/lungfcp-01-0001",
        "clean/cptac-c3n-00247",
        "clean/lung-pet-ct-dx-a0001",
        "clean/acrin-flt-breast-013",
        "clean/singles-covid-ny-sbu",
    ],
)
@real[0]
@real[1]
def test_no_clean_series_is_suspect(folder):
    count, found = suspects(DATA / folder)
    assert count > 0
    assert found == []


@real[0]
@real[1]
def test_stale_file_meta_of_the_tampered_slices_is_noticed():
    instances, problems = find_instances([DATA / "ctgan"])
    assert len(instances) == 81
    assert "(.csv 2, .md 1)" in problems[0]
    for series in assemble_study(instances, Path("/"), split_gaps=True, from_network=False):
        found = IntegrityDetector().assess(series).findings
        assert any("file meta information" in f.sentence for f in found)
        assert not any(f.severity is Severity.SUSPECT for f in found)
