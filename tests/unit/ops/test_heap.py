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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such heaps")
def test_work_that_takes_turns_on_many_threads_holds_memory_once():
    shared, own = grown("shared"), grown("own")
    assert shared < 16 < own, f"MiB held with one heap {shared:.0f}, with one for each thread {own:.0f}"
