"""From what people decided to a challenger, in force while a study is under way, and back."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pacs_guard.assemble import assemble_study, find_instances
from pacs_guard.cli.model import promote_model, roll_back_model
from pacs_guard.cli.retraining import run_retraining
from pacs_guard.cli.wiring import CLOCK, Stores, default_policy, open_stores
from pacs_guard.config import load_settings
from pacs_guard.detect.assess import NoMetrics
from pacs_guard.detect.bundle import find_bundle, load_bundle
from pacs_guard.detect.models import ModelsInForce
from pacs_guard.detect.worker import Worker
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.policy import Decision, Judgement
from pacs_guard.domain.verdict import Finding, FindingKind, SeriesResult, Verdict
from pacs_guard.queue.assessments import Assessment
from pacs_guard.queue.intake import Intake
from tests.integration.node import write_config
from tests.integration.peers import wait_until
from tests.training.labelling import altered, clean, is_held_back, write_patient

pytestmark = pytest.mark.timeout(900)  # training takes its time on a busy machine

BY = {"who": "Dr. Jones", "reason": "as agreed"}
EXTRA = """
[retraining]
least_held_back = 2
networks = 1
presumed_clean = 5
"""


class Node:
    """A node's queue and spool, filled with phantoms without a network."""

    def __init__(self, folder: Path) -> None:
        config = write_config(folder, {"pacs": ("PACS", 104)}, detectors=("forensic",), quiet=0.001, extra=EXTRA)
        self.config = config
        self.stores: Stores = open_stores(load_settings(config))
        self.spool = self.stores.settings.spool_dir
        self._intake = Intake(self.stores.database, CLOCK, "test")
        self._number = 0

    def receive(self, number: int, volume, places=()) -> tuple[int, list[dict]]:
        """Take a patient's series in as if it had been sent, and return its study's id and its places."""
        self._number += 1
        folder = self.spool / "instances" / str(self._number)
        uid, found = write_patient(volume, places, number, folder)
        association = f"a{self._number}"
        self._intake.open_association(association, calling_ae="CT1", address="127.0.0.1", source="ct-1")
        for instance in find_instances([folder])[0]:
            path = str(Path(instance.path).resolve().relative_to(self.spool.resolve()))
            stored = replace(instance, path=path, source="ct-1")
            self._intake.record(stored, calling_ae="CT1", association_id=association)
        self._intake.close_association(association)
        rule = CompletenessRule(0.001, 1.0)
        wait_until(lambda: self.stores.assessing.complete_quiet(rule), seconds=5, what="a whole study")
        return self.stores.review.find(uid), found

    def decide(self, places, verdict: Verdict) -> None:
        """Judge the study that waits, with findings at `places`."""
        suspected = verdict is Verdict.SUSPECTED
        found = tuple(
            Finding(
                FindingKind(one["kind"]), "forensic", "noise", sop_uid=one["sop_uid"], x=one["x"], y=one["y"], score=9.0
            )
            for one in places
        )
        series = SeriesResult("1.2", verdict, "noise", score=9.0, findings=found)
        judgement = Judgement(Decision.QUARANTINE if suspected else Decision.FORWARD, verdict, "noise")
        claimed = self.stores.assessing.claim("test", 60)
        self.stores.assessing.decide(claimed, Assessment(judgement, (series,), {"forensic": "1"}, None, CLOCK()))

    def review(self, number: int, kind: str) -> None:
        """Receive a phantom that a person rejects or releases, or that passes."""
        volume, places = altered(number) if kind == "reject" else (clean(number), [])
        study, found = self.receive(number, volume, places)
        self.decide(found, Verdict.CLEAN if kind == "passes" else Verdict.SUSPECTED)
        if kind == "reject":
            self.stores.review.reject(study, **BY)
        elif kind == "release":
            self.stores.review.release(study, destinations=["pacs"], **BY)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("retraining"))
    wanted = {
        ("reject", False): 5,
        ("reject", True): 2,
        ("release", False): 5,
        ("release", True): 1,
        ("passes", True): 1,
    }
    number = 0
    for (kind, part), count in wanted.items():
        for _ in range(count):
            number += 1
            while is_held_back(number) is not part:
                number += 1
            node.review(number, kind)
    yield node
    node.stores.database.close()


