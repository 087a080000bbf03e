"""One sync of a folder serves all who asked for it before it began, and its failure is told to all of them."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from pacs_guard.spool.folders import Folder


@pytest.fixture
def slow_sync(monkeypatch):
    """Syncs that take a while; yields what happens to each: None, or the error that it fails with."""
    outcomes, calls = [], []

    def sync(_descriptor):
        calls.append(time.monotonic())
        time.sleep(0.2)
        error = outcomes.pop(0) if outcomes else None
        if error is not None:
            raise error

    monkeypatch.setattr(os, "fsync", sync)
    return outcomes, calls


def in_threads(folder, count):
    errors = []

    def ask():
        try:
            folder.sync()
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return errors


def test_threads_that_come_during_a_sync_share_the_next(tmp_path, slow_sync):
    _, calls = slow_sync
    assert in_threads(Folder(tmp_path), 8) == []
    assert 2 <= len(calls) <= 3, "the first, and one for all who came while it ran"


def test_change_after_a_sync_needs_another(tmp_path, slow_sync):
    _, calls = slow_sync
    folder = Folder(tmp_path)
    folder.sync()
    folder.sync()
    assert len(calls) == 2


def test_failure_is_told_to_all_who_shared_the_sync_and_to_nobody_after_them(tmp_path, slow_sync):
    outcomes, calls = slow_sync
    outcomes += [None, OSError(errno.EIO, "Input/output error"), None]
    folder = Folder(tmp_path)
    errors = in_threads(folder, 6)
    assert len(calls) <= 3
    assert len(errors) >= 3, "those of the second sync"
    folder.sync()
