from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from pacs_guard.errors import SupervisionError
from pacs_guard.ops import supervisor
from pacs_guard.ops.supervisor import Supervisor, role_commands

SLEEPER = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def running(monkeypatch):
    monkeypatch.setattr(supervisor, "_FIRST_WAIT_SECONDS", 0.05)
    started = []

    def start(commands):
        one = Supervisor(commands, stop_seconds=5.0)
        stop = threading.Event()
        errors = []

        def run():
            try:
                one.run(stop)
            except SupervisionError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        started.append((thread, stop))
        return one, stop, thread, errors

    yield start
    for thread, stop in started:
        stop.set()
        thread.join(20)


def test_a_killed_role_is_started_again(running):
    one, _, _, _ = running({"detect": SLEEPER})
    until(lambda: "detect" in one.processes())
    first = one.processes()["detect"]
    os.kill(first, signal.SIGKILL)
    until(lambda: one.processes().get("detect", first) != first)


def test_the_end_stops_every_role(running):
    one, stop, thread, _ = running({"detect": SLEEPER, "deliver": SLEEPER})
    until(lambda: len(one.processes()) == 2)
    pids = list(one.processes().values())
    stop.set()
    thread.join(20)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


_STUBBORN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


def test_a_role_that_ignores_the_request_to_stop_is_killed(running, tmp_path):
    ready = tmp_path / "ready"
    one, stop, thread, _ = running({"detect": [sys.executable, "-c", _STUBBORN, str(ready)]})
    until(ready.exists)
    one._stop_seconds = 0.1
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_role_that_cannot_run_as_configured_stops_the_node(running):
    failing = [sys.executable, "-c", "import sys; sys.exit(78)"]
    _, _, thread, errors = running({"receive": failing, "detect": SLEEPER})
    thread.join(20)
    assert not thread.is_alive()
    assert "the role receive cannot run as configured" in str(errors[0])


def test_the_commands_run_this_interpreter_under_supervision(tmp_path):
    commands = role_commands(["ops"], tmp_path / "c.toml")
    assert commands["ops"] == [
        sys.executable, "-m", "pacs_guard", "run", "ops", "--supervised", "--config", str(tmp_path / "c.toml"),
    ]  # fmt: skip


_RELOADS = """
import pathlib, signal, sys, time
time.sleep(0.2)
signal.signal(signal.SIGHUP, lambda *_: pathlib.Path(sys.argv[1]).touch())
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
sys.stdin.read()
"""


def test_a_request_to_reload_reaches_every_role_even_one_that_is_still_starting(running, tmp_path):
    asked = [tmp_path / name for name in ("receive", "detect")]
    one, _, _, _ = running({file.name: [sys.executable, "-c", _RELOADS, str(file)] for file in asked})
    until(lambda: len(one.processes()) == 2)
    pids = one.processes()
    one.request_reload()
    until(lambda: all(file.exists() for file in asked))
    assert one.processes() == pids


_WORKED_ONCE = """
import pathlib, sys, time
worked = pathlib.Path(sys.argv[1])
if worked.exists():
    sys.exit(78)
worked.touch()
time.sleep(0.4)
"""


def test_a_role_that_has_worked_is_tried_again_although_its_settings_are_being_edited(running, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_STABLE_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "_LONGEST_WAIT_SECONDS", 0.05)
    one, _, thread, errors = running(
        {"receive": [sys.executable, "-c", _WORKED_ONCE, str(tmp_path / "worked")], "detect": SLEEPER}
    )
    until(lambda: one._roles[0].restarts >= 3)
    assert thread.is_alive()
    assert errors == []
    assert "detect" in one.processes()


def test_several_receivers_are_processes_of_their_own(tmp_path):
    commands = role_commands(["receive", "ops"], tmp_path / "c.toml", receivers=3)
    assert sorted(commands) == ["ops", "receive", "receive-2", "receive-3"]
    assert commands["receive-3"][-2:] == ["--process", "3"]
    assert "--process" not in commands["receive"]
