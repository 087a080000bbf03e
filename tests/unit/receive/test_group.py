"""Group commit: whoever comes first commits for all, and nobody is failed by a neighbour."""

from __future__ import annotations

import threading
import time

import pytest

from pacs_guard.receive.group import Group


def in_threads(work, count):
    results = {}

    def run(number):
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001  # compared by the test
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a thread was never woken"
    return results


def test_a_single_thread_commits_at_once():
    groups = []
    group = Group(lambda items: (groups.append(list(items)), items)[1])
    assert [group.submit(number) for number in range(3)] == [0, 1, 2]
    assert groups == [[0], [1], [2]]


def test_threads_share_commits_and_each_gets_its_own_result():
    groups = []

    def commit(items):
        groups.append(len(items))
        time.sleep(0.01)
        return [item * 10 for item in items]

    group = Group(commit)
    results = in_threads(lambda number: [group.submit(number * 100 + step) for step in range(10)], 12)
    assert results == {number: [(number * 100 + step) * 10 for step in range(10)] for number in range(12)}
    assert sum(groups) == 120
    assert len(groups) < 60


def test_group_is_never_larger_than_allowed():
    groups = []

    def commit(items):
        groups.append(len(items))
        time.sleep(0.005)
        return items

    group = Group(commit, largest=3)
    in_threads(group.submit, 20)
    assert max(groups) <= 3
    assert sum(groups) == 20


def test_only_the_item_that_fails_fails():
    def commit(items):
        time.sleep(0.005)
        return [ValueError(item) if item == 3 else item for item in items]

    group = Group(commit)
    results = in_threads(group.submit, 8)
    assert isinstance(results.pop(3), ValueError)
    assert results == {number: number for number in range(8) if number != 3}


def test_a_commit_that_raises_is_told_to_all_and_the_next_goes_on():
    broken = threading.Event()
    broken.set()

    def commit(items):
        time.sleep(0.005)
        if broken.is_set():
            raise RuntimeError("a fault")
        return items

    group = Group(commit)
    assert all(isinstance(result, RuntimeError) for result in in_threads(group.submit, 8).values())
    broken.clear()
    assert in_threads(group.submit, 8) == {number: number for number in range(8)}


def test_results_that_do_not_fit_are_an_error_for_all():
    group = Group(lambda _items: [])
    with pytest.raises(ValueError, match="0 results for a group of 1"):
        group.submit(1)
