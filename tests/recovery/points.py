"""Where a process can be struck: every step between a byte's arrival and the last answer, in one table."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

RECEIVE, OPS, DETECT, DELIVER = "receive", "ops", "detect", "deliver"
ROLES = (RECEIVE, OPS, DETECT, DELIVER)
PROCESSES = (RECEIVE, "receive-2", OPS, DETECT, DELIVER)
"""Two receivers share one port."""


def role_of(process: str) -> str:
    """Return the role that a process of `PROCESSES` has."""
    return process.partition("-")[0]


COMMIT = "sqlalchemy.engine.default:DefaultDialect.do_commit"
POINTS: dict[str, tuple[str, ...]] = {
    RECEIVE: (
        "pacs_guard.queue.intake:Intake.open_association",
        "pacs_guard.spool.incoming:IncomingFile.write",
        "pacs_guard.spool.incoming:IncomingFile.place",
        "os:fsync",
        "os:rename",
        "pacs_guard.spool.segment:Segment._made",
        "pacs_guard.spool.segment:Segment.append",
        "pacs_guard.spool.segment:Segment.settle",
        "os:pwritev",
        "os:fdatasync",
        "pacs_guard.spool.store:Spool.sync",
        "pacs_guard.queue.intake:Intake.record_all",
        COMMIT,
        "pacs_guard.receive.storage:Storage.finish",
        "pacs_guard.queue.intake:Intake.close_association",
    ),
    OPS: ("pacs_guard.queue.assessing:Assessing.complete_quiet", COMMIT),
    DETECT: (
        "pacs_guard.queue.assessing:Assessing.claim",
        "pacs_guard.detect.worker:assess_series",
        "pacs_guard.queue.assessing:Assessing.decide",
        COMMIT,
    ),
    DELIVER: (
        "pacs_guard.queue.forwarding:Forwarding.claim",
        "pacs_guard.deliver.fast:FastChannel.exchange",
        "pacs_guard.deliver.fast:FastChannel.close",
        "pacs_guard.queue.forwarding:Forwarding.items_delivered",
        "pacs_guard.queue.forwarding:Forwarding.finish",
        COMMIT,
    ),
}
"""What each role calls on the way of an instance, as ``module:name``. The call can be struck before or after it."""

FAILING: dict[str, tuple[tuple[str, str], ...]] = {
    RECEIVE: (
        ("os:fsync", "EIO"),
        ("os:fsync", "ENOSPC"),
        ("os:rename", "ENOSPC"),
        ("os:writev", "ENOSPC"),
        ("os:posix_fallocate", "ENOSPC"),
        ("os:pwritev", "ENOSPC"),
        ("os:pwritev", "EIO"),
        ("os:fdatasync", "EIO"),
        (COMMIT, "database or disk is full"),
    ),
    OPS: ((COMMIT, "disk I/O error"),),
    DETECT: ((COMMIT, "database or disk is full"),),
    DELIVER: ((COMMIT, "disk I/O error"),),
}
"""Calls that can fail instead of doing their work, and with which error."""


@dataclass(frozen=True)
class Strike:
    """What is to happen to a process.

    Attributes
    ----------
    point : str
        One of `POINTS` or `FAILING`.
    call : int
        Which call of it, counted from one.
    when : str
        ``before``, ``after``, or the error that the call fails with.
    """

    point: str
    call: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} call {self.call} of {self.point}"


def arm(strike: Strike, fired: Any) -> None:
    """Let it happen to this process; `fired` is a shared counter that tells the others."""
    holder, name = _find(strike.point)
    original = getattr(holder, name)
    lock, calls = threading.Lock(), 0

    def struck(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            mine = calls == strike.call
        if not mine:
            return original(*arguments, **options)
        fired.value += 1
        if strike.when == "before":
            _die()
        if strike.when != "after":
            raise _error(strike.when)
        result = original(*arguments, **options)
        _die()
        return result

    setattr(holder, name, struck)


def _find(point: str) -> tuple[Any, str]:
    module, _, path = point.partition(":")
    holder: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    assert callable(getattr(holder, name)), f"{point} is gone: bring the table of points up to date"
    return holder, name


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _error(text: str) -> Exception:
    import errno  # noqa: PLC0415  # only here
    import sqlite3  # noqa: PLC0415  # only here

    if text in errno.errorcode.values():
        number = getattr(errno, text)
        return OSError(number, os.strerror(number))
    return sqlite3.OperationalError(text)
