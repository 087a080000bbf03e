import numpy as np
import pytest

from pacs_guard.detect.conformal import CleanScores, CleanTables
from pacs_guard.errors import BundleError

LEVELS = [0.5, 0.9, 1.0]


def section(*patients, levels=LEVELS):
    return {"levels": levels, **{table: [list(one) for one in patients] for table in ("fb", "fm", "any")}}


def test_every_patient_counts_once_however_many_slices():
    clean = CleanScores.from_section(section([0.0, 1.0, 4.0], [2.0, 2.0, 2.0]))
    assert clean.patients == 2
    assert clean.shares("any", 1.5) == pytest.approx([0.1, 1.0])
    assert clean.p_value("any", 1.5) == pytest.approx((1 + 0.1 + 1.0) / 3)


def test_no_p_value_is_under_one_of_all_patients():
    clean = CleanScores.from_section(section([0.0, 1.0, 4.0], [2.0, 2.0, 2.0]))
    assert clean.p_value("fb", 99.0) == pytest.approx(1 / 3)
    assert clean.p_value("fb", -99.0) == 1.0


def test_between_two_levels_the_larger_share_is_taken():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=37)
    table = np.quantile(scores, LEVELS, method="inverted_cdf")
    clean = CleanScores.from_section(section(table))
    for score in (*scores, -5.0, 0.3, 5.0):
        assert clean.shares("fb", score)[0] >= (scores >= score).mean() - 1e-12


def test_a_score_that_equals_a_clean_one_counts_as_reached():
    clean = CleanScores.from_section(section([2.0], levels=[1.0]))
    assert clean.p_value("fm", 2.0) == 1.0
    assert clean.p_value("fm", 2.001) == 0.5


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"levels": LEVELS, "fb": [[0.0, 1.0]], "fm": [[0.0, 1.0, 2.0]], "any": [[0.0, 1.0, 2.0]]},
        section([0.0, 1.0, 2.0], levels=[0.5, 0.4, 1.0]),
        section([0.0, 1.0], levels=[0.5, 0.9]),
        section([0.0, "high", 2.0]),
        section(),
    ],
)
def test_what_is_no_table_is_refused(broken):
    with pytest.raises(BundleError, match="calibration"):
        CleanScores.from_section(broken)


def test_a_stratum_with_enough_patients_has_p_values_of_its_own():
    many, few = ([[0.0, 0.5, 1.0 + number] for number in range(count)] for count in (20, 19))
    tables = CleanTables.from_section(
        section([0.0, 1.0, 4.0]) | {"strata": {"large": section(*many), "s": section(*few)}}
    )
    table, clean = tables.table_for("large")
    assert (table.name, table.patients) == ("large", 20)
    assert clean.p_value("any", 99.0) == pytest.approx(1 / 21)
    for stratum in ("s", "unheard of", None):
        table, clean = tables.table_for(stratum)
        assert (table.name, table.patients) == ("all", 1)
        assert clean is tables.pooled


def test_a_bundle_without_strata_has_all_patients_in_one_table():
    assert CleanTables.from_section(section([0.0, 1.0, 4.0])).strata == {}


@pytest.mark.parametrize("strata", [[], {"sharp": {}}, {"sharp": None}])
def test_strata_that_are_no_tables_are_refused(strata):
    with pytest.raises(BundleError, match="calibration"):
        CleanTables.from_section(section([0.0, 1.0, 4.0]) | {"strata": strata})
