"""The units fit the command line, and leave the node few rights."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pacs_guard.cli import CONFIGURATION_EXIT
from pacs_guard.ops.roles import ROLES

FOLDER = Path(__file__).parents[3] / "deploy" / "systemd"
SERVICES = ("pacs-guard.service", "pacs-guard@.service")
LARGEST_EXPOSURE = 2.0


def settings(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def systemd_analyze(*arguments: object) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_runs_as_an_ordinary_user_and_is_not_restarted_when_its_settings_cannot_work(unit):
    found = settings(unit)
    assert found["User"] == ["pacs-guard"]
    assert found["UMask"] == ["0077"]
    assert found["RestartPreventExitStatus"] == [str(CONFIGURATION_EXIT)]


def test_the_services_run_commands_that_exist():
    assert settings("pacs-guard.service")["ExecStart"][0].split()[1] == "serve"
    assert settings("pacs-guard@.service")["ExecStart"][0].split()[1:3] == ["run", "%i"]
    header = (FOLDER / "pacs-guard@.service").read_text().splitlines()[0]
    assert set(re.findall(r"pacs-guard@(\w+)", header)) == set(ROLES)


def test_both_services_are_hardened_alike():
    own = {"Description", "ExecStart", "ExecReload", "PartOf", "Conflicts", "WantedBy"}
    serve, role = ({k: v for k, v in settings(unit).items() if k not in own} for unit in SERVICES)
    assert serve == role


@pytest.mark.parametrize("unit", SERVICES)
def test_the_exposure_is_small(unit):
    shown = systemd_analyze("security", "--offline=yes", FOLDER / unit)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert match, shown
    assert float(match.group(1)) < LARGEST_EXPOSURE


def test_the_units_are_understood():
    complaints = systemd_analyze("verify", *(FOLDER / unit for unit in (*SERVICES, "pacs-guard.target"))).splitlines()
    assert [line for line in complaints if line.strip() and "is not executable" not in line] == []
