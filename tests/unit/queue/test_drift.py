"""Histograms by scanner and day; on SQLite and PostgreSQL."""

import pytest

from pacs_guard.domain.drift import Histogram, Measure, Observation, shares_of
from pacs_guard.queue.drift import BASELINE_SERIES, LEAST_SERIES, MOST_SCANNERS, OTHER, DriftHistograms, record
from pacs_guard.queue.schema import drift_histograms
from tests.unit.queue.conftest import assessment

MODEL = ("forensic", "1")
DAY = 86400.0


class Scanner:
    def __init__(self, node):
        self.node = node
        self.drift = DriftHistograms(node.database, node.clock)

    def send(self, count, value, measure=Measure.NOISE, name="S B70f"):
        with self.node.database.write() as connection:
            for _ in range(count):
                record(connection, *MODEL, [Observation(name, measure, shares_of(measure, [value]))], self.node.clock())

    def found(self, days=30):
        return {(one.scanner, one.measure): one for one in self.drift.drift({MODEL}, days)}

    def rows(self):
        with self.node.database.read() as connection:
            return connection.execute(drift_histograms.select()).mappings().all()


@pytest.fixture
def scanner(node):
    return Scanner(node)


def test_a_scanners_first_series_are_what_the_later_ones_are_compared_with(node, scanner):
    scanner.send(BASELINE_SERIES, 10.0)
    assert scanner.found() == {}
    scanner.send(LEAST_SERIES, 10.0)
    assert scanner.found()["S B70f", "noise"].index < 0.1
    node.clock.move(40 * DAY)
    scanner.send(60, 30.0)
    moved = scanner.found()["S B70f", "noise"]
    assert moved.index > moved.limit
    assert moved.series == 60.0


def test_scores_are_compared_with_the_calibration(scanner):
    calm = shares_of(Measure.SCORE, [-4.5])
    scanner.drift.calibrate(*MODEL, Histogram(14.0, tuple(14.0 * one for one in calm)))
    scanner.drift.calibrate(*MODEL, Histogram(1.0, calm))  # a worker that starts again changes nothing
    scanner.send(40, 3.5, Measure.SCORE)
    found = scanner.found()["S B70f", "score"]
    assert found.series == 40.0
    assert scanner.drift.drift({("forensic", "2")}, 30) == []


def test_rows_stay_few(node, scanner):
    for number in range(MOST_SCANNERS + 5):
        scanner.send(1, 10.0, name=f"scanner {number}")
    names = {row["scanner"] for row in scanner.rows()}
    assert len(names) == MOST_SCANNERS + 1
    assert OTHER in names
    scanner.send(BASELINE_SERIES + 5, 10.0, name="scanner 1")
    node.clock.move(31 * DAY)
    assert scanner.drift.prune(30) == 1
    assert {row["day"] for row in scanner.rows()} == {0}


def test_histograms_of_other_bins_are_begun_anew(node, scanner):
    scanner.send(BASELINE_SERIES + 20, 10.0)
    with node.database.write() as connection:
        connection.execute(drift_histograms.update().values(counts=[1.0, 2.0]))
    assert scanner.found() == {}
    scanner.send(12, 10.0)
    assert scanner.found()["S B70f", "noise"].series == 12.0


def test_a_verdict_adds_what_its_series_showed(node, scanner, instance):
    from dataclasses import replace  # noqa: PLC0415  # only here

    observed = (Observation("S B70f", Measure.NOISE, shares_of(Measure.NOISE, [10.0, 12.0])),)
    node.complete(instance(1))
    series = tuple(replace(one, observed=observed) for one in assessment(node.clean).series)
    node.decide(series=series, hashes={"forensic": "ab"}, bundles={"forensic": "1"})
    [row] = scanner.rows()
    assert (row["name"], row["version"], row["series"]) == ("forensic", "1", 1.0)
    assert sorted(row["counts"])[-2:] == [0.5, 0.5]
