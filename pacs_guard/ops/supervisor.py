"""Starts the roles on one machine, watches them and starts them again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from pacs_guard.errors import SupervisionError
from pacs_guard.ops.roles import process_name

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CONFIGURATION_EXIT = 78
"""EX_CONFIG: a role that exits with it would fail again, so the node stops."""
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_STABLE_SECONDS = 5.0
_POLL_SECONDS = 0.1
_LOG = structlog.get_logger(__name__)


@dataclass
class _Role:
    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    next_start: float = 0.0
    wait: float = _FIRST_WAIT_SECONDS
    restarts: int = 0
    has_worked: bool = False


class Supervisor:
    """Runs one process for each role until told to stop.

    Parameters
    ----------
    commands : mapping of str to sequence of str
        The command line of each role.
    stop_seconds : float
        How long a role may take to finish what it is doing.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], *, stop_seconds: float = 30.0) -> None:
        self._roles = [_Role(name, list(command)) for name, command in commands.items()]
        self._stop_seconds = stop_seconds
        self._reload_requested = False

    def request_reload(self, *_: object) -> None:
        """Pass a request to read the settings again on to every role; may be called from a signal handler."""
        self._reload_requested = True

    def run(self, stop: threading.Event) -> None:
        """Keep the roles running until `stop` is set, then end them in order.

        Raises
        ------
        SupervisionError
            If a role says that it cannot run as configured.
        """
        try:
            while not stop.is_set():
                for role in self._roles:
                    self._tend(role)
                if self._reload_requested:
                    self._reload_requested = False
                    self._pass_on(signal.SIGHUP)
                stop.wait(_POLL_SECONDS)
        finally:
            self._stop_all()

    def processes(self) -> dict[str, int]:
        """Return the process id of each running role."""
        return {role.name: role.process.pid for role in self._roles if role.process and role.process.poll() is None}

    def _tend(self, role: _Role) -> None:
        now = time.monotonic()
        if role.process is None:
            if now >= role.next_start:
                _start(role)
            return
        code = role.process.poll()
        if code is None:
            if now - role.started_at > _STABLE_SECONDS:
                role.wait = _FIRST_WAIT_SECONDS
                role.has_worked = True
            return
        _close(role)
        # one that has worked is tried again: its settings may be being edited, and the other roles are needed
        if code == CONFIGURATION_EXIT and not role.has_worked:
            raise SupervisionError(f"the role {role.name} cannot run as configured; see its message above")
        role.restarts += 1
        role.next_start = now + role.wait
        _LOG.error("role ended", ended_role=role.name, code=code, restart_in_seconds=role.wait, restarts=role.restarts)
        role.wait = min(role.wait * 2, _LONGEST_WAIT_SECONDS)

    def _pass_on(self, number: signal.Signals) -> None:
        for role in self._roles:
            if role.process is not None:
                role.process.send_signal(number)

    def _stop_all(self) -> None:
        running = [role for role in self._roles if role.process is not None]
        for role in running:
            assert role.process is not None  # noqa: S101  # narrows the type
            role.process.terminate()
        deadline = time.monotonic() + self._stop_seconds
        for role in running:
            assert role.process is not None  # noqa: S101  # narrows the type
            try:
                role.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _LOG.error("role does not stop; killed", ended_role=role.name)
                role.process.kill()
                role.process.wait()
            _close(role)


def _start(role: _Role) -> None:
    # a request to reload waits until the role is ready for it, and does not end it
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        # the pipe is never written to: its end tells the role that this process is gone
        role.process = subprocess.Popen(role.command, stdin=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
    role.started_at = time.monotonic()
    _LOG.info("role started", started_role=role.name, pid=role.process.pid)


def _close(role: _Role) -> None:
    if role.process is not None and role.process.stdin is not None:
        role.process.stdin.close()
    role.process = None


def role_commands(roles: Sequence[str], config: Path | None, *, receivers: int = 1) -> dict[str, list[str]]:
    """Return the command line that runs each role under supervision; of ``receive`` there may be several."""
    tail = ["--config", str(config)] if config is not None else []
    commands = {role: [sys.executable, "-m", "pacs_guard", "run", role, "--supervised", *tail] for role in roles}
    for number in range(2, receivers + 1):
        commands[process_name("receive", number)] = [*commands["receive"], "--process", str(number)]
    return commands
