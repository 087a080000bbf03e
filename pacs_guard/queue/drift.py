"""Histograms of scores and noise by scanner and day, in a bounded number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pacs_guard.domain.drift import EDGES, Drift, Histogram, Measure, Observation, stability_index
from pacs_guard.queue.schema import drift_histograms as table
from pacs_guard.queue.statements import insert_or_ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sqlalchemy.engine import Connection

    from pacs_guard.queue.database import Database

BASELINE_SERIES = 30
"""A scanner's first series, with which the later ones are compared where the calibration says nothing."""

MOST_SCANNERS = 32
OTHER = "other"
"""All further scanners count as one, so that headers from outside fill neither the table nor the metrics."""

LEAST_SERIES = 10
_CALIBRATION = ""
_REFERENCE = 0
_DAY = 86400.0


def record(connection: Connection, name: str, version: str, observations: Iterable[Observation], now: float) -> None:
    """Add what series showed to the histograms of a model, in the transaction of their verdict."""
    own = sa.and_(table.c.name == name, table.c.version == version)
    query = sa.select(table.c.scanner, table.c.measure, table.c.day, table.c.series).where(own)
    rows = connection.execute(query).all()
    known = {row[0] for row in rows} - {_CALIBRATION}
    calibrated = {row[1] for row in rows if row[0] == _CALIBRATION}
    baselines = {(row[0], row[1]): row[3] for row in rows if row[2] == _REFERENCE}
    for one in observations:
        scanner = one.scanner[:200] or OTHER
        if scanner not in known and len(known) >= MOST_SCANNERS:
            scanner = OTHER
        known.add(scanner)
        learning = one.measure not in calibrated and baselines.get((scanner, one.measure), 0.0) < BASELINE_SERIES
        day = _REFERENCE if learning else int(now // _DAY)
        _add(connection, (name, version, scanner, one.measure, day), Histogram(1.0, one.shares))
        if learning:
            baselines[scanner, one.measure] = baselines.get((scanner, one.measure), 0.0) + 1


def _add(connection: Connection, key: tuple[str, str, str, str, int], more: Histogram) -> None:
    values: dict[str, Any] = dict(zip(("name", "version", "scanner", "measure", "day"), key, strict=True))
    empty = {"series": 0.0, "counts": [0.0] * len(more.counts)}
    connection.execute(insert_or_ignore(connection.dialect, table).values(**values, **empty))
    row = sa.and_(*(table.c[column] == value for column, value in values.items()))
    query = sa.select(table.c.series, table.c.counts).where(row).with_for_update()
    series, counts = connection.execute(query).one()
    # with other bins, an older release began this one
    whole = Histogram(series, tuple(counts)) + more if len(counts) == len(more.counts) else more
    connection.execute(sa.update(table).where(row).values(series=whole.series, counts=list(whole.counts)))


class DriftHistograms:
    """The histograms, and what they say.

    Parameters
    ----------
    database : Database
    clock : callable
        Returns seconds since the epoch.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def calibrate(self, name: str, version: str, scores: Histogram) -> None:
        """Note how a model's scores were distributed when it was calibrated."""
        values: dict[str, Any] = {"name": name, "version": version, "scanner": _CALIBRATION, "measure": Measure.SCORE}
        with self._database.write() as connection:
            same = sa.and_(*(table.c[column] == value for column, value in values.items()))
            if connection.execute(sa.select(table.c.id).where(same)).first() is None:
                row = {"day": _REFERENCE, "series": scores.series, "counts": list(scores.counts)}
                connection.execute(insert_or_ignore(connection.dialect, table).values(**values, **row))

    def drift(self, models: Collection[tuple[str, str]], days: float) -> list[Drift]:
        """Return how far each scanner is from its reference, over a window that ends now.

        Parameters
        ----------
        models : collection of (str, str)
            Name and version of those in force.
        days : float
            Length of the window. Scanners with fewer than ten series in it are left out.
        """
        first = self._clock() / _DAY - days
        recent = sa.or_(table.c.day == _REFERENCE, table.c.day >= first)
        with self._database.read() as connection:
            rows = connection.execute(sa.select(table).where(recent)).mappings().all()
        references: dict[tuple[str, ...], Histogram] = {}
        windows: dict[tuple[str, ...], Histogram] = {}
        for row in rows:
            if (row["name"], row["version"]) not in models or len(row["counts"]) != _bins(row["measure"]):
                continue
            key = (row["name"], row["version"], row["scanner"], row["measure"])
            found = Histogram(row["series"], tuple(row["counts"]))
            into = references if row["day"] == _REFERENCE else windows
            into[key] = into[key] + found if key in into else found
        return [_compared(key, window, references) for key, window in sorted(windows.items()) if _enough(window)]

    def prune(self, days: float) -> int:
        """Remove what is older than the window, and return how many rows."""
        old = sa.and_(table.c.day != _REFERENCE, table.c.day < self._clock() / _DAY - days)
        with self._database.write() as connection:
            return connection.execute(sa.delete(table).where(old)).rowcount


def _bins(measure: str) -> int:
    return len(EDGES[Measure(measure)]) + 1


def _enough(window: Histogram) -> bool:
    return window.series >= LEAST_SERIES


def _compared(key: tuple[str, ...], window: Histogram, references: dict[tuple[str, ...], Histogram]) -> Drift:
    name, version, scanner, measure = key
    reference = references.get((name, version, _CALIBRATION, measure)) or references.get(key, window)
    index, limit = stability_index(window, reference)
    return Drift(name, version, scanner, Measure(measure), index, limit, window.series)
