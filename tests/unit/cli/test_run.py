from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

from pacs_guard.cli.run import _stand_back


def _standing(nice, scheduling, answers):
    before = os.nice(0)
    _stand_back(nice, scheduling)
    found = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    answers.put((os.nice(0) - before, *found))


@pytest.mark.parametrize(
    ("scheduling", "policy"), [("normal", "SCHED_OTHER"), ("batch", "SCHED_BATCH"), ("idle", "SCHED_IDLE")]
)
def test_the_detector_stands_back_in_all_its_threads(scheduling, policy):
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    process = fork.Process(target=_standing, args=(3, scheduling, answers))
    process.start()
    process.join(30)
    assert answers.get() == (3, getattr(os, policy))
