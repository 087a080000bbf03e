"""The daily report is written each morning by itself, announced, and printed by command."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from pacs_guard.cli import report
from pacs_guard.cli.report import report_chores, write_daily
from pacs_guard.cli.wiring import open_stores
from pacs_guard.config import load_settings
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import ConfigurationError
from pacs_guard.queue.intake import Intake

TEXT = """
[node]
data_dir = "{folder}"
[[sources]]
name = "ct"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
[report]
hour = 6
{more}
"""
NOON = datetime(2024, 3, 5, 12).astimezone().timestamp()
INSTANCE = StoredInstance(
    id=0,
    key=InstanceKey("1.2", "1.2.1", "1.2.1.1", "0" * 64),
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    path="instances/1",
    offset=0,
    length=1,
    source="ct",
)


@pytest.fixture
def node(tmp_path):
    """Return what makes the chores of a node that received one instance on 5 March, and its stores."""
    opened = []

    def make(more="", *, received=True):
        config = tmp_path / "pacs-guard.toml"
        config.write_text(TEXT.format(folder=tmp_path / "data", more=more))
        stores = open_stores(load_settings(config))
        opened.append(stores)
        if received:
            intake = Intake(stores.database, lambda: NOON, "test")
            intake.open_association("a", calling_ae="CT1", address="10.0.0.1", source="ct")
            intake.record(INSTANCE, calling_ae="CT1", association_id="a")
            intake.close_association("a")
        return stores, {chore.__name__: chore for chore, _ in report_chores(stores)}, config

    yield make
    for stores in opened:
        stores.database.close()


@pytest.fixture
def at(monkeypatch):
    def at(days: int, hour: int) -> None:
        now = (datetime(2024, 3, 5, hour).astimezone() + timedelta(days=days)).timestamp()
        monkeypatch.setattr(report, "CLOCK", lambda: now)

    return at


def announced(stores) -> list[dict]:
    return [one.payload for one in stores.outbox.due(limit=100) if one.event == "daily_report"]


def test_yesterdays_report_is_written_once_from_the_hour_on_and_announced(node, at):
    stores, chores, _ = node()
    at(1, 5)
    chores["write_daily_report"]()
    assert not stores.settings.reports_dir.exists()
    at(1, 6)
    with capture_logs() as logs:
        for _ in range(3):
            chores["write_daily_report"]()
    assert sorted(file.name for file in stores.settings.reports_dir.iterdir()) == [
        f"2024-03-05.{ending}" for ending in ("html", "json", "txt")
    ]
    written = json.loads((stores.settings.reports_dir / "2024-03-05.json").read_text())
    assert (written["total"]["received"], written["total"]["waiting"], written["adds_up"]) == (1, 1, True)
    [line] = [one for one in logs if one["event"] == "daily report written"]
    assert (line["log_level"], line["day"]) == ("info", "2024-03-05")
    [facts] = announced(stores)
    assert facts["reason"].startswith("on 2024-03-05 received 1 = delivered 0")
    assert (facts["day"], facts["sources"], facts["instances"]) == ("2024-03-05", ["ct"], 1)
    assert "1.2" not in json.dumps({key: value for key, value in facts.items() if key != "time"})  # no identifiers


def test_a_day_without_instances_is_written_and_is_no_news(node, at):
    stores, chores, _ = node(received=False)
    at(1, 6)
    chores["write_daily_report"]()
    assert (stores.settings.reports_dir / "2024-03-05.json").exists()
    assert announced(stores) == []


def test_what_does_not_add_up_is_an_error_and_is_announced_even_if_nothing_came(node, at, monkeypatch):
    stores, chores, _ = node(received=False)
    make = report.make_report
    monkeypatch.setattr(report, "make_report", lambda *given: replace(make(*given), ledger_adds_up=False))
    at(1, 6)
    with capture_logs() as logs:
        chores["write_daily_report"]()
    assert [one["log_level"] for one in logs if one["event"] == "daily report written"] == ["error"]
    assert announced(stores)[0]["reason"].endswith("IT DOES NOT ADD UP")


@pytest.mark.parametrize(("more", "written", "told"), [("announce = false", True, 0), ("enabled = false", False, 0)])
def test_a_site_may_do_without(node, at, more, written, told):
    stores, chores, _ = node(more)
    at(1, 6)
    assert ("write_daily_report" in chores) is written
    if written:
        chores["write_daily_report"]()
    assert len(announced(stores)) == told
    assert stores.settings.reports_dir.exists() is written


def test_a_report_that_cannot_be_written_is_not_announced_and_comes_later(node, at):
    stores, chores, _ = node()
    at(1, 6)
    stores.settings.reports_dir.write_text("in the way")
    with pytest.raises(OSError):  # noqa: PT011  # the schedule says so and tries again
        chores["write_daily_report"]()
    assert announced(stores) == []
    stores.settings.reports_dir.unlink()
    chores["write_daily_report"]()
    assert len(announced(stores)) == 1


def test_the_command_writes_the_day_asked_for(node, capsys):
    stores, _, config = node()
    assert write_daily(config, day="2024-03-05", json=True) == 0
    assert json.loads(capsys.readouterr().out)["total"]["received"] == 1
    assert (stores.settings.reports_dir / "2024-03-05.txt").exists()
    with pytest.raises(ConfigurationError, match="expected a date such as"):
        write_daily(config, day="yesterday", json=False)


def test_old_commitment_requests_are_removed(node):
    stores, chores, _ = node()
    chores["purge_commitment_requests"]()
    assert stores.requests.claim("a", 1.0) is None
