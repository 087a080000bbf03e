from __future__ import annotations

import threading

from structlog.testing import capture_logs

from pacs_guard.deliver import loop as room
from pacs_guard.deliver.loop import Loop


def run(step, stop, errors=None, idle_seconds=0.001):
    loop = Loop(
        "deliver:pacs",
        step,
        idle_seconds=idle_seconds,
        stop=stop,
        count_error=(errors if errors is not None else []).append,
    )
    loop.start()
    assert loop.join(10)
    assert not loop.is_alive


def test_a_step_that_raises_is_logged_with_its_trace_counted_and_repeated(monkeypatch):
    monkeypatch.setattr(room, "_FIRST_PAUSE_SECONDS", 0.001)
    stop, errors, calls = threading.Event(), [], []

    def step():
        calls.append(1)
        if len(calls) < 4:
            raise ValueError("odd")
        stop.set()
        return True

    with capture_logs() as logs:
        run(step, stop, errors)
    assert errors == ["deliver:pacs"] * 3
    assert [log["log_level"] for log in logs] == ["error"] * 3
    assert all(log["exc_info"] for log in logs)
    pauses = [log["pause_seconds"] for log in logs]
    assert pauses == [0.001, 0.002, 0.004]


def test_work_is_followed_by_more_work_without_a_wait():
    stop, calls = threading.Event(), []

    def step():
        calls.append(1)
        if len(calls) == 100:
            stop.set()
        return True

    run(step, stop, idle_seconds=3600)
    assert len(calls) == 100


def test_stopping_wakes_a_loop_that_waits():
    stop, waiting = threading.Event(), threading.Event()

    def step():
        waiting.set()
        return False

    loop = Loop("x", step, idle_seconds=3600, stop=stop, count_error=lambda _: None)
    loop.start()
    assert waiting.wait(10)
    stop.set()
    assert loop.join(10)
