"""Commits come in groups, and nothing is claimed that was not answered."""

from __future__ import annotations

import itertools

import pytest

from pacs_guard.deliver import progress as module
from pacs_guard.deliver.progress import Progress
from pacs_guard.errors import LeaseLostError, QueueUnavailableError


class Time:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch):
    still = Time()
    monkeypatch.setattr(module, "time", still)
    return still


class Queue:
    """Remembers what was written."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.groups: list[list[int]] = []
        self.calls: list[str] = []
        self.broken = False
        self.lost = False
        self.commit_seconds = 0.0

    def items_delivered(self, delivery, items, *, seconds):
        if self.broken:
            raise QueueUnavailableError("locked")
        self.time.sleep(self.commit_seconds)
        self.groups.append([item.instance_id for item in items])
        if self.lost:
            raise LeaseLostError("re-opened")

    def item_failed(self, delivery, instance_id, **what):
        self.calls.append(f"failed {instance_id} after {[*itertools.chain(*self.groups)]}")

    def renew(self, delivery, seconds):
        self.calls.append("renewed")
        if self.lost:
            raise LeaseLostError("re-opened")


@pytest.fixture
def queue(time):
    return Queue(time)


@pytest.fixture
def progress(queue):
    return Progress(queue, None, 60.0, queue.time.monotonic)


def note(progress, number):
    progress.delivered(number, status=0, transcoded_to=None)


def test_the_first_is_written_at_once_and_a_quick_rest_together(queue, progress):
    for number in range(1, 6):
        note(progress, number)
    assert queue.groups == [[1]]
    progress.flush()
    assert queue.groups == [[1], [2, 3, 4, 5]]


def test_what_comes_slowly_is_written_one_by_one(queue, progress, time):
    for number in range(1, 4):
        note(progress, number)
        time.sleep(1.5 * module.SHORTEST_PAUSE_SECONDS)
    assert queue.groups == [[1], [2], [3]]


def test_a_slow_disk_makes_larger_groups(queue, progress, time):
    queue.commit_seconds = 0.02
    for number in range(1, 802):
        note(progress, number)
        time.sleep(0.001)
    # a commit of 20 ms may follow after 400 ms
    assert [len(group) for group in queue.groups] == [1, 400, 400]


def test_a_failure_is_written_after_what_was_delivered_before_it(queue, progress):
    note(progress, 1)
    note(progress, 2)
    progress.failed(3, status=0xA700, error="full", permanent=False)
    assert queue.calls == ["failed 3 after [1, 2]"]


def test_waiting_for_an_answer_does_not_leave_earlier_ones_unwritten(queue, progress):
    note(progress, 1)
    note(progress, 2)
    progress.alive()
    assert queue.groups == [[1], [2]]
    assert queue.calls == []


def test_a_long_wait_renews_the_lease(queue, time):
    progress = Progress(queue, None, 0.04, time.monotonic)
    time.sleep(0.02)
    progress.alive()
    assert queue.calls == ["renewed"]


def test_what_could_not_be_written_is_tried_once_more(queue, progress):
    queue.broken = True
    with pytest.raises(QueueUnavailableError):
        note(progress, 1)
    queue.broken = False
    progress.flush()
    assert queue.groups == [[1]]


def test_a_study_lost_within_a_transfer_ends_it_only_when_the_answer_is_written_down(queue, progress):
    progress.delivered(1, status=0, transcoded_to=None)
    progress.delivered(2, status=0, transcoded_to=None)
    queue.lost = True
    progress.alive()
    progress.alive()
    with pytest.raises(LeaseLostError, match="re-opened"):
        progress.delivered(3, status=0, transcoded_to=None)
    assert queue.groups == [[1], [2], [3]]


def test_a_lease_that_cannot_be_renewed_is_told_with_the_next_answer(queue, progress, time):
    progress.delivered(1, status=0, transcoded_to=None)
    time.sleep(100.0)
    queue.lost = True
    progress.alive()
    queue.lost = False
    with pytest.raises(LeaseLostError, match="re-opened"):
        progress.delivered(2, status=0, transcoded_to=None)
    assert queue.groups == [[1], [2]]
