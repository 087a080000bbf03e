"""Prometheus metrics of all roles.

Counters and histograms are written by the process that knows them and summed over processes when they are scraped, so
that they survive a role's restart. Gauges are read from the queue and the disk at the moment of the scrape.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.core import Metric

    from pacs_guard.queue.reports import QueueGauges

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_SCORES = tuple(float(step) for step in range(-10, 11))


class RoleMetrics:
    """What the roles count; the three rooms each see the part that their protocol names.

    Parameters
    ----------
    registry : CollectorRegistry
        Where the metrics live.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._instances = Counter(
            "pacs_guard_received_instances",
            "Instances received, by source, outcome and C-STORE status.",
            ["source", "outcome", "status"],
            registry=registry,
        )
        self._bytes = Counter(
            "pacs_guard_received_bytes",
            "Bytes of data sets received, by source and outcome.",
            ["source", "outcome"],
            registry=registry,
        )
        self._receive = Histogram(
            "pacs_guard_receive_seconds",
            "Time from an instance's first fragment to its C-STORE response.",
            ["source"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._of_instance: dict[tuple[str, str, int], tuple[Counter, Counter, Histogram]] = {}
        self._accepted = Counter(
            "pacs_guard_associations_accepted", "Associations accepted.", ["source"], registry=registry
        )
        self._refused = Counter(
            "pacs_guard_associations_refused", "Associations refused, by reason.", ["reason"], registry=registry
        )
        self._certificate = Gauge(
            "pacs_guard_source_certificate_expiry_timestamp_seconds",
            "Until when the certificate holds that a source has shown last.",
            ["source"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._association = Histogram(
            "pacs_guard_association_seconds",
            "Length of associations.",
            ["source"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._assess = Histogram(
            "pacs_guard_assess_seconds", "Time to assess a study.", buckets=_SECONDS, registry=registry
        )
        self._verdicts = Counter(
            "pacs_guard_verdicts", "Verdicts, by what was decided.", ["verdict", "decision"], registry=registry
        )
        self._bypassed = Counter(
            "pacs_guard_unjudged_forwards",
            "Studies forwarded although they were not judged clean, by verdict.",
            ["verdict"],
            registry=registry,
        )
        self._scores = Histogram(
            "pacs_guard_detector_score",
            "Series scores, in the detector's own unit (log-odds for forensic).",
            ["detector"],
            buckets=_SCORES,
            registry=registry,
        )
        self._detector_errors = Counter(
            "pacs_guard_detector_errors", "Failures of a detector.", ["detector"], registry=registry
        )
        self._delivered = Counter(
            "pacs_guard_delivered_instances",
            "Instances that a destination took.",
            ["destination", "transcoded"],
            registry=registry,
        )
        self._delivered_bytes = Counter(
            "pacs_guard_delivered_bytes", "Bytes of data sets delivered.", ["destination"], registry=registry
        )
        self._deliver = Histogram(
            "pacs_guard_deliver_seconds",
            "Time to send one instance.",
            ["destination"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._of_delivery: dict[tuple[str, bool], tuple[Counter, Counter, Histogram]] = {}
        self._deliver_study = Histogram(
            "pacs_guard_deliver_study_seconds",
            "Time of a delivery that sent all of a study.",
            ["destination"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "pacs_guard_delivery_failures",
            "Instances or attempts that a destination did not take.",
            ["destination", "kind"],
            registry=registry,
        )
        self._thread_errors = Counter(
            "pacs_guard_thread_errors",
            "Errors that nobody expected, by the thread that met them and went on.",
            ["thread"],
            registry=registry,
        )
        self._notifications = Counter(
            "pacs_guard_notifications", "Notifications, by result.", ["result"], registry=registry
        )

    def instance(self, source: str, outcome: str, status: int, length: int, seconds: float) -> None:
        """Count an answered instance."""
        key = source, outcome, status
        if key not in self._of_instance:  # kept, as a look-up of labels takes longer than counting
            self._of_instance[key] = (
                self._instances.labels(source, outcome, f"0x{status:04X}"),
                self._bytes.labels(source, outcome),
                self._receive.labels(source),
            )
        instances, volume, duration = self._of_instance[key]
        instances.inc()
        volume.inc(length)
        duration.observe(seconds)

    def certificate(self, source: str, expires: float) -> None:
        """Note until when a source's certificate holds."""
        self._certificate.labels(source).set(expires)

    def association_opened(self, source: str) -> None:
        """Count an accepted association."""
        self._accepted.labels(source).inc()

    def association_closed(self, source: str, seconds: float) -> None:
        """Observe how long an association lasted."""
        self._association.labels(source).observe(seconds)

    def association_refused(self, reason: str) -> None:
        """Count a refused association."""
        self._refused.labels(reason).inc()

    def assessed(self, verdict: str, decision: str, seconds: float, *, bypassed: bool) -> None:
        """Count a verdict."""
        self._verdicts.labels(verdict, decision).inc()
        self._assess.observe(seconds)
        if bypassed:
            self._bypassed.labels(verdict).inc()

    def scored(self, detector: str, score: float) -> None:
        """Observe a series score."""
        self._scores.labels(detector).observe(score)

    def detector_failed(self, detector: str) -> None:
        """Count a detector's failure."""
        self._detector_errors.labels(detector).inc()

    def delivered(self, destination: str, seconds: float, length: int, *, transcoded: bool) -> None:
        """Count an instance that a destination took."""
        key = destination, transcoded
        if key not in self._of_delivery:  # kept, as a look-up of labels takes longer than counting
            self._of_delivery[key] = (
                self._delivered.labels(destination, "true" if transcoded else "false"),
                self._delivered_bytes.labels(destination),
                self._deliver.labels(destination),
            )
        instances, volume, duration = self._of_delivery[key]
        instances.inc()
        volume.inc(length)
        duration.observe(seconds)

    def failed(self, destination: str, kind: str) -> None:
        """Count a failure of a destination, ``transient`` or ``permanent``."""
        self._failures.labels(destination, kind).inc()

    def study_delivered(self, destination: str, seconds: float) -> None:
        """Observe the delivery of a whole study."""
        self._deliver_study.labels(destination).observe(seconds)

    def notification(self, result: str) -> None:
        """Count a notification."""
        self._notifications.labels(result).inc()

    def thread_error(self, thread: str) -> None:
        """Count an error that nobody expected."""
        self._thread_errors.labels(thread).inc()


def role_registry(folder: Path, role: str) -> CollectorRegistry:
    """Return a registry whose values this process shares through `folder`; call it before anything else here.

    Files go by the role, which runs once on a data folder: process ids are the same in every container.

    Raises
    ------
    RuntimeError
        If prometheus_client was set up for another folder already.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR") != str(folder):
        raise RuntimeError("PROMETHEUS_MULTIPROC_DIR must name the metrics folder before prometheus_client is imported")
    values.ValueClass = values.MultiProcessValue(lambda: role)  # type: ignore[no-untyped-call]  # the library's
    return CollectorRegistry()


class NodeCollector(Collector):
    """Gauges read from the queue and the disk when they are scraped.

    Parameters
    ----------
    gauges : callable
        Returns the queue's gauges.
    free_bytes : callable
        Returns what may still be written to the spool's disk.
    roles : callable
        Returns seconds since each role was last heard of.
    """

    def __init__(
        self,
        *,
        gauges: Callable[[], QueueGauges],
        free_bytes: Callable[[], int],
        roles: Callable[[], Mapping[str, float]],
    ) -> None:
        self._gauges = gauges
        self._free_bytes = free_bytes
        self._roles = roles

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registering asks no database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield the present values."""
        gauges = self._gauges()
        yield _labelled(
            "pacs_guard_studies", "Studies, by state and verdict.", ["state", "verdict"], gauges.studies.items()
        )
        stages = {(stage,): float(count) for stage, count in gauges.depth.items()}
        yield _labelled("pacs_guard_queue_depth", "Studies in each stage.", ["stage"], stages.items())
        ages = {(stage,): age for stage, age in gauges.oldest_seconds.items()}
        yield _labelled(
            "pacs_guard_queue_oldest_age_seconds", "Age of each stage's oldest study.", ["stage"], ages.items()
        )
        backlog = {(name,): float(count) for name, count in gauges.delivery_backlog.items()}
        yield _labelled(
            "pacs_guard_delivery_backlog",
            "Studies not yet wholly with a destination.",
            ["destination"],
            backlog.items(),
        )
        for name, text, value in (
            ("pacs_guard_associations_open", "Associations open now.", gauges.associations_open),
            ("pacs_guard_quarantine_instances", "Instances held or rejected.", gauges.quarantine_instances),
            ("pacs_guard_quarantine_bytes", "Their bytes.", gauges.quarantine_bytes),
            ("pacs_guard_missing_instances", "Instances whose bytes are gone.", gauges.missing_instances),
            ("pacs_guard_refused_instances", "Objects ever refused and recorded.", gauges.refusals),
            ("pacs_guard_notifications_waiting", "Notifications not yet sent.", gauges.notifications_waiting),
            ("pacs_guard_audit_events_failing", "Audit events sent in vain so far.", gauges.audit_failing),
            ("pacs_guard_spool_free_bytes", "Room left on the spool's disk.", self._free_bytes()),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily(
            "pacs_guard_bypasses",
            "Studies forwarded as their longest hold was over, or the bypass was switched on.",
            value=gauges.bypasses,
        )
        yield CounterMetricFamily(
            "pacs_guard_late_findings", "Suspicions in studies that were forwarded before.", value=gauges.late_findings
        )
        switches = {(source,): 1.0 for source in gauges.bypass_on}
        yield _labelled("pacs_guard_bypass_on", "Sources whose bypass is switched on.", ["source"], switches.items())
        made = {(state,): float(count) for state, count in gauges.results.items()}
        yield _labelled("pacs_guard_results", "Results as DICOM objects, by state.", ["state"], made.items())
        proofs = {key: float(count) for key, count in gauges.proofs.items()}
        yield _labelled(
            "pacs_guard_proof_instances",
            "Delivered instances, by what is known of them: pending, proved, unproved, unasked.",
            ["destination", "proof"],
            proofs.items(),
        )
        oldest = {(name,): age for name, age in gauges.oldest_proof_seconds.items()}
        yield _labelled(
            "pacs_guard_proof_oldest_age_seconds",
            "Since the oldest delivery that is still to be proved.",
            ["destination"],
            oldest.items(),
        )
        asked = {(state,): float(count) for state, count in gauges.commitment_requests.items()}
        yield _labelled(
            "pacs_guard_commitment_requests", "Modalities' requests for commitment, by state.", ["state"], asked.items()
        )
        heard = {(role,): seconds for role, seconds in self._roles().items()}
        yield _labelled("pacs_guard_role_heartbeat_age_seconds", "Since a role was heard of.", ["role"], heard.items())


def _labelled(
    name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values):
        family.add_metric(list(key), value)
    return family
