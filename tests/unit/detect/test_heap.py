from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_ASKS = """
import resource
import numpy as np
from pacs_guard.detect.heap import keep_freed_memory
if not keep_freed_memory():
    raise SystemExit("not taken on")
def work():
    for one in [np.ones(2 << 20, np.float32) for _ in range(6)]:
        one += 1
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    done = subprocess.run([sys.executable, "-c", _ASKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000  # 48 MiB are 12288 pages
