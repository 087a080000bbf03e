"""CPU time and memory of a process and of all that it started, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """Process ids of `root` and its descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += map(int, task.read_text().split())
            except OSError:  # ended in the meantime
                continue
    return found


def cpu_seconds(root: int) -> float:
    """CPU time of a process tree, ended children included."""
    total = 0
    for pid in tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended in the meantime
            continue
        total += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return total / _TICKS


def peak_mib(root: int) -> float:
    """Peak resident memory of the processes of a tree that still run, added up."""
    total = 0
    for pid in tree(root):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # ended in the meantime
            continue
        line = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
        total += int(line.split()[1])
    return total / 1024


def reset_peak(root: int) -> None:
    """Let the peaks start anew."""
    for pid in tree(root):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
