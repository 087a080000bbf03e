from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pacs_guard.detect.bundle import find_bundle, load_bundle
from pacs_guard.detect.forensic import ForensicDetector
from pacs_guard.domain.volume import AssembledSeries, Volume
from pacs_guard.errors import ConfigurationError
from training.recalibrate import recalibrate
from training.sources import Case


def chest(seed, count=3):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :200] - 100.0
    hu = np.full((count, 200, 200), -1000.0)
    hu[:, (x / 95) ** 2 + (y / 72) ** 2 < 1] = 40
    for side in (-1, 1):
        hu[:, ((x - side * 44) / 33) ** 2 + (y / 53) ** 2 < 1] = -850
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0.3, 0.9, 0.9))
    positions = np.array([[0.0, 0.0, 2.5 * i] for i in range(count)])
    uids = tuple(f"1.{seed}.{i + 1}" for i in range(count))
    hu = np.rint(hu + 18 * noise / noise.std()).astype(np.int16)
    return Volume(hu, None, (2.5, 1.2, 1.2), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), positions, uids, "1", f"2.{seed}")


def cases(patients):
    return [Case("own", f"clean:p{seed}", f"p{seed}", chest(seed)) for seed in range(patients)]


@pytest.fixture(scope="module")
def shipped():
    return load_bundle(find_bundle("forensic"))


def test_the_new_bundle_has_the_old_networks_and_a_table_of_the_own_patients(shipped, tmp_path):
    lines = []
    made = recalibrate(shipped, cases(3), tmp_path / "own", version="9+own", say=lines.append)
    assert made.version == "9+own"
    assert made.read("weights.npz") == shipped.read("weights.npz")
    table = made.section("calibration", "series")
    assert table["patients"] == ["p0", "p1", "p2"]
    assert table["smallest_p_value"] == 0.25
    assert made.section("calibration", "slice", "slices") == [3, 3, 3]
    assert "Calibrated again: 9+own" in made.read("MODEL_CARD.md").decode()
    assert len(lines) == 4
    assert lines[-1] == "series that are smooth, thick: 3 patients, pooled, under 20"
    volume = chest(0)
    answer = ForensicDetector(made).assess(AssembledSeries("1", volume.series_uid, (), volume))
    assert answer.p_value is not None
    assert answer.p_value >= 0.5  # it is one of the patients that the table is from
    assert answer.findings == ()


def test_strata_with_enough_patients_have_tables_of_their_own(shipped, tmp_path, monkeypatch):
    for module in ("pacs_guard.detect.conformal", "training.calibration", "training.recalibrate"):
        monkeypatch.setattr(f"{module}.LEAST_IN_STRATUM", 3)
    thin = [replace(chest(seed), spacing_mm=(1.0, 1.2, 1.2)) for seed in (10, 11)]
    others = [Case("own", f"clean:t{number}", f"t{number}", volume) for number, volume in enumerate(thin)]
    lines = []
    made = recalibrate(shipped, [*cases(3), *others], tmp_path / "own", version="9", say=lines.append)
    for of in ("series", "slice"):
        tables = made.section("calibration", of, "strata")
        assert list(tables) == ["smooth, thick"]  # the two thin ones are too few
        assert tables["smooth, thick"]["patients"] == ["p0", "p1", "p2"]
    assert "series that are smooth, thin: 2 patients, pooled, under 3" in lines
    assert "| series, smooth, thick | as all | as all | 3 | 0.25 |" in made.read("MODEL_CARD.md").decode()
    detector = ForensicDetector(made)
    for volume, expected in ((chest(1), ("smooth, thick", 3)), (thin[0], ("all", 5))):
        answer = detector.assess(AssembledSeries("1", volume.series_uid, (), volume))
        assert (answer.p_value_from.name, answer.p_value_from.patients) == expected


def test_few_quiet_patients_do_not_lower_a_point(shipped, tmp_path):
    made = recalibrate(shipped, cases(3), tmp_path / "own", version="9", say=lambda _: None)
    for of in ("series", "slice"):
        for head in ("fb", "fm"):
            assert made.section("operating_point", of, head) >= shipped.section("operating_point", of, head)


def test_too_few_patients_are_refused(shipped, tmp_path):
    with pytest.raises(ConfigurationError, match="clean series of 2 patients"):
        recalibrate(shipped, cases(2), tmp_path / "own", version="9", say=lambda _: None)
