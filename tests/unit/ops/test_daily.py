"""The daily report adds up, is written for people and programs, and is due once a day."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, date, datetime

import pytest

from pacs_guard.ops.daily import DailyReport, as_html, as_json, as_text, bounds, is_due, make_report, write_report
from pacs_guard.queue.ledger import LedgerLine

LINES = (
    LedgerLine("ct-1", received=10, delivered=7, proved=5, unproved=1, proving=1, held=2, waiting=1),
    LedgerLine("ct-<2>", received=4, delivered=3, unasked=3, failed=1, refused=2),
)
LISTED = {"study_id": 7, "study_uid": "1.2", "sop_uid": "1.2.3", "destination": "pacs", "status": 0, "error": "<gone>"}


def report(lines=LINES, **changes) -> DailyReport:
    values = {"ledger_adds_up": True, "given_up": (), "unproved": (LISTED,), **changes}
    return DailyReport(day=date(2026, 11, 24), made_at=1.8e9, lines=lines, **values)


def test_the_sentence_is_the_sum_and_says_when_it_does_not_add_up():
    assert report().sentence == (
        "on 2026-11-24 received 14 = delivered 10 (proved 5, proving 1, unproved 1, unasked 3) + held 2 + waiting 1 "
        "+ failed 1; it adds up"
    )
    assert report(ledger_adds_up=False).sentence.endswith("IT DOES NOT ADD UP")
    assert not report((LedgerLine("ct", received=2, delivered=1, proved=1),)).adds_up


def test_text_and_page_show_every_source_and_nothing_is_markup():
    text = as_text(report())
    assert "unproved: study 7 instance 1.2.3 to pacs: <gone>" in text
    assert [line.split()[0] for line in text.splitlines()[2:6]] == ["source", "ct-1", "ct-<2>", "all"]
    page = as_html(report())
    assert "<td>ct-&lt;2&gt;</td><td>4</td><td>3</td>" in page
    assert "&lt;gone&gt;" in page
    assert "<gone>" not in page


def test_a_long_list_is_cut_for_people_only():
    many = report(unproved=(LISTED,) * 201)
    assert as_text(many).count("instance 1.2.3") == 200
    assert as_text(many).endswith("unproved: 1 more; the JSON has them all\n")
    assert as_json(many).count('"1.2.3"') == 201


def test_files_are_for_their_owner_and_the_json_is_complete(tmp_path):
    files = write_report(report(), tmp_path / "reports")
    assert sorted(file.name for file in files) == ["2026-11-24.html", "2026-11-24.json", "2026-11-24.txt"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert len(list((tmp_path / "reports").iterdir())) == 3
    content = json.loads((tmp_path / "reports" / "2026-11-24.json").read_text())
    assert content["adds_up"] is True
    assert content["total"]["delivered"] == 10
    assert content["sources"][0]["adds_up"] is True
    assert content["unproved"] == [LISTED]


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_days_are_local_and_the_longest_has_twenty_five_hours():
    start, end = bounds(date(2026, 11, 24))
    assert datetime.fromtimestamp(start, UTC) == datetime(2026, 11, 23, 23, tzinfo=UTC)
    assert end - start == 24 * 3600
    start, end = bounds(date(2026, 10, 25))
    assert end - start == 25 * 3600


@pytest.mark.usefixtures("berlin")
def test_yesterday_is_due_once_from_the_hour_on(tmp_path):
    early = datetime(2026, 11, 25, 4, 59, tzinfo=UTC).timestamp()
    assert is_due(early, 6, tmp_path) is None
    assert is_due(early + 60, 6, tmp_path) == date(2026, 11, 24)
    write_report(report(), tmp_path)
    assert is_due(early + 3600, 6, tmp_path) is None
    assert "TZ" in os.environ


def test_a_day_counts_what_came_on_it_wherever_it_is_now():
    class Reports:
        def received_between(self, start, end):
            assert (start, end) == bounds(date(2026, 11, 24))
            return list(LINES)

        def ledger(self):
            return [LedgerLine("ct", received=1)]

        def given_up(self):
            return []

        def unproved(self):
            return [LISTED]

    found = make_report(Reports(), date(2026, 11, 24), 5.0)
    assert found.lines == LINES
    assert not found.ledger_adds_up
    assert not found.adds_up
