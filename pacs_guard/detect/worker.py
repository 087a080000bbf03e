"""The worker: claims complete studies, has them assessed, and lets the verdict take effect."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from pacs_guard.detect.assess import assess_series
from pacs_guard.detect.conflicts import uid_conflicts
from pacs_guard.detect.observe import observe
from pacs_guard.detect.report import series_report, write_evidence
from pacs_guard.domain.policy import judge, suspect_kinds
from pacs_guard.domain.text import printable
from pacs_guard.errors import AcceleratorLostError, LeaseLostError, PacsGuardError, QueueError
from pacs_guard.queue.assessing import strictest
from pacs_guard.queue.assessments import Assessment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pacs_guard.detect.assess import DetectMetrics
    from pacs_guard.detect.detector import Detector
    from pacs_guard.detect.models import ModelsInForce
    from pacs_guard.domain.drift import Observation
    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.domain.policy import Policy
    from pacs_guard.domain.verdict import SeriesResult
    from pacs_guard.domain.volume import AssembledSeries
    from pacs_guard.queue.assessing import Assessing
    from pacs_guard.queue.late import LateAssessing
    from pacs_guard.queue.rows import ClaimedStudy

_IDLE_SECONDS = 0.1
_PAUSE_SECONDS = 5.0
_LOG = structlog.get_logger(__name__)


class Worker:
    """Assesses one study at a time.

    Parameters
    ----------
    assessing : Assessing
        The queue.
    assemble : callable
        Turns a study's instances into series, one at a time.
    detectors : sequence of Detector
    policies : mapping of str to Policy
        By source.
    default_policy : Policy
        For sources that are no longer configured.
    data_dir : Path
        Evidence goes into its folder ``evidence``.
    metrics : DetectMetrics
    clock : callable
        Returns seconds since the epoch.
    owner : str
        Name of this worker in leases.
    lease_seconds : float
    max_attempts : int
        How often a study may bring a worker down.
    late : LateAssessing, optional
        Studies that were forwarded unjudged, or are to be judged anew; looked at when no other waits.
    models : ModelsInForce, optional
        Says before each study which detectors judge it, instead of `detectors`.
    """

    def __init__(
        self,
        *,
        assessing: Assessing,
        assemble: Callable[[Sequence[StoredInstance]], Iterable[AssembledSeries]],
        detectors: Sequence[Detector],
        policies: Mapping[str, Policy],
        default_policy: Policy,
        data_dir: Path,
        metrics: DetectMetrics,
        clock: Callable[[], float],
        owner: str,
        lease_seconds: float,
        max_attempts: int,
        late: LateAssessing | None = None,
        models: ModelsInForce | None = None,
    ) -> None:
        self._assessing = assessing
        self._assemble = assemble
        self._detectors = tuple(detectors)
        self._policies = policies
        self._default_policy = default_policy
        self._data_dir = data_dir
        self._metrics = metrics
        self._clock = clock
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._late = late
        self._models = models

    def reconfigure(self, policies: Mapping[str, Policy]) -> None:
        """Judge every later study by `policies`."""
        self._policies = policies

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; the study under way is finished first.

        Raises
        ------
        AcceleratorLostError
            If the accelerator is gone; the study is not lost, it waits for the next worker.
        """
        while not stop.is_set():
            try:
                worked = self.work_once()
            except QueueError as error:
                _LOG.error("queue does not answer; trying again", error=str(error))
                stop.wait(_PAUSE_SECONDS)
                continue
            if not worked:
                stop.wait(_IDLE_SECONDS)

    def work_once(self) -> bool:
        """Assess the study that has waited longest, or one forwarded unjudged; return whether there was one."""
        if self._models is not None:  # between two studies, so that one is judged by one set of models
            self._detectors = self._models.refresh()
        queues = (self._assessing, self._late)
        for queue in queues:
            if queue is None:
                continue
            study = queue.claim(self._owner, self._lease_seconds)
            if study is not None:
                self._work(queue, study)
                return True
        return False

    def _work(self, queue: Assessing | LateAssessing, study: ClaimedStudy) -> None:
        log = _LOG.bind(study=study.id, instances=len(study.instances), attempt=study.attempts)
        log.info("assessing study")
        with _Renewal(queue, study, self._lease_seconds):
            assessment, seconds = self._assess(study)
        try:
            state = queue.decide(study, assessment)
        except LeaseLostError as error:
            log.info("assessment dropped", why=str(error))
            return
        judgement = assessment.judgement
        self._metrics.assessed(judgement.verdict, judgement.decision, seconds, bypassed=judgement.bypassed)
        log.info(
            "study assessed",
            verdict=str(judgement.verdict),
            decision=str(judgement.decision),
            reason=judgement.reason,
            state=str(state),
            seconds=round(seconds, 3),
        )

    def _assess(self, study: ClaimedStudy) -> tuple[Assessment, float]:
        started, since = self._clock(), time.monotonic()
        evidence = self._data_dir / "evidence" / f"{study.id}-{study.revision}-{uuid.uuid4().hex[:8]}"
        results, reports, failure = self._results(study, evidence)
        policy = strictest(self._policies, self._default_policy, study.sources)
        judgement = judge(policy, results, failure=failure)
        bundles = {detector.name: detector.version for detector in self._detectors}
        kept = any(result.findings for result in results)
        if kept:
            evidence.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_evidence(evidence, _evidence(study, judgement.reason, judgement.verdict, bundles, reports))
        assessment = Assessment(
            judgement=judgement,
            series=tuple(results),
            bundles=bundles,
            evidence=str(evidence.relative_to(self._data_dir)) if kept else None,
            started_at=started,
            kinds=suspect_kinds(results),
            hashes=self._models.hashes if self._models is not None else {},
        )
        return assessment, time.monotonic() - since

    def _results(
        self, study: ClaimedStudy, evidence: Path
    ) -> tuple[list[SeriesResult], list[dict[str, Any]], str | None]:
        results: list[SeriesResult] = []
        reports: list[dict[str, Any]] = []
        if study.attempts > self._max_attempts:
            return results, reports, f"the detector ended {study.attempts - 1} times without a verdict on this study"
        failure = None
        try:
            pixels = self._pixels_elsewhere(study)
            for number, series in enumerate(self._assemble(study.instances), start=1):
                folder = evidence / f"series-{number}"
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                conflicts = uid_conflicts(series, study.conflicting, pixels)
                result, failed = assess_series(series, self._detectors, self._metrics, folder, known=conflicts)
                failure = failure or failed
                results.append(replace(result, observed=_observed(series, result)))
                reports.append(series_report(study.study_uid, result, series.files) | {"folder": folder.name})
                _remove_if_empty(folder)
        except AcceleratorLostError:  # the process ends, and the study is assessed by the next one
            raise
        except (PacsGuardError, OSError, MemoryError) as error:
            _LOG.exception("study cannot be assessed", study=study.id)
            failure = printable(f"the study could not be read: {error or type(error).__name__}")
        _remove_if_empty(evidence)
        return results, reports, failure

    def _pixels_elsewhere(self, study: ClaimedStudy) -> dict[str, str | None]:
        """Return the pixel hash of each readable instance elsewhere that has a UID of this study."""
        readable = [instance for instance in study.conflicting if instance.path]
        return {
            facts.content_sha256: facts.pixel_sha256
            for series in (self._assemble(readable) if readable else ())
            for facts in series.instances
        }


