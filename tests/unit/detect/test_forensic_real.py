"""The shipped detector on real slices; how well it does on unseen patients is in its model card."""

import os
from pathlib import Path

import numpy as np
import pytest

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.detect.registry import load_detector
from training.sources import tampered_slices

DATA = Path(os.environ.get("PACS_GUARD_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not (DATA / "ctgan").is_dir(), reason=f"no labelled slices in {DATA}"),
]


def assess(path):
    instances, _ = find_instances([path])
    series = assemble_study(instances, Path("/"), split_gaps=True, from_network=False)
    return [load_detector("forensic").assess(one) for one in series]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FB", "FM"])
def test_most_altered_places_are_the_first_guess(kind):
    cases = [case for case in tampered_slices(DATA / "ctgan") if case.target.kind == kind][:12]
    detector = load_detector("forensic")
    hits = 0
    for case in cases:
        path = DATA / "ctgan" / "CT_Scans" / "EXP1_blind" / f"{case.name}.dcm"
        instances, _ = find_instances([path])
        series = next(iter(assemble_study(instances, Path("/"), from_network=False)))
        place = detector.assess(series).slices[0]
        spacing = case.volume.spacing_mm[1]
        hits += np.hypot(place.x - case.target.x, place.y - case.target.y) * spacing <= 16
    assert hits >= 9


@pytest.mark.slow
@pytest.mark.parametrize("patient", ["lungfcp-01-0001", "acrin-flt-breast-013"])
def test_clean_series_are_not_flagged(patient):
    for result in assess(DATA / "clean" / patient):
        assert result.findings == ()
        assert result.undetermined is None
