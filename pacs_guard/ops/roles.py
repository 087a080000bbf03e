"""What every role process shares: its lock, its heartbeat, and the wish to stop."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pacs_guard.errors import SupervisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEARTBEAT_SECONDS = 5.0
ROLES = ("receive", "detect", "deliver", "ops")


def process_name(role: str, number: int) -> str:
    """Return the name of a role's process, under which it has its lock, its heartbeat and its associations."""
    return role if number == 1 else f"{role}-{number}"


def known_processes(folder: Path) -> list[str]:
    """Return the name of each role, and of its further processes that ever ran on this folder, in order."""
    numbers = {role: {1} for role in ROLES}
    for file in folder.glob("*-*.lock"):
        role, _, number = file.stem.rpartition("-")
        if role in numbers and number.isdecimal():
            numbers[role].add(int(number))
    return [process_name(role, number) for role in ROLES for number in sorted(numbers[role])]


@contextmanager
def role_lock(folder: Path, role: str, *, wait_seconds: float = 20.0) -> Iterator[None]:
    """Hold the role's lock while the block runs, so that no role runs twice on one data folder.

    The lock's file names the process that holds it.

    Raises
    ------
    SupervisionError
        If another process still holds it after `wait_seconds`, or the folder is not writable.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (folder / f"{role}.lock").open("a+")
    except OSError as error:
        raise SupervisionError(f"{folder} is not writable: {error.strerror}; set node.data_dir or its owner") from error
    with file:
        _lock(file, role, folder, time.monotonic() + wait_seconds)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _lock(file: IO[str], role: str, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise SupervisionError(
                    f"another pacs-guard {role} already runs on {folder.parent}; stop it first"
                ) from error
            time.sleep(0.1)
        else:
            return


def holder(folder: Path, role: str) -> int | None:
    """Return the id of the process that holds a role's lock, None if nobody does."""
    try:
        with (folder / f"{role}.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
    except (OSError, ValueError):  # never run here, or about to write its id
        return None
    return None


class Heartbeat:
    """Touches a file while the process lives and its `alive` check holds.

    Parameters
    ----------
    folder : Path
        Where the files of all roles lie.
    role : str
    alive : callable, optional
        Returns False when the role's work has stopped although its process has not.
    """

    def __init__(self, folder: Path, role: str, alive: Callable[[], bool] | None = None) -> None:
        self._file = folder / f"{role}.heartbeat"
        self._alive = alive or (lambda: True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin touching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and remove the file: a role that ended on purpose is not late."""
        self._stop.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            if self._alive():
                self._file.touch()
            if self._stop.wait(HEARTBEAT_SECONDS):
                return


def heartbeat_ages(folder: Path, now: float) -> dict[str, float]:
    """Return seconds since each role that ever ran here was last heard of."""
    ages = {}
    for file in folder.glob("*.heartbeat"):
        try:
            ages[file.stem] = max(0.0, now - file.stat().st_mtime)
        except FileNotFoundError:  # stopped since the folder was listed
            continue
    return ages


def stop_event(*, supervised: bool) -> threading.Event:
    """Return an event that SIGTERM, SIGINT and, for a supervised role, the supervisor's death set."""
    event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: event.set())
    if supervised:
        threading.Thread(target=_wait_for_parent, args=(event,), name="parent", daemon=True).start()
    return event


def _wait_for_parent(event: threading.Event) -> None:
    # the supervisor holds the other end of this pipe and never writes to it
    while os.read(sys.stdin.fileno(), 1):
        continue
    event.set()
