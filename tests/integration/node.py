"""A whole node as its own processes, for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from tests.integration.peers import free_port, is_listening, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 90.0
COMMAND_SECONDS = 120.0
ROLES = ("receive", "detect", "deliver", "ops")
CONFIG = """\
[node]
data_dir = "{data_dir}"

[receive]
host = "127.0.0.1"
port = {port}
min_free_bytes = 0

[completeness]
quiet_seconds = {quiet}
sweep_seconds = 0.2

[detect]
detectors = {detectors}
lease_seconds = 5

[ops]
metrics_port = {metrics_port}
log_format = "console"
log_level = "info"

[[sources]]
name = "ct-1"
ae_titles = ["STORESCU", "DCMSEND", "ECHOSCU", "CT1"]
addresses = ["127.0.0.1"]
{source}
"""
DESTINATION = """
[[destinations]]
name = "{name}"
ae_title = "{ae_title}"
port = {port}
retry = {{ base_seconds = 0.3, cap_seconds = 1.0, max_attempts = 200 }}
"""


@dataclass
class Node:
    """A node that runs as `pacs-guard serve`."""

    folder: Path
    config: Path
    port: int
    metrics_port: int
    process: subprocess.Popen

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text(errors="replace")

    def command(
        self, *arguments: str, check: bool = True, seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess:
        """Run `pacs-guard` with this node's configuration."""
        command = [sys.executable, "-m", "pacs_guard", *arguments, "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def ask(self, *arguments: str, check: bool = True, seconds: float = COMMAND_SECONDS):
        """Run a reading command with --json, and return what it printed."""
        return json.loads(self.command(*arguments, "--json", check=check, seconds=seconds).stdout)

    def studies(self) -> dict[str, dict]:
        return {study["study_uid"]: study for study in self.ask("studies", "list")}

    def wait_for(self, study_uid: str, *states: str, seconds: float = 180.0) -> dict:
        """Wait until a study stands in one of `states`."""
        last: dict = {}

        def there():
            last.update(self.studies().get(study_uid, {}))
            return last if last.get("state") in states else None

        try:
            return wait_until(there, seconds=seconds, what=f"study {study_uid} in {states}")
        except AssertionError:
            print(last, self.log[-5000:])
            raise

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=30).raise_for_status().text

    def pid(self, role: str) -> int | None:
        """Process id of a running role."""
        try:
            return int((self.data_dir / "run" / f"{role}.lock").read_text())
        except (OSError, ValueError):
            return None

    def kill(self, role: str) -> bool:
        """Kill a role as a power cut would; False if it is not running just now."""
        pid = self.pid(role)
        try:
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return pid is not None

    def wait_ready(self) -> None:
        def ready():
            assert self.process.poll() is None, f"the node ended with {self.process.returncode}: {self.log[-3000:]}"
            return is_listening(self.port) and is_listening(self.metrics_port)

        wait_until(ready, seconds=START_SECONDS, what="the node's ports")


def write_config(
    folder: Path,
    destinations: dict[str, tuple[str, int]],
    *,
    detectors: tuple[str, ...] = ("integrity",),
    quiet: float = 1.0,
    source: str = "",
    extra: str = "",
) -> Path:
    """Write a configuration; `destinations` are AE title and port by name."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pacs-guard.toml"
    text = CONFIG.format(
        data_dir=folder / "data",
        port=free_port(),
        metrics_port=free_port(),
        detectors=json.dumps(list(detectors)),
        quiet=quiet,
        source=source,
    )
    for name, (ae_title, port) in destinations.items():
        text += DESTINATION.format(name=name, ae_title=ae_title, port=port)
    config.write_text(text + extra)
    return config


@contextmanager
def running(config: Path) -> Iterator[Node]:
    """Run `pacs-guard serve`, and stop it in order afterwards."""
    folder = config.parent
    settings = tomllib.loads(config.read_text())
    with (folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pacs_guard", "serve", "--config", str(config)], stdout=log, stderr=log
        )
    node = Node(folder, config, settings["receive"]["port"], settings["ops"]["metrics_port"], process)
    try:
        node.wait_ready()
        yield node
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
