"""A long computation as a process of its own that stands back behind everything else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pacs_guard.errors import RetrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from threading import Event

_LOOK_SECONDS = 0.5
_END_SECONDS = 10.0


def run_in_background(
    command: Sequence[str], log: Path, *, nice: int, limit_seconds: float, stop: Event | None = None
) -> int:
    """Run a command at low priority until it ends, and return its exit status.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell sees them.
    log : Path
        Takes what it prints.
    nice : int
        See ``nice(2)``.
    limit_seconds : float
        After so long it is ended.
    stop : threading.Event, optional
        It is ended when this is set.

    Raises
    ------
    RetrainingError
        If it cannot be started, was ended early or by a signal.
    """
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise RetrainingError(f"{command[0]} cannot be started: {error.strerror}") from error
        with suppress(ProcessLookupError):  # it is over already
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        deadline = time.monotonic() + limit_seconds
        while process.poll() is None:
            if (stop is not None and stop.is_set()) or time.monotonic() > deadline:
                _end(process)
                why = f"took longer than {limit_seconds:g} s" if time.monotonic() > deadline else "the node stops"
                raise RetrainingError(f"ended early: {why}")
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_SECONDS)
    if process.returncode < 0:
        raise RetrainingError(f"ended by signal {signal.Signals(-process.returncode).name}; see {log}")
    return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            return
