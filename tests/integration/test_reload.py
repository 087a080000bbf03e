"""Settings that change under a running node, between real peers."""

from __future__ import annotations

import os
import signal

import httpx
from pydicom import dcmread
from pynetdicom import AE

from pacs_guard.cli.reload import outcomes
from tests.integration.node import DESTINATION, running, write_config
from tests.integration.peers import needs_dcmtk, run_storescu, storescp, wait_until
from tests.integration.samples import make_instances

SECOND_SOURCE = """
[[sources]]
name = "ct-2"
ae_titles = ["CT2"]
addresses = ["127.0.0.1"]
"""


def edit(config, old: str, new: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, 1))


def _with_two_receivers(config):
    edit(config, "[receive]\n", "[receive]\nprocesses = 2\n")
    return config


def reload_outcome(node, role: str, since: float):
    return next((one for one in outcomes(node.data_dir / "run") if one.role == role and one.at > since), None)


@needs_dcmtk
def test_sources_and_destinations_change_without_dropping_an_association(tmp_path):
    before, after = (make_instances(tmp_path / name, count=2) for name in ("before", "after"))
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        storescp(tmp_path / "archive", ae_title="ARCHIVE") as archive,
        running(_with_two_receivers(write_config(tmp_path / "node", {"pacs": ("PACS", pacs.port)}))) as node,
    ):
        assert "Calling AE Title Not Recognized" in run_storescu(node.port, after, calling="CT2").stderr
        entity = AE("CT1")
        first = dcmread(before[0])
        entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", node.port, ae_title="PACSGUARD")
        assert association.send_c_store(before[0]).Status == 0x0000

        addition = SECOND_SOURCE + DESTINATION.format(name="archive", ae_title="ARCHIVE", port=archive.port)
        node.config.write_text(node.config.read_text() + addition)
        edit(node.config, "lease_seconds = 5", "lease_seconds = 6")
        edit(node.config, 'log_level = "info"', 'log_level = "debug"')
        shown = node.command("reload").stdout
        for process in ("receive", "receive-2"):
            assert f"{process}: changed destinations[archive], ops.log_level, sources[ct-2]\n" in shown
        assert "deliver: changed destinations[archive], ops.log_level, sources[ct-2]\n" in shown
        assert "ops.log_level, sources[ct-2]; NEEDS A RESTART FOR detect.lease_seconds" in shown

        assert association.send_c_store(before[1]).Status == 0x0000
        nameless = dcmread(before[1])
        del nameless.StudyInstanceUID
        assert association.send_c_store(nameless).Status == 0xA900
        association.release()
        assert run_storescu(node.port, after, calling="CT2").returncode == 0
        for files in (before, after):
            node.wait_for(str(dcmread(files[0]).StudyInstanceUID), "delivered")
        assert len(archive.files()) == len(pacs.files()) == 4
        assert 'pacs_guard_config_restart_needed{role="detect"} 1.0' in node.metrics()

        _refuses_what_cannot_be_used(node)
        assert run_storescu(node.port, after, calling="CT2").returncode == 0
        _serves_fewer_destinations(node)
        assert node.ask("ledger")["adds_up"]
        _names_no_patient(node, str(first.StudyInstanceUID), (str(first.PatientName), str(first.PatientID)))


def _refuses_what_cannot_be_used(node) -> None:
    """Every problem is said, by the command and by the node, and the old settings stay in force."""
    edit(node.config, 'ae_titles = ["CT2"]', 'ae_titles = ["A TITLE THAT IS TOO LONG"]\nmode = "off"')
    done = node.command("reload", check=False)
    assert done.returncode == 78
    assert "sources.1.ae_titles.0" in done.stderr
    assert "sources.1.mode" in done.stderr
    assert reload_outcome(node, "receive", 0).ok  # the node was not even asked
    os.kill(node.process.pid, signal.SIGHUP)
    refused = wait_until(lambda: (one := reload_outcome(node, "receive", 0)) and not one.ok and one, what="a refusal")
    assert len(refused.errors) == 2
    wait_until(lambda: 'last_reload_successful{role="receive"} 0.0' in node.metrics(), what="the metric")
    assert all(node.log.count(problem) >= 1 for problem in ("sources.1.ae_titles.0", "sources.1.mode"))


def _serves_fewer_destinations(node) -> None:
    text = node.config.read_text().replace("A TITLE THAT IS TOO LONG", "CT3").replace('mode = "off"\n', "")
    node.config.write_text(text[: text.index('[[destinations]]\nname = "archive"')])
    shown = node.command("reload").stdout
    assert "receive: changed destinations[archive], sources[ct-2].ae_titles\n" in shown
    assert "deliver: changed destinations[archive], sources[ct-2].ae_titles\n" in shown
    assert 'last_reload_successful{role="receive"} 1.0' in node.metrics()
    assert node.process.poll() is None


def _names_no_patient(node, study_uid: str, identifiers: tuple[str, ...]) -> None:
    """Not in the log at its most talkative, nor in metrics, health, lists, details or settings."""
    shown = [node.log, node.metrics()]
    shown += [httpx.get(f"http://127.0.0.1:{node.metrics_port}/{path}").text for path in ("healthz", "readyz")]
    shown += [
        node.command(*words).stdout for words in (("status",), ("studies", "list"), ("studies", "show", study_uid))
    ]
    shown += [node.command(*words).stdout for words in (("ledger",), ("config", "show"))]
    assert "instance received" in shown[0]
    assert "instance refused" in shown[0]
    for text in shown:
        for identifier in identifiers:
            for part in identifier.split("^"):
                assert part.lower() not in text.lower()
