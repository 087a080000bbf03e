from __future__ import annotations

import json

import pytest

from pacs_guard.detect.detector import DetectorResult
from pacs_guard.detect.worker import Worker
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.policy import Fallback, Mode, Policy
from pacs_guard.domain.verdict import Finding, FindingKind
from pacs_guard.domain.volume import AssembledSeries, InstanceFacts
from pacs_guard.errors import AcceleratorLostError, DetectorError
from pacs_guard.queue.assessing import Assessing
from pacs_guard.queue.database import Database
from pacs_guard.queue.intake import Intake
from pacs_guard.queue.review import Review

SUSPECT = Finding(
    FindingKind.FB, "fake", "noise here is 46 % of that around it", score=1.5, p_value=0.1, sop_uid="1.2.3"
)


class Metrics:
    def __init__(self):
        self.verdicts = []
        self.failures = []

    def scored(self, detector, score):
        pass

    def detector_failed(self, detector):
        self.failures.append(detector)

    def assessed(self, verdict, decision, seconds, *, bypassed):
        self.verdicts.append((str(verdict), str(decision), bypassed))


class Fake:
    name = "fake"
    version = "1"

    def __init__(self, answer):
        self.answer = answer

    def assess(self, series, evidence=None):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Node:
    """A queue with one complete study, and a worker beside it."""

    def __init__(self, tmp_path, clock):
        self.data_dir = tmp_path
        self.clock = clock
        database = Database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
        database.prepare()
        self.intake = Intake(database, clock, "test")
        self.intake.open_association("a", calling_ae="CT1", address="127.0.0.1", source="ct-1")
        self.assessing = Assessing(database, clock, ["pacs"])
        self.review = Review(database, clock)
        self.metrics = Metrics()
        self.receive("1.2.3")

    def receive(self, sop_uid):
        key = InstanceKey("1.2", "1.2.1", sop_uid, sop_uid.ljust(64, "0"))
        self.intake.record(
            StoredInstance(0, key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", f"{sop_uid}.dcm", 0, 1, "ct-1"),
            calling_ae="CT1",
            association_id="a",
        )

    def complete(self):
        self.clock.move(1000.0)
        assert self.assessing.complete_quiet(CompletenessRule(1.0, 100.0)) == [1]

    def worker(self, *detectors, policy=None, assemble=None, max_attempts=3):
        series = AssembledSeries("1.2", "1.2.1", (), volume=None, refusal=None, files={"1.2.3": "1.2.3.dcm"})
        return Worker(
            assessing=self.assessing,
            assemble=assemble or (lambda _: [series]),
            detectors=detectors,
            policies={"ct-1": policy or Policy()},
            default_policy=Policy(),
            data_dir=self.data_dir,
            metrics=self.metrics,
            clock=self.clock,
            owner="worker",
            lease_seconds=60.0,
            max_attempts=max_attempts,
        )

    @property
    def study(self):
        return self.review.details(1).summary


@pytest.fixture
def node(tmp_path, clock):
    node = Node(tmp_path, clock)
    node.complete()
    return node


def test_without_a_study_there_is_nothing_to_do(node):
    assert node.worker(Fake(DetectorResult())).work_once()
    assert not node.worker(Fake(DetectorResult())).work_once()


def test_a_clean_study_goes_on_and_leaves_no_evidence_behind(node):
    node.worker(Fake(DetectorResult(score=0.1, p_value=0.8))).work_once()
    assert (node.study.state, node.study.verdict) == (StudyState.FORWARDING, "CLEAN")
    assert node.metrics.verdicts == [("CLEAN", "forward", False)]
    assert list((node.data_dir / "evidence").glob("*")) == []


def test_a_suspected_study_is_held_with_its_evidence(node):
    node.worker(Fake(DetectorResult(findings=(SUSPECT,), score=1.5, p_value=0.1))).work_once()
    assert (node.study.state, node.study.kinds, node.study.score) == (StudyState.HELD, ("FB",), 1.5)
    details = node.review.details(1)
    evidence = json.loads((node.data_dir / details.assessment["evidence"] / "evidence.json").read_text())
    assert evidence["detectors"] == {"fake": "1"}
    assert evidence["series"][0]["findings"][0]["sentence"] == SUSPECT.sentence
    assert evidence["series"][0]["findings"][0]["file"] == "1.2.3.dcm"
    assert evidence["instances"][0]["sop_uid"] == "1.2.3"


def test_shadow_mode_scores_and_holds_nothing(node):
    node.worker(Fake(DetectorResult(findings=(SUSPECT,))), policy=Policy(mode=Mode.SHADOW)).work_once()
    assert (node.study.state, node.study.verdict, node.study.bypassed) == (StudyState.FORWARDING, "SUSPECTED", True)


@pytest.mark.parametrize(
    ("fallback", "state"), [(Fallback.FORWARD, StudyState.FORWARDING), (Fallback.HOLD, StudyState.HELD)]
)
@pytest.mark.parametrize("error", [DetectorError("the model has no such layer"), ZeroDivisionError("division")])
def test_a_failing_detector_makes_the_study_undetermined_and_the_policy_decides(node, fallback, state, error):
    node.worker(Fake(error), policy=Policy(detector_failure=fallback)).work_once()
    assert (node.study.state, node.study.verdict) == (state, "UNDETERMINED")
    assert "detector fake failed" in node.study.reason
    assert node.metrics.failures == ["fake"]


def test_what_one_detector_finds_counts_although_another_fails(node):
    node.worker(Fake(DetectorError("broken")), Fake(DetectorResult(findings=(SUSPECT,)))).work_once()
    assert (node.study.state, node.study.verdict) == (StudyState.HELD, "SUSPECTED")


def test_a_study_that_cannot_be_read_is_undetermined(node):
    def assemble(_):
        raise OSError("disk gone")

    node.worker(Fake(DetectorResult()), assemble=assemble).work_once()
    assert (node.study.state, node.study.verdict) == (StudyState.FORWARDING, "UNDETERMINED")
    assert "could not be read" in node.study.reason


def test_a_study_that_kept_bringing_workers_down_is_judged_without_another_try(node):
    for _ in range(2):
        assert node.assessing.claim("doomed worker", 10.0) is not None
        node.clock.move(11.0)
        assert node.assessing.expire_leases() == [1]

    def assemble(_):
        pytest.fail("the study was tried again")

    node.worker(Fake(DetectorResult()), assemble=assemble, max_attempts=2).work_once()
    assert node.study.verdict == "UNDETERMINED"
    assert "ended 2 times" in node.study.reason


def test_an_instance_that_comes_in_meanwhile_makes_the_verdict_void(node):
    def assemble(_):
        node.receive("1.2.4")
        return []

    assert node.worker(Fake(DetectorResult()), assemble=assemble).work_once()
    assert (node.study.state, node.study.verdict) == (StudyState.RECEIVING, None)
    assert node.metrics.verdicts == []


def test_a_series_that_was_refused_is_undetermined_with_its_reason(node):
    refused = AssembledSeries("1.2", "1.2.1", (), refusal="gap of 5.0 mm between slices 31 and 32, expected 2.5 mm")
    node.worker(Fake(DetectorResult()), assemble=lambda _: [refused]).work_once()
    assert (node.study.verdict, node.study.reason) == ("UNDETERMINED", refused.refusal)


def test_a_localizer_beside_a_clean_series_does_not_make_a_doubt_of_the_study(node):
    clean = AssembledSeries("1.2", "1.2.1", ())
    localizer = AssembledSeries("1.2", "1.2.2", (), refusal="a localizer", out_of_scope=True)
    node.worker(Fake(DetectorResult()), assemble=lambda _: [localizer, clean]).work_once()
    assert node.study.verdict == "CLEAN"
    assert node.study.reason.endswith("not judged: a localizer")
    verdicts = [series["verdict"] for series in node.review.details(1).assessment["series"]]
    assert verdicts == ["UNDETERMINED", "CLEAN"]


def test_the_same_uid_with_other_pixels_in_another_study_holds_the_study(node):
    def receive(study_uid, sha256):
        key = InstanceKey(study_uid, f"{study_uid}.1", "1.2.3", sha256)
        node.intake.record(
            StoredInstance(
                0, key, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", f"{study_uid}.dcm", 0, 1, "ct-1"
            ),
            calling_ae="CT1",
            association_id="a",
        )

    def assemble(instances):
        for instance in instances:
            key = instance.key
            facts = InstanceFacts(
                key.sop_uid, key.series_uid, key.study_uid, "", key.sha256, pixel_sha256=f"pixels of {key.sha256}"
            )
            yield AssembledSeries(key.study_uid, key.series_uid, (facts,))

    receive("1.9", "b" * 64)
    node.clock.move(1000.0)
    node.assessing.complete_quiet(CompletenessRule(1.0, 100.0))
    worker = node.worker(Fake(DetectorResult()), assemble=assemble)
    assert worker.work_once()
    assert worker.work_once()
    details = node.review.details(2)
    assert (details.summary.state, details.summary.kinds) == (StudyState.HELD, ("integrity",))
    assert "came in another study with other pixels" in details.findings[0]["sentence"]


def test_a_worker_whose_accelerator_is_gone_ends_and_the_next_one_judges_the_study(node):
    with pytest.raises(AcceleratorLostError):
        node.worker(Fake(AcceleratorLostError("the accelerator is gone: CUDA_ERROR_ECC_UNCORRECTABLE"))).work_once()
    assert (node.study.state, node.study.verdict) == (StudyState.ASSESSING, None)
    assert node.metrics.failures == ["fake"]
    node.assessing.release_leases("worker")  # as a starting detect role does
    node.worker(Fake(DetectorResult(score=0.1, p_value=0.8))).work_once()
    assert (node.study.state, node.study.verdict) == (StudyState.FORWARDING, "CLEAN")


def test_a_series_that_cannot_be_counted_for_drift_gets_its_verdict_all_the_same(node, monkeypatch):
    def broken(*_):
        raise ValueError("no such bin")

    monkeypatch.setattr("pacs_guard.detect.worker.observe", broken)
    node.worker(Fake(DetectorResult(score=0.1, p_value=0.8))).work_once()
    assert node.study.verdict == "CLEAN"
