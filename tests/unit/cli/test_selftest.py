from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from pacs_guard.cli import selftest
from pacs_guard.cli.selftest import run_self_test, self_test_chores
from pacs_guard.config import Settings
from pacs_guard.domain.selftest import SELF_TEST
from pacs_guard.errors import ConfigurationError, SupervisionError
from pacs_guard.ops.roles import role_lock
from pacs_guard.ops.selftest import SelfTestOutcome, last_outcome, write_outcome


def settings(tmp_path, **self_test):
    return Settings(
        node={"data_dir": tmp_path},
        self_test={"enabled": True, "every_hours": 2, **self_test},
        sources=[{"name": "ct", "ae_titles": ["CT1"]}],
        destinations=[{"name": "pacs", "ae_title": "PACS"}],
    )


class Program:
    """Stands in for the test's process, which leaves an outcome."""

    returncode = 0

    def __init__(self, folder, outcome):
        self.folder, self.outcome, self.runs, self.ended = folder, outcome, 0, False

    def __call__(self, command, **_):
        assert command[1:4] == ["-m", "pacs_guard", "self-test"]
        self.runs += 1
        if self.outcome is not None:
            write_outcome(self.folder, self.outcome)
        return self

    def poll(self):
        return self.returncode

    def terminate(self):
        self.ended = True

    def wait(self):
        assert self.ended


def test_its_source_and_destination_exist_where_it_is_enabled(tmp_path):
    enabled = settings(tmp_path)
    assert [source.name for source in enabled.sources] == ["ct", SELF_TEST]
    assert [destination.name for destination in enabled.destinations] == ["pacs", SELF_TEST]
    assert enabled.sources[1].addresses == ("127.0.0.0/8", "::1/128")
    assert [source.name for source in settings(tmp_path, enabled=False).sources] == ["ct"]


@pytest.mark.parametrize("source", [{"name": SELF_TEST, "ae_titles": ["X"]}, {"name": "x", "ae_titles": ["SELFTEST"]}])
def test_nobody_else_may_have_its_names(source):
    with pytest.raises(ValueError, match="belongs to the self-test"):
        Settings(self_test={"enabled": True}, sources=[source], destinations=[{"name": "pacs", "ae_title": "PACS"}])


def test_it_is_run_when_its_time_has_come_and_not_before(tmp_path, monkeypatch):
    now = 10_000.0
    monkeypatch.setattr(selftest, "CLOCK", lambda: now)
    program = Program(tmp_path / "run", SelfTestOutcome(ok=True, reason="", at=now, seconds=1.0))
    monkeypatch.setattr(selftest.subprocess, "Popen", program)
    [(chore, _)] = self_test_chores(settings(tmp_path), None, threading.Event())
    chore()
    chore()
    assert program.runs == 1
    now += 7300
    program.outcome = SelfTestOutcome(ok=False, reason="held", at=now, seconds=1.0)
    chore()
    assert program.runs == 2
    assert last_outcome(tmp_path / "run") == program.outcome
    assert self_test_chores(settings(tmp_path, enabled=False), None, threading.Event()) == []


def test_a_test_that_leaves_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(selftest.subprocess, "Popen", Program(tmp_path, None))
    [(chore, _)] = self_test_chores(settings(tmp_path), None, threading.Event())
    with pytest.raises(SupervisionError, match="left no outcome"):
        chore()


def test_while_somebody_runs_one_by_hand_the_scheduled_one_is_skipped(tmp_path, monkeypatch):
    program = Program(tmp_path, None)
    monkeypatch.setattr(selftest.subprocess, "Popen", program)
    [(chore, _)] = self_test_chores(settings(tmp_path), None, threading.Event())
    with role_lock(tmp_path / "run", "self-test"), capture_logs() as logs:
        chore()
    assert program.runs == 0
    [line] = logs
    assert (line["log_level"], line["event"]) == ("info", "scheduled self-test skipped: another one is under way")


def test_one_begun_by_hand_while_the_scheduled_one_starts_is_no_error(tmp_path, monkeypatch):
    with ExitStack() as stack:

        class Late(Program):
            def __call__(self, command, **more):
                stack.enter_context(role_lock(tmp_path / "run", "self-test"))
                return super().__call__(command, **more)

        program = Late(tmp_path, None)
        program.returncode = 78
        monkeypatch.setattr(selftest.subprocess, "Popen", program)
        [(chore, _)] = self_test_chores(settings(tmp_path), None, threading.Event())
        with capture_logs() as logs:
            chore()
    assert program.runs == 1
    assert [line["log_level"] for line in logs] == ["info"]


def test_it_ends_with_the_role(tmp_path, monkeypatch):
    program = Program(tmp_path, None)
    program.returncode = None
    monkeypatch.setattr(selftest.subprocess, "Popen", program)
    stop = threading.Event()
    stop.set()
    [(chore, _)] = self_test_chores(settings(tmp_path), None, stop)
    chore()
    assert program.ended


def test_a_node_without_it_says_what_is_missing(tmp_path):
    file = tmp_path / "pacs-guard.toml"
    text = '[[sources]]\nname = "ct"\nae_titles = ["CT1"]\n[[destinations]]\nname = "pacs"\nae_title = "PACS"\n'
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"self_test\.enabled is false"):
        run_self_test(file, json=False)


def test_an_outcome_of_another_release_is_none(tmp_path):
    (tmp_path / "self-test.json").write_text('{"success": true}')
    assert last_outcome(tmp_path) is None
