"""The container file: linted, and what it copies and runs exists. It is not built here, where no engine runs."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deploy" / "container" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def values(name: str) -> list[str]:
    return [value for instruction, value in instructions() if instruction == name]


def test_the_container_file_is_linted():
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, FILE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_it_runs_as_an_ordinary_user_with_a_health_check():
    assert values("USER") == ["10001:10001"]
    assert instructions().index(("USER", "10001:10001")) > len(instructions()) - 10
    assert len(values("HEALTHCHECK")) == 1
    assert values("HEALTHCHECK")[0].endswith('CMD ["pacs-guard", "alive"]')
    assert values("ENTRYPOINT") == ['["pacs-guard"]']


def test_the_base_is_pinned_and_nothing_comes_from_elsewhere():
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", values("ARG")[0])
    assert values("ADD") == []
    assert not re.search(r"https?://|curl|wget", FILE.read_text())
    assert not re.search(r"(?i)password|token|secret", FILE.read_text())


def test_whatever_is_copied_is_here_and_not_ignored():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sources = [source for value in values("COPY") if "--from" not in value for source in value.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert ignored[0] == "*"
        assert f"!{source}" in ignored, f"{source} is not let in by .dockerignore"
    assert not any(fnmatch.fnmatch("queue.sqlite", line.removeprefix("!")) for line in ignored if line[0] == "!")


@pytest.mark.parametrize(("accelerator", "expected"), [("cpu", "requirements.txt"), ("cuda", ".[postgresql,cuda]")])
def test_the_install_script_asks_pip_for_what_the_project_needs(tmp_path, accelerator, expected):
    """Run it with a pip that only writes down what it is asked for."""
    log = tmp_path / "log"
    tools = tmp_path / "bin"
    tools.mkdir()
    pip = f'#!/bin/sh\necho "$@" >> {log}\n'
    python = (
        "#!/bin/sh\n"
        f'if [ "$1" = -m ]; then mkdir -p "$3/bin"; printf %s \'{pip}\' > "$3/bin/pip"; chmod +x "$3/bin/pip"; '
        f'else exec {sys.executable} "$@"; fi\n'
    )
    (tools / "python3").write_text(python)
    (tools / "python3").chmod(0o755)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    script = ROOT / "deploy" / "container" / "install.sh"
    command = ["sh", script, accelerator, tmp_path / "venv"]
    subprocess.run(command, cwd=tmp_path, env={"PATH": f"{tools}:/usr/bin:/bin"}, check=True, timeout=60)
    asked = log.read_text().splitlines()
    assert expected in asked[0]
    assert asked[-1] == "uninstall --yes pip"
    if accelerator == "cpu":
        names = [line.split(">")[0].split("[")[0] for line in (tmp_path / "requirements.txt").read_text().splitlines()]
        assert {"tensorflow-cpu", "pynetdicom", "psycopg"} <= set(names)
        assert "tensorflow" not in names
        assert asked[1] == "install --no-deps ."


def test_another_accelerator_is_refused(tmp_path):
    script = ROOT / "deploy" / "container" / "install.sh"
    text = script.read_text().replace('python3 -m venv "$venv"', ":")
    done = subprocess.run(["sh", "-c", text, "install.sh", "tpu", str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 64
    assert b"expected cpu or cuda" in done.stderr
