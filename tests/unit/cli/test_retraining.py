"""When retraining is done by schedule, and what a person is told where it cannot be."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from pacs_guard.cli import retraining
from pacs_guard.cli.model import promote_model
from pacs_guard.cli.studies import label_study, reassess_studies
from pacs_guard.cli.wiring import open_stores
from pacs_guard.config import load_settings
from pacs_guard.errors import BundleError, ConfigurationError, LifecycleError, RetrainingError
from pacs_guard.ops.proposals import proposal_file

BY = {"who": "me", "reason": "because"}
CONFIG = """
[node]
data_dir = "{data_dir}"
[retraining]
enabled = true
[[sources]]
name = "ct-1"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "pacs-guard.toml"
    file.write_text(CONFIG.format(data_dir=tmp_path / "data"))
    return file


@pytest.fixture
def stores(config):
    stores = open_stores(load_settings(config))
    yield stores
    stores.database.close()


@pytest.mark.parametrize(
    ("days_ago", "decisions", "runs"), [(None, 9, 0), (None, 10, 1), (6.9, 50, 0), (7.1, 9, 0), (7.1, 10, 1)]
)
def test_the_schedule_waits_for_its_time_and_for_enough_decisions(stores, monkeypatch, days_ago, decisions, runs):
    ran = []
    monkeypatch.setattr(retraining, "run_retraining", lambda *given, **_: ran.append(given))
    monkeypatch.setattr(retraining, "decisions_since", lambda *_: decisions)
    if days_ago is not None:
        folder = stores.settings.proposals_dir
        folder.mkdir(parents=True)
        at = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
        proposal = {"name": "forensic", "version": "2", "made_at": at, "outcome": "too few"}
        proposal_file(folder, "forensic", "2").write_text(json.dumps(proposal))
    retraining.retraining_chore(stores, threading.Event())()
    assert len(ran) == runs


def test_without_the_training_package_one_sentence_says_what_to_install(stores, monkeypatch):
    monkeypatch.setattr(retraining.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RetrainingError, match=r"pip install 'pacs-guard\[training\]'"):
        retraining.run_retraining(stores, "forensic")


def test_a_training_that_fails_says_its_last_line_and_leaves_no_images(stores, monkeypatch):
    monkeypatch.setattr(retraining, "_TRAINING", "json.tool")
    with pytest.raises(RetrainingError, match=r"training failed: .*json"):
        retraining.run_retraining(stores, "forensic")
    assert not (stores.settings.node.data_dir / "retraining" / "reviewed").exists()


def test_what_cannot_be_promoted_changes_nothing(config, stores):
    with pytest.raises(ConfigurationError, match=r"expected a detector of detect\.detectors with a bundle: forensic"):
        promote_model(config, "other", "1", wait_seconds=0, **BY)
    with pytest.raises(BundleError, match=r"there is no forensic 99"):
        promote_model(config, "forensic", "99", wait_seconds=0, **BY)
    shipped = retraining.bundle_in_force(stores, "forensic").version
    with pytest.raises(LifecycleError, match="in force already, by the settings"):
        promote_model(config, "forensic", shipped, wait_seconds=0, **BY)
    with pytest.raises(ConfigurationError, match="--by: nothing was given"):
        promote_model(config, "forensic", shipped, wait_seconds=0, who=" ", reason="x")
    assert stores.models.history() == []


def test_labels_and_requests_that_say_nothing_are_refused(config):
    with pytest.raises(ConfigurationError, match="'fine' is not a valid Label"):
        label_study(config, "1", "fine", places=(), **BY)
    with pytest.raises(ConfigurationError, match="expected --as tampered"):
        label_study(config, "1", "clean", places=["FB:1.2:3:4"], **BY)
    with pytest.raises(ConfigurationError, match="expected studies, --source, --since or --all"):
        reassess_studies(config, (), everything=False, source=None, since=None, **BY)
