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


def test_what_cannot_be_prepared_is_not_committed_and_fails_nobody_else():
    committed = []

    def prepare(items):
        time.sleep(0.002)
        return [OSError(item) if item % 3 == 0 else None for item in items]

    group = Group(lambda items: (committed.extend(items), items)[1], prepare)
    results = in_threads(group.submit, 12)
    assert {number for number, result in results.items() if isinstance(result, OSError)} == {0, 3, 6, 9}
    assert sorted(committed) == [number for number in range(12) if number % 3]


def test_one_group_is_prepared_while_another_is_committed():
    both = threading.Barrier(2, timeout=20)
    first = threading.Event()

    def prepare(items):
        if items == [1]:
            both.wait()  # breaks unless the commit of 0 is under way
        return [None for _ in items]

    def commit(items):
        if items == [0]:
            first.set()
            both.wait()
        return items

    group = Group(commit, prepare)
    group._company.preparing_took(1.0)  # as on a slow disk
    results = {}

    def submit(number):
        results[number] = group.submit(number)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(2)]
    threads[0].start()
    assert first.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join(20)
    assert results == {0: 0, 1: 1}


def test_what_many_groups_prepared_meanwhile_is_committed_together():
    committed, prepared = [], []
    may_commit = threading.Event()

    def prepare(items):
        prepared.extend(items)
        return [None for _ in items]

    def commit(items):
        may_commit.wait(20)
        committed.append(len(items))
        return items

    group = Group(commit, prepare)
    group._company.preparing_took(1.0)
    threads = [threading.Thread(target=group.submit, args=(number,)) for number in range(6)]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        end = time.monotonic() + 20
        while len(prepared) < number and time.monotonic() < end:
            time.sleep(0.001)
    may_commit.set()
    for thread in threads:
        thread.join(20)
    assert committed == [1, 5]


def test_on_a_slow_disk_those_who_were_here_lately_are_waited_for():
    sizes = []

    def prepare(items):
        sizes.append(len(items))
        time.sleep(0.03)
        return [None for _ in items]

    def work(number):
        for _ in range(8):
            group.submit(number)
            time.sleep(0.001 * number)  # they come back one after the other

    group = Group(list, prepare)
    in_threads(work, 4)
    assert sum(sizes) == 32
    assert len(sizes) <= 20, sizes
