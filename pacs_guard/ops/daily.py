"""The daily report: what came on a day, by source, and where it is now; for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from pacs_guard.queue.ledger import LedgerLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pacs_guard.queue.reports import Reports

_COLUMNS = tuple(field.name for field in fields(LedgerLine) if field.name not in {"source", "duplicates"})
_MOST_REMARKS = 200
_STYLE = "body{font-family:sans-serif}td,th{padding:.2em .8em;text-align:right}td:first-child{text-align:left}"


@dataclass(frozen=True, slots=True)
class DailyReport:
    """One day.

    Attributes
    ----------
    day : date
        In the machine's local time.
    made_at : float
        Seconds since the epoch.
    lines : tuple of LedgerLine
        What came on that day from each source, and where it is now.
    ledger_adds_up : bool
        Whether everything that ever came is somewhere.
    given_up, unproved : tuple of dict
        Instances of any day that a destination did not take, or did not vouch for.
    """

    day: date
    made_at: float
    lines: tuple[LedgerLine, ...]
    ledger_adds_up: bool
    given_up: tuple[dict[str, object], ...]
    unproved: tuple[dict[str, object], ...]

    @property
    def adds_up(self) -> bool:
        """Whether everything that came on the day, and ever, is somewhere."""
        return self.ledger_adds_up and all(line.adds_up for line in self.lines)

    @property
    def total(self) -> LedgerLine:
        """The sum over all sources."""
        return LedgerLine("all", **{name: sum(getattr(line, name) for line in self.lines) for name in _COLUMNS})

    @property
    def sentence(self) -> str:
        """The day in one sentence, without identifiers."""
        total = self.total
        return (
            f"on {self.day.isoformat()} received {total.received} = delivered {total.delivered} "
            f"(proved {total.proved}, proving {total.proving}, unproved {total.unproved}, unasked {total.unasked}) "
            f"+ held {total.held} + waiting {total.waiting} + failed {total.failed}; "
            f"{'it adds up' if self.adds_up else 'IT DOES NOT ADD UP'}"
        )


def bounds(day: date) -> tuple[float, float]:
    """Return when a day begins and ends in the machine's local time, seconds since the epoch."""
    return _midnight(day), _midnight(day + timedelta(days=1))


def _midnight(day: date) -> float:
    return datetime.combine(day, time()).astimezone().timestamp()


def make_report(reports: Reports, day: date, now: float) -> DailyReport:
    """Count a day."""
    return DailyReport(
        day=day,
        made_at=now,
        lines=tuple(reports.received_between(*bounds(day))),
        ledger_adds_up=all(line.adds_up for line in reports.ledger()),
        given_up=tuple(reports.given_up()),
        unproved=tuple(reports.unproved()),
    )


def as_json(report: DailyReport) -> str:
    """Return a report for programs."""
    content: dict[str, Any] = {
        "date": report.day.isoformat(),
        "made_at": datetime.fromtimestamp(report.made_at, UTC).isoformat(timespec="seconds"),
        "adds_up": report.adds_up,
        "ledger_adds_up": report.ledger_adds_up,
        "sources": [_counts(line) for line in report.lines],
        "total": _counts(report.total),
        "given_up": report.given_up,
        "unproved": report.unproved,
    }
    return json.dumps(content, indent=2)


def _counts(line: LedgerLine) -> dict[str, Any]:
    return {name: value for name, value in asdict(line).items() if name != "duplicates"} | {"adds_up": line.adds_up}


def as_text(report: DailyReport) -> str:
    """Return a report for people."""
    rows = list(_rows(report))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([report.sentence, "", *table, "", *_remarks(report)]).rstrip() + "\n"


def as_html(report: DailyReport) -> str:
    """Return a report for a browser."""
    header, *rows = _rows(report)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in _remarks(report))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{report.day.isoformat()}</title>"
        f"<style>{_STYLE}</style><h1>{report.day.isoformat()}</h1><p>{escape(report.sentence)}</p>"
        f"<table><tr>{head}</tr>{body}</table><ul>{remarks}</ul></html>"
    )


def _rows(report: DailyReport) -> Iterable[Sequence[str]]:
    yield ["source", *_COLUMNS]
    for line in (*report.lines, report.total):
        yield [line.source, *(str(getattr(line, name)) for name in _COLUMNS)]


def _remarks(report: DailyReport) -> list[str]:
    remarks = []
    for what, items in (("given up", report.given_up), ("unproved", report.unproved)):
        remarks += [
            f"{what}: study {item['study_id']} instance {item['sop_uid']} to {item['destination']}: {item['error']}"
            for item in items[:_MOST_REMARKS]
        ]
        if len(items) > _MOST_REMARKS:
            remarks.append(f"{what}: {len(items) - _MOST_REMARKS} more; the JSON has them all")
    return remarks


FORMS: dict[str, Callable[[DailyReport], str]] = {"json": as_json, "txt": as_text, "html": as_html}
"""By the file's ending."""


def write_report(report: DailyReport, folder: Path) -> list[Path]:
    """Write a report in every form, readable by its owner only, and return the files; the JSON comes last.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for ending in sorted(FORMS, key=lambda ending: ending == "json"):
        file = folder / f"{report.day.isoformat()}.{ending}"
        temporary = file.with_name(f".{file.name}")
        temporary.write_text(FORMS[ending](report), encoding="utf-8")
        temporary.chmod(0o600)
        written.append(temporary.replace(file))
    return written


def is_due(now: float, hour: int, folder: Path) -> date | None:
    """Return yesterday, if its report is to be written by now and is not there."""
    local = datetime.fromtimestamp(now, UTC).astimezone()
    day = local.date() - timedelta(days=1)
    return None if local.hour < hour or (folder / f"{day.isoformat()}.json").exists() else day
