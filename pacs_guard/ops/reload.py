"""Live settings: a changed file is read again while the roles run; what can take effect at once does.

Which setting is used by which role, and whether it can change while that runs, stands in one table.
"""

from __future__ import annotations

import json
import queue
import signal
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import BaseModel

from pacs_guard.errors import ConfigurationError, PacsGuardError
from pacs_guard.ops.roles import ROLES
from pacs_guard.tls.inventory import certificate_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pacs_guard.config import Settings

_LOG = structlog.get_logger(__name__)
_SUFFIX = ".settings.json"


@dataclass(frozen=True, slots=True)
class Use:
    """Who uses a setting.

    Attributes
    ----------
    roles : tuple of str
    live : bool
        Whether a change takes effect without a restart of these roles.
    """

    roles: tuple[str, ...]
    live: bool


USES: dict[str, Use] = {
    "sources": Use(("receive", "detect", "deliver", "ops"), live=True),
    "destinations": Use(("receive", "detect", "deliver", "ops"), live=True),
    "webhook": Use(("deliver",), live=True),
    "email": Use(("deliver",), live=True),
    "completeness.quiet_seconds": Use(("ops",), live=True),
    "completeness.longest_wait_seconds": Use(("ops",), live=True),
    "completeness": Use(("ops",), live=False),
    "tls": Use(("receive", "deliver", "ops"), live=True),
    "receive.tls.client_certificates": Use(("receive",), live=True),
    "receive.max_associations": Use(("receive",), live=True),
    "receive.require_called_ae_title": Use(("receive",), live=True),
    "receive.min_free_bytes": Use(("receive", "ops"), live=True),
    "receive.max_refused_bytes": Use(("receive", "ops"), live=True),
    "receive": Use(("receive",), live=False),
    "detect": Use(("detect", "ops"), live=False),
    "deliver": Use(("deliver",), live=False),
    "retraining": Use(("ops",), live=False),
    "results": Use(("deliver",), live=True),
    "self_test": Use(("receive", "detect", "deliver", "ops"), live=False),
    "audit": Use(("ops",), live=True),
    "report": Use(("ops",), live=False),
    "ops.retention_days": Use(("ops",), live=True),
    "ops.metrics_user": Use(("ops",), live=True),
    "ops.metrics_password": Use(("ops",), live=True),
    "ops.metrics_cert_file": Use(("ops",), live=True),
    "ops.metrics_key_file": Use(("ops",), live=True),
    "ops.log_level": Use(ROLES, live=True),
    "ops.log_format": Use(ROLES, live=False),
    "ops": Use(("ops",), live=False),
}
"""By setting, or by section for all of its settings that have no line of their own."""

_OTHERWISE = Use(ROLES, live=False)


def use_of(setting: str) -> Use:
    """Return who uses a setting such as ``receive.port``: the longest entry of `USES` that it begins with."""
    fitting = [key for key in USES if setting == key or setting.startswith((f"{key}.", f"{key}["))]
    return USES[max(fitting, key=len)] if fitting else _OTHERWISE


def changed_settings(old: BaseModel, new: BaseModel) -> list[str]:
    """Return the dotted names of the settings that differ, never their values.

    Examples
    --------
    ``["receive.max_associations", "sources[ct-1].mode", "sources[ct-2]"]``: the last one is there in one of them only.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    entries = {_entry(name) for name in before} ^ {_entry(name) for name in after}
    return sorted({_entry(name) if _entry(name) in entries else name for name in differing})


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting that holds no others; a list's tables go by their names."""
    if isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _leaves(getattr(value, field), f"{name}.{field}" if name else field)
    elif isinstance(value, tuple) and value and all(hasattr(item, "name") for item in value):
        for item in value:
            yield from _leaves(item, f"{name}[{item.name}]")
    else:
        yield name, value


def _contents(settings: Settings) -> dict[str, str]:
    """Return what stands for the content of each certificate file, by its setting: renewed ones keep their names."""
    return {one.setting: one.digest for one in certificate_files(settings)}


def _entry(name: str) -> str:
    """Return the table of a list that a setting belongs to, ``sources[ct-1]``, or the setting itself."""
    return name[: name.index("]") + 1] if "]" in name else name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the settings that a role read last.

    Attributes
    ----------
    role : str
    at : float
        When they were read, seconds since the epoch.
    in_force_since : float
        When settings were last taken.
    errors : tuple of str
        Why they were not taken; empty if they were.
    changed : tuple of str
        What changed and took effect.
    restart : tuple of str
        What differs from the settings in force until the role is restarted.
    """

    role: str
    at: float
    in_force_since: float
    errors: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the settings were taken."""
        return not self.errors


