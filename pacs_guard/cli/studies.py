"""``status``, ``studies`` and ``quarantine``."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from pacs_guard.cli import output
from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.output import moment, number, print_json
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.queue.review import StudyDetails

_SHOWN_SECONDS = 3600


def show_status(config: Path | None, *, json: bool) -> None:
    """Print what the node is doing."""
    from pacs_guard.ops.roles import heartbeat_ages

    stores = open_stores(settings_from(config))
    gauges = stores.reports.gauges()
    roles = heartbeat_ages(stores.settings.node.data_dir / "run", CLOCK())
    if json:
        print_json(
            {
                "roles": roles,
                "queue": gauges.depth,
                "oldest_seconds": gauges.oldest_seconds,
                "studies": [
                    {"state": state, "verdict": verdict, "count": count}
                    for (state, verdict), count in sorted(gauges.studies.items())
                ],
                "delivery_backlog": gauges.delivery_backlog,
                "associations_open": gauges.associations_open,
                "quarantine_instances": gauges.quarantine_instances,
                "missing_instances": gauges.missing_instances,
                "bypasses": gauges.bypasses,
                "bypass_on": list(gauges.bypass_on),
                "late_findings": gauges.late_findings,
            }
        )
        return
    console = output.console()
    running = ", ".join(f"{role} ({age:.0f} s ago)" for role, age in sorted(roles.items())) or "none"
    console.print(f"roles heard of: {running}", highlight=False)
    table = Table("stage", "studies", "oldest")
    for stage, count in gauges.depth.items():
        table.add_row(stage, str(count), f"{gauges.oldest_seconds[stage]:.0f} s" if count else "")
    console.print(table)
    for destination, count in sorted(gauges.delivery_backlog.items()):
        console.print(f"not yet wholly with {destination}: {count} studies", highlight=False)
    for source, switch in stores.bypasses.active().items():
        console.print(
            f"BYPASS ON for {source} since {moment(switch.at)} by {switch.who}: {switch.reason}",
            highlight=False,
            markup=False,
        )
    if gauges.missing_instances:
        console.print(f"{gauges.missing_instances} instances are MISSING from the spool; run pacs-guard ledger")


def list_studies(config: Path | None, *, states: Sequence[str] | None, limit: int | None, json: bool) -> None:
    """Print studies, the newest first."""
    stores = open_stores(settings_from(config))
    summaries = stores.review.list_studies(_states(states), limit=limit)
    if json:
        print_json(summaries)
        return
    table = Table("id", "state", "verdict", "kinds", "score", "p", "instances", "source", "received", "reason")
    for one in summaries:
        table.add_row(
            str(one.id),
            str(one.state),
            one.verdict or "",
            " ".join(one.kinds),
            number(one.score),
            number(one.p_value),
            str(one.instances),
            " ".join(one.sources),
            moment(one.created_at),
            one.reason or "",
        )
    output.console().print(table)


def _states(names: Sequence[str] | None) -> list[StudyState] | None:
    if not names:
        return None
    try:
        return [StudyState(name) for name in names]
    except ValueError as error:
        known = ", ".join(StudyState)
        raise ConfigurationError([f"--state: {error}; expected one of {known}"]) from error


def show_study(config: Path | None, reference: str, *, json: bool) -> None:
    """Print everything known of a study."""
    stores = open_stores(settings_from(config))
    details = stores.review.details(stores.review.find(reference))
    folder = _evidence_folder(stores, details)
    if json:
        from dataclasses import asdict

        more = {
            "evidence_folder": str(folder) if folder else None,
            "results": stores.results.of_study(details.summary.id),
        }
        print_json(asdict(details) | more)
        return
    console = output.console()
    one = details.summary
    console.print(f"study {one.id}  {one.study_uid}", highlight=False)
    console.print(f"  state {one.state}, verdict {one.verdict or 'none yet'}: {one.reason or ''}", highlight=False)
    console.print(
        f"  {one.instances} instances from {', '.join(one.sources)}, {moment(one.created_at)}", highlight=False
    )
    for assessment in details.assessments:
        console.print(_assessment_line(assessment), highlight=False, markup=False)
    for finding in details.findings:
        console.print(_finding_line(finding), highlight=False, markup=False)
    if folder is not None:
        console.print(f"  evidence: {folder}", highlight=False)
        for picture in sorted(folder.rglob("*.png")):
            console.print(f"  picture:  {picture}", highlight=False)
    for result in stores.results.of_study(one.id):
        to = f" to {result['destination']}" if result["destination"] else ""
        error = result["last_error"] or ""
        console.print(f"  results{to}: {result['state']} {error}", highlight=False, markup=False)
    for delivery in details.deliveries:
        console.print(
            f"  to {delivery['destination']}: {delivery['state']} {delivery['instances']}{_proof(delivery)}"
            f" {delivery['last_error'] or ''}",
            highlight=False,
            markup=False,
        )
    for action in details.actions:
        console.print(
            f"  {moment(action['at'])} {action['action']} by {action['who']}: {action['reason']}",
            highlight=False,
            markup=False,
        )


def _assessment_line(assessment: dict[str, Any]) -> str:
    hashes = assessment["hashes"] or {}
    models = ", ".join(
        f"{name} {version}" + (f" ({hashes[name][:12]})" if name in hashes else "")
        for name, version in assessment["bundles"].items()
    )
    return (
        f"  {moment(assessment['finished_at'])} assessed ({assessment['cause']}): {assessment['verdict']} by {models}"
    )


def _finding_line(finding: dict[str, Any]) -> str:
    place = f" x={finding['x']:.0f} y={finding['y']:.0f}" if finding["x"] is not None else ""
    sop = f" in {finding['sop_uid']}" if finding["sop_uid"] else ""
    return (
        f"  {finding['kind']} ({finding['severity']}, {finding['detector']}, score {number(finding['score'])})"
        f"{place}{sop}: {finding['sentence']}"
    )


def _evidence_folder(stores: Stores, details: StudyDetails) -> Path | None:
    if details.assessment is None or details.assessment["evidence"] is None:
        return None
    return stores.settings.node.data_dir / str(details.assessment["evidence"])


def retry_study(config: Path | None, reference: str, *, destination: str | None, who: str, reason: str) -> None:
    """Queue again what was given up."""
    stores = open_stores(settings_from(config))
    if destination is not None and destination not in stores.destinations:
        raise ConfigurationError(
            [f"--destination: {destination!r} was given; expected one of {', '.join(stores.destinations)}"]
        )
    study = stores.review.find(reference)
    count = stores.forwarding.retry(study, destination)
    if count:
        stores.review.note_retry(study, who=who, reason=reason)
    typer.echo(f"study {study}: {count} instance(s) will be sent again")
    if destination is None and (results := stores.results.retry(study)):
        typer.echo(f"study {study}: {results} result(s) will be made or sent again")


def _proof(delivery: dict[str, Any]) -> str:
    known = ("pending", "proved", "unproved", "unasked")
    counts = ", ".join(f"{name} {delivery[name]}" for name in known if delivery[name])
    return f" (proof: {counts})" if counts else ""


def prove_study(config: Path | None, reference: str) -> None:
    """Have destinations asked again for the proof that they did not give."""
    stores = open_stores(settings_from(config))
    study = stores.review.find(reference)
    count = stores.proving.ask_again(study)
    typer.echo(f"study {study}: destinations will be asked again about {count} instance(s)")


def waive_proof(config: Path | None, reference: str, *, who: str, reason: str) -> None:
    """Let the copies of what no destination proved go, on record."""
    _require(who=who, reason=reason)
    stores = open_stores(settings_from(config))
    study = stores.review.find(reference)
    count = stores.proving.waive(study, who=who, reason=reason)
    typer.echo(f"study {study}: the proof of {count} instance(s) is waived by {who}; their copies go with retention")


def release_study(config: Path | None, reference: str, *, who: str, reason: str) -> None:
    """Lift the hold on a study."""
    _require(who=who, reason=reason)
    stores = open_stores(settings_from(config))
    study = stores.review.find(reference)
    stores.review.release(study, who=who, reason=reason, destinations=stores.destinations)
    typer.echo(f"study {study} released by {who}; it goes to {', '.join(stores.destinations)}")


def reject_study(config: Path | None, reference: str, *, who: str, reason: str) -> None:
    """Confirm a hold for good."""
    _require(who=who, reason=reason)
    stores = open_stores(settings_from(config))
    study = stores.review.find(reference)
    stores.review.reject(study, who=who, reason=reason)
    typer.echo(f"study {study} rejected by {who}; it is kept and not forwarded")


def label_study(
    config: Path | None, reference: str, label: str, *, places: Sequence[str], who: str, reason: str
) -> None:
    """Say what a study is, for training; where it stands does not change."""
    from pacs_guard.domain.labels import Label, Place

    _require(who=who, reason=reason)
    try:
        given = [Place.parse(text) for text in places]
        said = Label(label)
    except ValueError as error:
        raise ConfigurationError([f"{error}"]) from error
    if given and said is not Label.TAMPERED:
        raise ConfigurationError([f"--place was given with --as {said}; expected --as {Label.TAMPERED}"])
    stores = open_stores(settings_from(config))
    study = stores.review.find(reference)
    stores.labels.add(study, said, given, who=who, reason=reason)
    typer.echo(f"study {study} is labelled {said} by {who}" + (f", at {len(given)} place(s)" if given else ""))


def reassess_studies(
    config: Path | None,
    references: Sequence[str],
    *,
    everything: bool,
    source: str | None,
    since: datetime | None,
    who: str,
    reason: str,
) -> None:
    """Have studies judged anew by the models in force, when no other study waits."""
    _require(who=who, reason=reason)
    if not (references or everything or source or since):
        raise ConfigurationError(["nothing was given; expected studies, --source, --since or --all"])
    stores = open_stores(settings_from(config))
    ids = [stores.review.find(reference) for reference in references] if references else None
    first = since.replace(tzinfo=since.tzinfo or UTC).timestamp() if since is not None else None
    count = stores.late.request(who=who, reason=reason, study_ids=ids, source=source, since=first)
    typer.echo(f"{count} studies are judged anew when no other waits; {stores.late.waiting()} wait for it in all")


def _require(*, who: str, reason: str) -> None:
    empty = [name for name, value in (("--by", who), ("--reason", reason)) if not value.strip()]
    if empty:
        raise ConfigurationError([f"{name}: nothing was given; it is recorded for good" for name in empty])
