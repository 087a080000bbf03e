"""The node's test of itself, through all of its processes."""

from __future__ import annotations

import json

from tests.integration.node import running, write_config
from tests.integration.peers import free_port

SETTINGS = """
[self_test]
enabled = true
port = {port}
slices = 8
size = 128
timeout_seconds = 90
every_hours = 1000
"""


def test_a_clean_study_comes_out_and_an_altered_one_is_held_and_both_are_removed(tmp_path, monkeypatch):
    # nobody listens where the PACS should be: nothing of the test may want to go there
    pacs = {"pacs": ("PACS", free_port())}
    config = write_config(tmp_path / "node", pacs, quiet=0.5, extra=SETTINGS.format(port=free_port()))
    with running(config) as node:
        monkeypatch.setenv("PACS_GUARD_SELF_TEST__TIMEOUT_SECONDS", "0.1")
        done = node.command("self-test", "--json", check=False)
        assert done.returncode == 1
        assert "after 0.1 s the clean and the altered study are" in json.loads(done.stdout)["reason"]
        assert "pacs_guard_self_test_success 0.0" in node.metrics()
        monkeypatch.undo()

        outcome = node.ask("self-test")
        assert outcome["ok"], outcome
        assert outcome["reason"] == "8 clean instances came out byte-identical, 8 altered ones were held"
        studies = [study for study in node.studies().values() if study["verdict"]]
        assert {tuple(study["sources"]) for study in studies} == {("self-test",)}
        assert {study["state"] for study in studies} >= {"delivered", "rejected"}
        # nobody was alarmed, and nothing waits for the PACS
        metrics = node.metrics()
        assert "pacs_guard_self_test_success 1.0" in metrics
        assert "pacs_guard_quarantine_instances 0.0" in metrics
        assert "pacs_guard_notifications_waiting 0.0" in metrics
        assert 'destination="pacs"' not in metrics
        assert node.ask("ledger")["adds_up"]
        assert "self-test" in node.command("audit", "export", "--hours", "1").stdout
        assert not list((node.data_dir / "evidence").glob("*"))
