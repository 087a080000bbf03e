"""Work that takes turns on many threads holds no more memory than on one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pacs_guard.ops.heap import share_one_heap

THREADS = 8
if sys.argv[1] == "shared":
    assert share_one_heap()

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024

def work():
    everything = [bytes(2000 + number % 500) for number in range(4000)]  # 9 MB
    kept.append(everything[::1000])

kept, turn, together = [], threading.Lock(), threading.Barrier(THREADS)

def one():
    with turn:
        work()
    together.wait()

with ThreadPoolExecutor(THREADS) as threads:
    before = resident()
    for done in [threads.submit(one) for _ in range(THREADS)]:
        done.result()
    print(resident() - before)
"""


def grown(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


FREED = """
from pathlib import Path

from pacs_guard.ops.heap import give_back_memory

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024

before = resident()
everything = [bytes(3000) for _ in range(20_000)]  # 60 MB
kept = everything[-1:]
del everything
held = resident() - before
give_back_memory()
print(held, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_what_is_freed_below_something_that_stays_is_given_back():
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    held, left = map(float, done.stdout.split())
    assert held > 40
    assert left < 8, f"MiB held {held:.0f}, and after giving back {left:.0f}"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such heaps")
def test_work_that_takes_turns_on_many_threads_holds_memory_once():
    shared, own = grown("shared"), grown("own")
    assert shared < 16 < own, f"MiB held with one heap {shared:.0f}, with one for each thread {own:.0f}"
