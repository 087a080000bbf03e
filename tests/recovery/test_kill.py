"""Roles are killed as by a power cut while a study passes; whatever was acknowledged arrives, exactly as sent."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.node import ROLES, running, write_config
from tests.integration.peers import dataset_bytes, needs_dcmtk, storescp, wait_until
from tests.integration.samples import make_instances
from tests.integration.sending import ACKNOWLEDGED, associate, verbatim

if TYPE_CHECKING:
    from pathlib import Path

ROUNDS = int(os.environ.get("PACS_GUARD_KILL_ROUNDS", "8"))
INSTANCES = 200


def send_all(port: int, files: list[Path], *, until: float) -> set[str]:
    """Send every file until it is acknowledged, over as many associations as it takes; return what was, by hash."""
    waiting = list(files)
    acknowledged = set()
    while waiting:
        assert time.monotonic() < until, f"{len(waiting)} instances were never acknowledged"
        association = associate(port, files[0])
        if not association.is_established:
            time.sleep(0.1)
            continue
        while waiting and association.is_established:
            status = association.send_c_store(waiting[0])
            if status and status.Status == ACKNOWLEDGED:
                acknowledged.add(hashlib.sha256(dataset_bytes(waiting.pop(0))).hexdigest())
            elif not status:
                break
        if association.is_established:
            association.release()
    return acknowledged


def harass(node, rng: random.Random, stop: threading.Event, killed: list[str]) -> None:
    while not stop.wait(rng.uniform(0.05, 1.5)):
        role = rng.choice(ROLES)
        if node.kill(role):
            killed.append(role)
        if len(killed) >= 3:
            return


@needs_dcmtk
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_was_acknowledged_is_delivered_as_sent_although_roles_are_killed(tmp_path):
    killed_in_all: list[str] = []
    with storescp(tmp_path / "pacs") as pacs:
        config = write_config(tmp_path / "node", {"pacs": ("STORESCP", pacs.port)}, quiet=0.5)
        with running(config) as node:
            for number in range(ROUNDS):
                killed_in_all += one_round(node, pacs, tmp_path / f"round-{number}", random.Random(number))
            lines = node.ask("ledger", "--deep")
    assert lines["adds_up"], lines
    assert sum(line["received"] for line in lines["sources"]) == ROUNDS * INSTANCES
    assert sum(line["delivered"] for line in lines["sources"]) == ROUNDS * INSTANCES
    assert set(killed_in_all) == set(ROLES), f"not every role was killed: {killed_in_all}"


def hash_of(file: Path) -> str | None:
    content = file.read_bytes()
    # the peer may be writing it just now
    return hashlib.sha256(dataset_bytes(content)).hexdigest() if content[128:132] == b"DICM" else None


def one_round(node, pacs, folder: Path, rng: random.Random) -> list[str]:
    """Send one study while roles are killed, and check that all of it arrives; return who was killed."""
    files = make_instances(folder, INSTANCES)
    stop, killed = threading.Event(), []
    harasser = threading.Thread(target=harass, args=(node, rng, stop, killed))
    harasser.start()
    try:
        with verbatim():
            acknowledged = send_all(node.port, files, until=time.monotonic() + 120)
        assert len(acknowledged) == INSTANCES
        # the killing goes on while the study is assessed and delivered
        arrived: dict[str, str] = {}

        def all_there():
            for file in pacs.files():
                if file.name not in arrived and (digest := hash_of(file)) in acknowledged:
                    arrived[file.name] = digest
            return acknowledged == set(arrived.values())

        wait_until(all_there, seconds=120, what="the delivery of every acknowledged instance")
    finally:
        stop.set()
        harasser.join()
    for file in pacs.files():
        file.unlink()
    return killed
