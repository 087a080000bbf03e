"""``pacs-guard reload`` and ``alive``: to a running node, and of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.errors import ConfigurationError, SupervisionError
from pacs_guard.ops.reload import Outcome, outcomes
from pacs_guard.ops.roles import ROLES, heartbeat_ages, holder, known_processes

_PATIENCE_SECONDS = 20.0
_LATE_SECONDS = 60.0


def reload_settings(config: Path | None) -> int:
    """Check the file, ask the running node to read it again, and say what became of it.

    Returns
    -------
    int
        0 if every running process took the settings, else 1.

    Raises
    ------
    ConfigurationError
        If the file cannot be used; the node is left alone then.
    SupervisionError
        If no role runs on the data folder.
    """
    folder = settings_from(config).node.data_dir / "run"
    running = {name: pid for name in known_processes(folder) if (pid := _process(folder, name)) is not None}
    serve = _process(folder, "serve")
    if not running and serve is None:
        raise SupervisionError(f"no node runs on {folder.parent}; start it with pacs-guard serve")
    asked_at = time.time()
    for pid in [serve] if serve is not None else running.values():
        os.kill(pid, signal.SIGHUP)
    answers = _wait(folder, set(running), asked_at)
    for name in running:
        typer.echo(f"{name}: {_sentence(answers.get(name))}")
    return 0 if all(name in answers and answers[name].ok for name in running) else 1


def _process(folder: Path, name: str) -> int | None:
    """Return the process of this name here; on a shared folder a lock may name one of another machine."""
    pid = holder(folder, name)
    if pid is None:
        return None
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    role = name.partition("-")[0]
    return pid if role in words and {"pacs_guard", "pacs-guard"} & {Path(word).name for word in words} else None


def _wait(folder: Path, names: set[str], since: float) -> dict[str, Outcome]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        answers = {outcome.role: outcome for outcome in outcomes(folder) if outcome.at >= since}
        if names <= answers.keys() or time.monotonic() > deadline:
            return answers
        time.sleep(0.05)


def _sentence(outcome: Outcome | None) -> str:
    if outcome is None:
        return f"did not answer within {_PATIENCE_SECONDS:g} s; see its log"
    if not outcome.ok:
        return f"keeps the old settings: {'; '.join(outcome.errors)}"
    text = f"changed {', '.join(outcome.changed)}" if outcome.changed else "nothing to change"
    return f"{text}; NEEDS A RESTART FOR {', '.join(outcome.restart)}" if outcome.restart else text


def check_alive(config: Path | None, roles: list[str]) -> int:
    """Say whether roles of this data folder have been heard of lately.

    Parameters
    ----------
    config : Path or None
    roles : list of str
        Which, ``receive-2`` and so on included; empty for all that run here, of which there must be one.

    Returns
    -------
    int
        0 if all were heard of within a minute, else 1.

    Raises
    ------
    ConfigurationError
        If there is no such role.
    """
    folder = settings_from(config).node.data_dir / "run"
    known = known_processes(folder)
    unknown = sorted(set(roles) - set(known))
    if unknown:
        raise ConfigurationError([f"{name!r} was given; expected one of {', '.join(known)}" for name in unknown])
    ages = heartbeat_ages(folder, time.time())
    wanted = roles or sorted(ages) or list(ROLES)
    late = [role for role in wanted if ages.get(role, float("inf")) > _LATE_SECONDS]
    for role in wanted:
        typer.echo(f"{role}: {f'heard of {ages[role]:.0f} s ago' if role in ages else 'not heard of'}")
    return 1 if late else 0
