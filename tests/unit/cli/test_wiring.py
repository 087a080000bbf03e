from __future__ import annotations

import os
import stat

import pytest

from pacs_guard.cli import wiring
from pacs_guard.errors import SupervisionError


def test_a_new_folder_is_its_owner_s_alone(tmp_path):
    wiring.prepare_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SupervisionError, match=r"node\.data_dir .*file/data cannot be created.*choose another"):
        wiring.prepare_folder(tmp_path / "file" / "data")


def test_root_leaves_nothing_in_another_user_s_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        type(tmp_path), "stat", lambda *_, **__: os.stat_result((0o40700, 0, 0, 0, 1000, 0, 0, 0, 0, 0))
    )
    with pytest.raises(SupervisionError, match="belongs to user 1000; run this as that user"):
        wiring.prepare_folder(tmp_path)
