from __future__ import annotations

import os
import threading

import pytest

from pacs_guard.errors import SupervisionError
from pacs_guard.ops import roles


def test_a_role_runs_once_on_a_data_folder_and_says_so(tmp_path):
    with (
        roles.role_lock(tmp_path / "run", "receive"),
        pytest.raises(SupervisionError, match="another pacs-guard receive already runs"),
        roles.role_lock(tmp_path / "run", "receive", wait_seconds=0.0),
    ):
        pytest.fail("the lock was given twice")


def test_the_lock_is_free_again_and_names_its_holder(tmp_path):
    with roles.role_lock(tmp_path, "ops"):
        pass
    with roles.role_lock(tmp_path, "ops", wait_seconds=0.0):
        assert (tmp_path / "ops.lock").read_text() == f"{os.getpid()}\n"


def test_roles_do_not_exclude_one_another(tmp_path):
    with roles.role_lock(tmp_path, "ops"), roles.role_lock(tmp_path, "detect", wait_seconds=0.0):
        assert sorted(file.name for file in tmp_path.iterdir()) == ["detect.lock", "ops.lock"]


def test_every_process_that_ran_here_is_known_and_every_role(tmp_path):
    for name in ("receive", "receive-10", "receive-2", "serve", "detect-x", "other-2"):
        (tmp_path / f"{name}.lock").touch()
    assert roles.known_processes(tmp_path) == ["receive", "receive-2", "receive-10", "detect", "deliver", "ops"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    with (
        pytest.raises(SupervisionError, match=r"run is not writable.*node\.data_dir"),
        roles.role_lock(tmp_path / "run", "ops"),
    ):
        pytest.fail("the lock was given")


def test_a_heartbeat_is_heard_and_gone_after_an_orderly_end(tmp_path, monkeypatch):
    monkeypatch.setattr(roles, "HEARTBEAT_SECONDS", 0.01)
    heartbeat = roles.Heartbeat(tmp_path, "deliver")
    heartbeat.start()
    file = tmp_path / "deliver.heartbeat"
    while not file.exists():
        threading.Event().wait(0.005)
    assert roles.heartbeat_ages(tmp_path, file.stat().st_mtime + 7.0)["deliver"] == pytest.approx(7.0, abs=1.0)
    heartbeat.stop()
    assert roles.heartbeat_ages(tmp_path, 0.0) == {}


def test_a_heartbeat_stays_silent_when_the_work_has_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(roles, "HEARTBEAT_SECONDS", 0.01)
    asked = threading.Event()

    def dead():
        asked.set()
        return False

    heartbeat = roles.Heartbeat(tmp_path, "deliver", dead)
    heartbeat.start()
    assert asked.wait(5)
    heartbeat.stop()
    assert list(tmp_path.iterdir()) == []
