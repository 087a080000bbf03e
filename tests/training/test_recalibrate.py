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
    assert len(lines) == 3
    volume = chest(0)
    answer = ForensicDetector(made).assess(AssembledSeries("1", volume.series_uid, (), volume))
    assert answer.p_value is not None
    assert answer.p_value >= 0.5  # it is one of the patients that the table is from
    assert answer.findings == ()


def test_few_quiet_patients_do_not_lower_a_point(shipped, tmp_path):
    made = recalibrate(shipped, cases(3), tmp_path / "own", version="9", say=lambda _: None)
    for of in ("series", "slice"):
        for head in ("fb", "fm"):
            assert made.section("operating_point", of, head) >= shipped.section("operating_point", of, head)


def test_too_few_patients_are_refused(shipped, tmp_path):
    with pytest.raises(ConfigurationError, match="clean series of 2 patients"):
        recalibrate(shipped, cases(2), tmp_path / "own", version="9", say=lambda _: None)