@pytest.fixture(scope="module")
def proposal(node):
    return run_retraining(node.stores, "forensic")


def test_a_challenger_is_trained_and_compared_on_patients_it_never_saw(node, proposal):
    assert proposal["outcome"] in {"recommended", "not recommended"}
    assert proposal["held_back_patients"] == {"tampered": 2, "clean": 1, "presumed clean": 1}
    assert proposal["trained_on_patients"]["tampered"] == proposal["trained_on_patients"]["clean"] == 5
    found = proposal["figures"]["found"]
    assert found["challenger"]["n"] == found["champion"]["n"] == 2
    assert found["challenger"]["low"] < found["challenger"]["high"]
    bundle = load_bundle(node.stores.settings.models_dir / "forensic" / proposal["version"])
    assert (bundle.sha256, bundle.version) == (proposal["sha256"], proposal["version"])
    assert bundle.manifest["calibration"]["series"]["n"] == 5
    assert "5 altered and 5 clean patients" in bundle.manifest["training_data"][-1]["use"]
    assert "held back: 2 altered, 1 clean and 1 unreviewed" in bundle.read("MODEL_CARD.md").decode()
    # it proposes; it puts nothing in force, and leaves no copy of an image behind
    assert node.stores.models.in_force() == {}
    assert not list((node.stores.settings.node.data_dir / "retraining").rglob("*.dcm"))
    assert [one.event for one in node.stores.outbox.due(limit=500)][-1] == "retraining_done"


def test_a_promotion_waits_for_the_study_under_way_and_a_rollback_brings_back_the_champion(node, proposal, capsys):
    started, go_on = threading.Event(), threading.Event()

    def slow(instances):
        started.set()
        assert go_on.wait(60)
        return assemble_study(instances, node.spool)

    stores = node.stores
    models = ModelsInForce(
        ["forensic"],
        stores.settings.models_dir,
        stores.models.in_force,
        lambda loaded: stores.models.report("here:detect:", loaded),
    )
    worker = Worker(
        assessing=stores.assessing,
        assemble=slow,
        detectors=(),
        policies={},
        default_policy=default_policy(),
        data_dir=stores.settings.node.data_dir,
        metrics=NoMetrics(),
        clock=CLOCK,
        owner="here:detect:1",
        lease_seconds=60,
        max_attempts=3,
        models=models,
    )
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    version = proposal["version"]
    try:
        first, _ = node.receive(901, clean(901))
        assert started.wait(30)
        promote_model(node.config, "forensic", version, wait_seconds=0.0, **BY)
        assert "is at a study and has not taken it yet" in capsys.readouterr().out
        go_on.set()
        judged(node, first)
        wait_until(lambda: taken(stores) == version, seconds=60, what="the worker takes the new version")
        second, _ = node.receive(902, clean(902))
        judged(node, second)
        roll_back_model(node.config, "forensic", wait_seconds=20.0, **BY)
        assert "here:detect: judges by" in capsys.readouterr().out
        third, _ = node.receive(903, clean(903))
        judged(node, third)
    finally:
        go_on.set()
        stop.set()
        thread.join(60)
    champion = load_bundle(find_bundle("forensic"))
    by = [judged(node, study) for study in (first, second, third)]
    assert [one["bundles"]["forensic"] for one in by] == [champion.version, version, champion.version]
    assert [one["hashes"]["forensic"] for one in by] == [champion.sha256, proposal["sha256"], champion.sha256]


def taken(stores):
    ((_, loaded),) = stores.models.loaded()
    return loaded.version


def judged(node, study):
    def there():
        return node.stores.review.details(study).assessments

    (one,) = wait_until(there, seconds=60, what="a verdict")
    return one


def test_without_enough_labels_nothing_is_trained_and_what_n_allows_is_said(tmp_path):
    small = Node(tmp_path)
    small.review(1, "reject")
    proposal = run_retraining(small.stores, "forensic")
    assert proposal["outcome"] == "too few"
    assert "finding all cannot show more than" in proposal["why"]
    assert not list(small.stores.settings.models_dir.glob("*/*"))
    assert json.loads((small.stores.settings.proposals_dir / f"forensic-{proposal['version']}.json").read_text())
    small.stores.database.close()
