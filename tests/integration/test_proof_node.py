"""A deliver role that is killed between asking and the report; then the ledger and the daily report by command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from pacs_guard.cli.ledger import show_ledger
from pacs_guard.cli.report import write_daily
from tests.integration.peers import wait_until
from tests.integration.proving import CT, Guard, Pacs, destination, tell
from tests.integration.test_proof import PROVED, study

CONFIG = """\
[node]
data_dir = "{folder}"
[receive]
port = {port}
min_free_bytes = 0
[[sources]]
name = "ct"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
port = {pacs}
proof = {{ method = "commitment", delay_seconds = 0, wait_seconds = 60, timeout_seconds = 600 }}
"""
ASKED = ("delivered", "asked")


@contextmanager
def deliver_role(config):
    process = subprocess.Popen([sys.executable, "-m", "pacs_guard", "run", "deliver", "--config", str(config)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def report_on(transaction: str, uids: list[str]) -> Dataset:
    report = Dataset()
    report.TransactionUID, report.ReferencedSOPSequence = transaction, []
    for uid in uids:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = CT, uid
        report.ReferencedSOPSequence.append(one)
    return report


def test_a_transaction_survives_the_death_of_its_asker(tmp_path, capsys):
    contents, uids = study(2)
    with Pacs(0, report="never").running() as pacs:
        guard = Guard(tmp_path / "data", destination(pacs.port))
        config = tmp_path / "pacs-guard.toml"
        config.write_text(CONFIG.format(folder=tmp_path / "data", port=guard.port, pacs=pacs.port))
        guard.forward(*contents)
        with guard.receiving():
            with deliver_role(config) as role:
                # it holds the association and waits for the report
                wait_until(lambda: pacs.asked, seconds=60, what="the request")
                role.send_signal(signal.SIGKILL)
                assert role.wait(30) == -signal.SIGKILL
            guard.wait_for_proofs(ASKED, ASKED)
            with deliver_role(config):
                wait_until((tmp_path / "data" / "run" / "deliver.settings.json").exists, seconds=60)
                [(transaction, asked)] = pacs.asked
                assert asked == uids
                assert tell(guard.port, report_on(transaction, uids), 1) == 0x0000
                guard.wait_for_proofs(PROVED, PROVED)
        assert len(pacs.asked) == 1, "it was asked again although the transaction was open"
    capsys.readouterr()
    assert show_ledger(config, deep=False, json=True) == 0
    [line] = json.loads(capsys.readouterr().out)["sources"]
    assert (line["received"], line["delivered"], line["proved"]) == (2, 2, 2)
    today = datetime.now(UTC).astimezone().date().isoformat()
    assert write_daily(config, day=today, json=False) == 0
    assert "received 2 = delivered 2 (proved 2," in capsys.readouterr().out
    content = json.loads((tmp_path / "data" / "reports" / f"{today}.json").read_text())
    assert (content["adds_up"], content["total"]["proved"]) == (True, 2)
