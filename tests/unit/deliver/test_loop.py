from __future__ import annotations

import threading

from structlog.testing import capture_logs

from pacs_guard.deliver import loop as room
from pacs_guard.deliver.loop import Bell, Loop, stop_all
from tests.integration.peers import wait_until


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


def test_a_bell_ends_the_idle_wait_of_every_loop_that_has_it():
    bell, stop, looked = Bell(), threading.Event(), []
    loops = [
        Loop(f"{number}", lambda: bool(looked.append(1)), idle_seconds=60, stop=stop, count_error=print, bell=bell)
        for number in range(2)
    ]
    for loop in loops:
        loop.start()
    wait_until(lambda: len(looked) == 2, seconds=10, what="both wait")
    wait_until(lambda: bell.ring() or len(looked) >= 4, seconds=10, what="both looked again")
    stop.set()
    wait_until(lambda: bell.ring() or stop_all(loops, 0.01), seconds=10, what="both ended")
