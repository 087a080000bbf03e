"""Waiting for others to come again."""

import threading
import time

from pacs_guard.receive.company import Company


def test_those_who_are_gone_are_waited_for_once():
    company, lock = Company(), threading.Lock()
    company.preparing_took(0.02)
    for _ in range(3):
        company.comes()
    for _ in range(2):
        company.leaves()
    started = time.monotonic()
    company.gather(lock)
    waited = time.monotonic() - started
    company.gather(lock)
    assert waited >= 0.009
    assert time.monotonic() - started < waited + 0.005


def test_a_wait_ends_with_the_last_who_was_here_lately():
    company, lock = Company(), threading.Lock()
    company.preparing_took(10.0)
    company.comes()
    company.comes()
    company.leaves()
    threading.Timer(0.002, company.comes).start()
    started = time.monotonic()
    company.gather(lock)
    assert time.monotonic() - started < 0.0095


def test_a_quick_disk_is_worth_no_wait():
    company = Company()
    assert not company.is_worth_waiting_for
    company.preparing_took(0.0004)
    assert not company.is_worth_waiting_for
    company.preparing_took(0.02)
    assert company.is_worth_waiting_for