class Reloader:
    """Reads a role's settings again when it is asked to, in a thread of its own.

    Parameters
    ----------
    role : str
    settings : Settings
        What the role starts with.
    load : callable
        Reads the file again; raises ConfigurationError.
    folder : Path
        Where each role writes down what became of its settings.
    clock : callable
        Returns seconds since the epoch.
    process : str, optional
        Name of the process where the role has several.

    Attributes
    ----------
    tell : callable
        Given what became of the settings whenever something changed or was refused.
    """

    def __init__(
        self,
        role: str,
        settings: Settings,
        *,
        load: Callable[[], Settings],
        folder: Path,
        clock: Callable[[], float],
        process: str | None = None,
    ) -> None:
        self._role = role
        self._process = process or role
        self._started_with = self._in_force = settings
        self._load = load
        self._files = _contents(settings)
        self._apply: Callable[[Settings], None] = lambda _settings: None
        self.tell: Callable[[Outcome], None] = lambda _outcome: None
        self._file = folder / f"{self._process}{_SUFFIX}"
        self._clock = clock
        self._since = clock()
        # its put may be called from a signal handler
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._in_force

    def request(self, *_: object) -> None:
        """Ask for the settings to be read again; may be called from a signal handler, and before `start`."""
        self._requests.put(True)

    def start(self, apply: Callable[[Settings], None]) -> None:
        """Serve requests; `apply` puts changed settings into force and is called from this object's thread."""
        self._apply = apply
        self._write(Outcome(self._process, self._since, self._since))
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and remove what was written down: a role that ended on purpose has no settings."""
        self._requests.put(False)
        if self._thread.is_alive():
            self._thread.join()
        self._file.unlink(missing_ok=True)

    def reload(self) -> Outcome:
        """Read the settings and put into force what can be; after any error the old ones stay."""
        try:
            new = self._load()
        except ConfigurationError as error:
            return self._refused(error.problems)
        changes = [setting for setting in changed_settings(self._in_force, new) if use_of(setting).live]
        files = _contents(new)
        changes += [setting for setting in files.keys() & self._files.keys() if files[setting] != self._files[setting]]
        mine = sorted({setting for setting in changes if self._role in use_of(setting).roles})
        try:
            self._apply(new)
        except (PacsGuardError, OSError) as error:
            return self._refused([str(error)])
        except Exception as error:  # noqa: BLE001  # a thread that dies would answer no later request
            _LOG.exception("settings could not be put into force")
            return self._refused([f"{type(error).__name__}: {error}"])
        self._in_force, self._files = new, files
        self._since = self._clock()
        outcome = Outcome(self._process, self._since, self._since, changed=tuple(mine), restart=self._need_restart(new))
        _LOG.info("settings reloaded", changed=list(outcome.changed), restart_needed=list(outcome.restart))
        return outcome

    def _need_restart(self, new: Settings) -> tuple[str, ...]:
        return tuple(
            setting
            for setting in changed_settings(self._started_with, new)
            if not use_of(setting).live and self._role in use_of(setting).roles
        )

    def _refused(self, problems: Sequence[str]) -> Outcome:
        for problem in problems:
            _LOG.error("settings not reloaded; the old ones stay in force", problem=problem)
        return Outcome(self._process, self._clock(), self._since, errors=tuple(problems))

    def _run(self) -> None:
        while self._requests.get():
            outcome = self.reload()
            if outcome.changed or outcome.errors:
                self._tell(outcome)
            self._write(outcome)

    def _tell(self, outcome: Outcome) -> None:
        try:
            self.tell(outcome)
        except PacsGuardError as error:  # the settings are in force in any case
            _LOG.warning("reading of the settings not written down", error=str(error))

    def _write(self, outcome: Outcome) -> None:
        temporary = self._file.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
            temporary.replace(self._file)
        except OSError as error:  # a full disk keeps no role from its work
            _LOG.warning("outcome of reading the settings not written", error=str(error))


def outcomes(folder: Path) -> list[Outcome]:
    """Return what became of the settings of each role that runs on this folder."""
    found = []
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:  # stopped since the folder was listed
            continue
        lists = {name: tuple(content[name]) for name in ("errors", "changed", "restart")}
        found.append(Outcome(content["role"], content["at"], content["in_force_since"], **lists))
    return found


def on_hangup(call: Callable[..., None]) -> None:
    """Call `call` on SIGHUP from now on, and let in one that was sent while this process started."""
    signal.signal(signal.SIGHUP, call)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
