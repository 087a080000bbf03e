"""A backup is made while the node receives, and restored on a bare machine."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pacs_guard.cli.backup import back_up
from pacs_guard.cli.ledger import show_ledger
from pacs_guard.cli.wiring import open_stores
from pacs_guard.config import load_settings
from pacs_guard.errors import PacsGuardError
from pacs_guard.spool.reconcile import reconcile
from tests.integration.delivering import Node, part10

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[node]
data_dir = "{folder}"
[[sources]]
name = "ct"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
port = 4242
"""


def configuration(path: Path, folder: Path) -> Path:
    path.write_text(CONFIG.format(folder=folder))
    return path


@pytest.fixture
def node(tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    node = Node(tmp_path / "data")
    yield node
    node.database.close()


def test_a_node_is_backed_up_while_it_receives_and_restored_with_every_byte(node, tmp_path, capsys):
    config = configuration(tmp_path / "pacs-guard.toml", tmp_path / "data")
    before = [node.receive(part10(study=f"1.2.{number}")) for number in range(1, 6)]
    evidence = tmp_path / "data" / "evidence" / "1-1-ab" / "evidence.json"
    evidence.parent.mkdir(parents=True)
    evidence.write_text("{}")
    model = tmp_path / "data" / "models" / "forensic" / "2" / "bundle.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    stop = threading.Event()

    def receive():
        number = 100
        while not stop.is_set():
            node.receive(part10(study=f"1.2.{number}"))
            number += 1
            time.sleep(0.01)

    sender = threading.Thread(target=receive)
    sender.start()
    try:
        assert back_up(config, tmp_path / "copy") == 0
    finally:
        stop.set()
        sender.join()
    assert "instances in" in capsys.readouterr().out

    # another machine: the copy is put where its settings say
    shutil.copytree(tmp_path / "copy", tmp_path / "restored")
    restored = configuration(tmp_path / "restored.toml", tmp_path / "restored")
    stores = open_stores(load_settings(restored))
    found = reconcile(stores.spool(), stores.upkeep, now=time.time() + 9.0, grace_seconds=0.0)
    assert found.missing == ()
    for instance in before:
        stores.spool().verify(instance)
    assert (tmp_path / "restored" / "evidence" / "1-1-ab" / "evidence.json").read_text() == "{}"
    assert (tmp_path / "restored" / "models" / "forensic" / "2" / "bundle.json").exists()
    stores.database.close()
    assert show_ledger(restored, deep=True, json=False) == 0


def test_a_second_backup_copies_what_is_new_and_drops_what_is_gone(node, tmp_path, capsys):
    config = configuration(tmp_path / "pacs-guard.toml", tmp_path / "data")
    node.receive(part10(study="1.2.1"))
    refused = tmp_path / "data" / "spool" / "refused" / "old.dcm"
    refused.write_bytes(b"x")
    assert back_up(config, tmp_path / "copy") == 0
    assert capsys.readouterr().out.startswith("2 files copied, 0 removed, 1 instances")
    refused.unlink()
    node.receive(part10(study="1.2.2"))
    assert back_up(config, tmp_path / "copy") == 0
    assert capsys.readouterr().out.startswith("1 files copied, 1 removed, 2 instances")


def test_a_copy_that_lacks_an_instance_is_no_success(node, tmp_path, capsys):
    config = configuration(tmp_path / "pacs-guard.toml", tmp_path / "data")
    instance = node.receive(part10(study="1.2.1"))
    (node.spool.root / instance.path).unlink()
    assert back_up(config, tmp_path / "copy") == 1
    assert f"missing or cut short: spool/{instance.path}" in capsys.readouterr().out


def test_a_backup_into_the_data_folder_is_refused(node, tmp_path):
    config = configuration(tmp_path / "pacs-guard.toml", tmp_path / "data")
    with pytest.raises(PacsGuardError, match="lies in the data folder"):
        back_up(config, tmp_path / "data" / "backup")