def _observed(series: AssembledSeries, result: SeriesResult) -> tuple[Observation, ...]:
    try:
        return observe(series, result)
    except (ArithmeticError, IndexError, MemoryError, ValueError) as error:  # statistics; the verdict stands without
        _LOG.warning("series not counted for drift", series=series.series_uid, error=str(error))
        return ()


def _evidence(
    study: ClaimedStudy, reason: str, verdict: str, bundles: dict[str, str], reports: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "study_uid": study.study_uid,
        "study": study.id,
        "verdict": str(verdict),
        "reason": reason,
        "detectors": bundles,
        "instances": [
            {"sop_uid": instance.key.sop_uid, "sha256": instance.key.sha256, "file": instance.path}
            for instance in study.instances
        ],
        "series": reports,
    }


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class _Renewal:
    """Keeps a lease alive while the block runs."""

    def __init__(self, queue: Assessing | LateAssessing, study: ClaimedStudy, seconds: float) -> None:
        self._queue = queue
        self._study = study
        self._seconds = seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._seconds / 3):
            try:
                self._queue.renew(self._study, self._seconds)
            except LeaseLostError:
                return  # the verdict will be refused; nothing else has to know
            except QueueError as error:
                _LOG.warning("lease not renewed; trying again", study=self._study.id, error=str(error))
