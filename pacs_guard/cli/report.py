"""``pacs-guard report``: the daily report, by command and each morning."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.errors import ConfigurationError, PacsGuardError
from pacs_guard.ops.daily import FORMS, is_due, make_report, write_report
from pacs_guard.queue.outbox import announce

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.ops.daily import DailyReport

_LOG = structlog.get_logger(__name__)
_LOOK_SECONDS = 60.0
_PURGE_SECONDS = 3600.0
_REQUESTS_SECONDS = 90 * 86400.0


def write_daily(config: Path | None, *, day: str | None, json: bool) -> int:
    """Write a day's report, yesterday's by default, and print it.

    Returns
    -------
    int
        0 if it adds up, else 1.

    Raises
    ------
    PacsGuardError
        If it cannot be written.
    """
    stores = open_stores(settings_from(config))
    report = make_report(stores.reports, _day(day), CLOCK())
    try:
        files = write_report(report, stores.settings.reports_dir)
    except OSError as error:
        raise PacsGuardError(
            f"the report cannot be written to {stores.settings.reports_dir}: {error.strerror}"
        ) from error
    typer.echo(FORMS["json" if json else "txt"](report))
    typer.echo(f"written to {', '.join(map(str, files))}", err=True)
    return 0 if report.adds_up else 1


def _day(given: str | None) -> date:
    if given is None:
        return datetime.now(UTC).astimezone().date() - timedelta(days=1)
    try:
        return date.fromisoformat(given)
    except ValueError as error:
        raise ConfigurationError([f"--date: {given!r} was given; expected a date such as 2026-11-24"]) from error


def report_chores(stores: Stores) -> list[tuple[Callable[[], None], float]]:
    """Return what writes the daily report each morning, and forgets what was answered long ago, with its seconds."""
    settings = stores.settings

    def write_daily_report() -> None:
        day = is_due(CLOCK(), settings.report.hour, settings.reports_dir)
        if day is None:
            return
        report = make_report(stores.reports, day, CLOCK())
        write_report(report, settings.reports_dir)
        (_LOG.info if report.adds_up else _LOG.error)("daily report written", day=day.isoformat(), says=report.sentence)
        # a day without instances is no news
        if settings.report.announce and (report.lines or not report.adds_up):
            _announce(stores, report)

    def purge_commitment_requests() -> None:
        if removed := stores.requests.purge(_REQUESTS_SECONDS):
            _LOG.info("old commitment requests removed", count=removed)

    daily = [(write_daily_report, _LOOK_SECONDS)] if settings.report.enabled else []
    return [*daily, (purge_commitment_requests, _PURGE_SECONDS)]


def _announce(stores: Stores, report: DailyReport) -> None:
    facts = {
        "reason": report.sentence,
        "day": report.day.isoformat(),
        "sources": [line.source for line in report.lines],
        "instances": report.total.received,
    }
    with stores.database.write() as connection:
        announce(connection, None, "daily_report", facts, CLOCK())
