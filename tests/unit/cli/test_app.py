from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest

from pacs_guard.ops.roles import holder, role_lock
from pacs_guard.simulate.phantom import make_phantom
from pacs_guard.simulate.writer import write_series

KEYS = {"study_uid", "series_uid", "verdict", "reason", "score", "p_value", "p_value_from", "slices", "findings"}
SLICE_KEYS = {"sop_uid", "file", "z_mm", "score_fb", "score_fm", "x", "y"}
CONFIG = """
[node]
data_dir = "{data_dir}"
[[sources]]
name = "ct-1"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
port = 4242
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pacs_guard", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "pacs-guard.toml"
    file.write_text(CONFIG.format(data_dir=tmp_path / "data"))
    return file


@pytest.mark.parametrize("command", [[], ["studies"], ["quarantine"], ["model"], ["config"]])
def test_help_names_every_command_and_loads_nothing_heavy(command):
    code = (
        "import sys; sys.argv = ['pacs-guard', *sys.argv[1:], '--help']\n"
        "from pacs_guard.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'pydicom', 'pynetdicom', 'sqlalchemy', 'tensorflow', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_the_ledger_of_an_empty_node_adds_up(config):
    done = run("ledger", "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"adds_up": True, "sources": [], "given_up": [], "unproved": [], "problems": []}


def test_a_missing_configuration_says_where_it_was_looked_for(tmp_path):
    command = [sys.executable, "-m", "pacs_guard", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 78
    assert "give --config FILE, or put one at pacs-guard.toml" in done.stderr


def test_config_check_lists_every_problem_and_show_hides_secrets(config):
    assert run("config", "check", "--config", config).stdout.startswith("ok: PACSGUARD listens on")
    config.write_text(config.read_text() + '[webhook]\nurl = "https://example.org"\ntoken = "hush"\n')
    shown = run("config", "show", "--config", config)
    assert json.loads(shown.stdout)["receive"]["port"] == 11112
    assert "hush" not in shown.stdout
    config.write_text('[receive]\nport = 0\ncolour = "red"\n')
    wrong = run("config", "check", "--config", config)
    assert wrong.returncode == 78
    assert {line.split(":")[1].strip() for line in wrong.stderr.splitlines()} == {
        "receive.port",
        "receive.colour",
        "sources",
        "destinations",
    }


def test_the_example_configuration_is_right():
    assert run("config", "check", "--config", "config/pacs-guard.toml").returncode == 0


def test_a_database_of_a_newer_release_is_left_alone(config, tmp_path):
    assert run("status", "--config", config).returncode == 0
    with sqlite3.connect(tmp_path / "data" / "queue.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    done = run("status", "--config", config)
    assert done.returncode == 1
    assert "made by a newer release" in done.stderr
    assert "Traceback" not in done.stderr


def test_shipped_bundles_are_listed_shown_and_verified():
    listed = {one["name"] for one in json.loads(run("model", "list", "--json").stdout)}
    assert {"integrity", "forensic"} <= listed
    assert run("model", "verify", "forensic").stdout.startswith("ok: forensic")
    assert "## Limits" in run("model", "show", "forensic").stdout
    unknown = run("model", "verify", "nonsense")
    assert unknown.returncode == 1
    assert "nonsense" in unknown.stderr


def test_assess_keeps_its_promised_format(tmp_path):
    files = write_series(make_phantom(slices=4, size=128, seed=1), tmp_path / "series")
    done = run("assess", "--json", tmp_path / "series", "--pictures", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)["series"]
    assert set(report) >= KEYS
    assert [one["file"] for one in report["slices"]] == [str(file) for file in files]
    assert all(set(one) >= SLICE_KEYS for one in report["slices"])


def test_assess_of_one_slice_says_that_it_is_one(tmp_path):
    files = write_series(make_phantom(slices=3, size=256, seed=1), tmp_path)
    (report,) = json.loads(run("assess", "--json", files[1]).stdout)["series"]
    assert report["single_slice"]
    assert len(report["slices"]) == 1


def test_assess_of_no_dicom_says_so(tmp_path):
    (tmp_path / "notes.dcm").write_text("not DICOM")
    done = run("assess", tmp_path)
    assert done.returncode == 1
    assert "notes.dcm" in done.stderr
    assert "no DICOM instance" in done.stderr


def test_without_a_node_nothing_is_reloaded_and_no_role_is_alive(config):
    done = run("reload", "--config", config)
    assert done.returncode == 78
    assert "no node runs on" in done.stderr
    done = run("alive", "--config", config)
    assert done.returncode == 1
    assert "detect: not heard of" in done.stdout
    assert "expected one of receive, detect" in run("alive", "walk", "--config", config).stderr


def test_a_role_that_was_heard_of_is_alive(config, tmp_path):
    folder = tmp_path / "data" / "run"
    folder.mkdir(parents=True)
    (folder / "ops.heartbeat").touch()
    assert run("alive", "--config", config).returncode == 0
    assert run("alive", "ops", "--config", config).returncode == 0
    assert run("alive", "ops", "detect", "--config", config).returncode == 1


def test_a_process_that_is_no_role_is_never_signalled(config, tmp_path):
    """On a shared folder a lock may name a process of another machine."""
    with role_lock(tmp_path / "data" / "run", "receive"):
        assert holder(tmp_path / "data" / "run", "receive") == os.getpid()
        with subprocess.Popen(["sleep", "60"]) as stranger:
            (tmp_path / "data" / "run" / "receive.lock").write_text(f"{stranger.pid}\n")
            assert "no node runs on" in run("reload", "--config", config).stderr
            assert stranger.poll() is None
            stranger.kill()
    assert holder(tmp_path / "data" / "run", "receive") is None
