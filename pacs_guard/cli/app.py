"""The commands and their options; each imports what it needs when it runs."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # typer reads the annotation
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="A DICOM node between scanner and PACS that quarantines CT studies whose pixels were altered.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
studies_app = typer.Typer(help="Look at studies, and retry what was given up.", no_args_is_help=True)
quarantine_app = typer.Typer(help="Look at held studies, release or reject them.", no_args_is_help=True)
model_app = typer.Typer(
    help="Look at detector bundles, verify them, and say which version is in force.", no_args_is_help=True
)
config_app = typer.Typer(help="Check and show the settings.", no_args_is_help=True)
app.add_typer(studies_app, name="studies")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(model_app, name="model")
app.add_typer(config_app, name="config")
bypass_app = typer.Typer(help="Forward a source's studies unjudged for a while.", no_args_is_help=True)
app.add_typer(bypass_app, name="bypass")
report_app = typer.Typer(help="Write the daily report.", no_args_is_help=True)
app.add_typer(report_app, name="report")
audit_app = typer.Typer(help="Look at the audit trail.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="PACS_GUARD_CONFIG", help="The TOML file; default pacs-guard.toml here."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Who = Annotated[str, typer.Option("--by", help="Who decides; recorded for good.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded for good.")]
Source = Annotated[str, typer.Option("--source", help="Name of a source, as in the settings.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="So many seconds for running workers to take it.")]
Study = Annotated[str, typer.Argument(metavar="ID", help="The study's id or StudyInstanceUID.")]


class Role(StrEnum):
    """A process of the node."""

    RECEIVE = "receive"
    DETECT = "detect"
    DELIVER = "deliver"
    OPS = "ops"


@app.command()
def serve(config: Config = None) -> None:
    """Run the whole node on this machine: every role, watched and restarted."""
    from pacs_guard.cli.run import serve_node

    serve_node(config)


@app.command()
def run(
    role: Role,
    config: Config = None,
    *,
    supervised: Annotated[bool, typer.Option(hidden=True, help="Stop when the supervisor is gone.")] = False,
    process: Annotated[int, typer.Option(min=1, max=64, help="Which of receive.processes this one is.")] = 1,
) -> None:
    """Run one role, for systemd or Kubernetes."""
    from pacs_guard.cli.run import run_role

    run_role(str(role), config, supervised=supervised, process=process)


@app.command()
def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the node's files afterwards.")] = False,
    slices: Annotated[int, typer.Option(min=16, max=400, help="Slices of each synthetic series.")] = 60,
    output: Annotated[Path, typer.Option(help="Where the evidence picture is put.")] = Path("demo-output"),
) -> None:
    """Show the node at work: a clean series reaches a PACS, a tampered one is quarantined."""
    from pacs_guard.cli.demo import run_demo

    raise typer.Exit(run_demo(keep=keep, slices=slices, output=output))


@app.command()
def status(config: Config = None, *, json: Json = False) -> None:
    """Show what the node is doing now."""
    from pacs_guard.cli.studies import show_status

    show_status(config, json=json)


@studies_app.command("list")
def studies_list(
    config: Config = None,
    *,
    state: Annotated[list[str] | None, typer.Option(help="Only these states; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    json: Json = False,
) -> None:
    """List studies, the newest first."""
    from pacs_guard.cli.studies import list_studies

    list_studies(config, states=state, limit=limit, json=json)


@studies_app.command("show")
def studies_show(study: Study, config: Config = None, *, json: Json = False) -> None:
    """Show everything known of one study."""
    from pacs_guard.cli.studies import show_study

    show_study(config, study, json=json)


@studies_app.command("retry")
def studies_retry(
    study: Study,
    config: Config = None,
    *,
    destination: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    who: Who = "command line",
    reason: Reason = "retried by command",
) -> None:
    """Send again what was given up."""
    from pacs_guard.cli.studies import retry_study

    retry_study(config, study, destination=destination, who=who, reason=reason)


@studies_app.command("label")
def studies_label(
    study: Study,
    label: Annotated[str, typer.Option("--as", help="clean, tampered, or none: of no use for training.")],
    who: Who,
    reason: Reason,
    config: Config = None,
    *,
    place: Annotated[
        list[str] | None, typer.Option(help="KIND:SOP_INSTANCE_UID:COLUMN:ROW, KIND being FB or FM; may be repeated.")
    ] = None,
) -> None:
    """Say what a study really is, for training; any study, and it stays where it is."""
    from pacs_guard.cli.studies import label_study

    label_study(config, study, label, places=place or (), who=who, reason=reason)


@studies_app.command("reassess")
def studies_reassess(
    who: Who,
    reason: Reason,
    studies: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids or StudyInstanceUIDs.")] = None,
    config: Config = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every study that had its verdict.")] = False,
    source: Annotated[str | None, typer.Option(help="Only studies of this source.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only studies received since, UTC.")] = None,
) -> None:
    """Judge studies anew by the models in force, when no other waits; a late finding raises the alarm."""
    from pacs_guard.cli.studies import reassess_studies

    reassess_studies(config, studies or (), everything=everything, source=source, since=since, who=who, reason=reason)


@studies_app.command("collect")
def studies_collect(
    to: Annotated[Path, typer.Option("--to", help="Folder to add to.")],
    config: Config = None,
    *,
    source: Annotated[str | None, typer.Option(help="Only studies of this source.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The newest so many.")] = None,
) -> None:
    """Copy studies that nobody found altered into a folder for each patient, to calibrate detectors on."""
    from pacs_guard.cli.reviewed import collect_clean

    collect_clean(config, to, source=source, limit=limit)


@studies_app.command("export")
def studies_export(
    study: Study,
    to: Annotated[Path, typer.Option("--to", help="New folder.")],
    config: Config = None,
) -> None:
    """Copy a study's instances, as they came in, into a folder of DICOM files; held ones too."""
    from pacs_guard.cli.reviewed import export_study

    export_study(config, study, to)


@studies_app.command("prove")
def studies_prove(study: Study, config: Config = None) -> None:
    """Ask the destinations again for proof of what is unproved of a study."""
    from pacs_guard.cli.studies import prove_study

    prove_study(config, study)


@studies_app.command("waive")
def studies_waive(study: Study, who: Who, reason: Reason, config: Config = None) -> None:
    """Do without the proof that no destination gives of a study, so that retention may remove its copies."""
    from pacs_guard.cli.studies import waive_proof

    waive_proof(config, study, who=who, reason=reason)


@quarantine_app.command("list")
def quarantine_list(config: Config = None, *, json: Json = False) -> None:
    """List the studies that wait for a person."""
    from pacs_guard.cli.studies import list_studies

    list_studies(config, states=["held"], limit=None, json=json)


@quarantine_app.command("show")
def quarantine_show(study: Study, config: Config = None, *, json: Json = False) -> None:
    """Show why a study is held: its findings, places and pictures."""
    from pacs_guard.cli.studies import show_study

    show_study(config, study, json=json)


@quarantine_app.command("release")
def quarantine_release(study: Study, who: Who, reason: Reason, config: Config = None) -> None:
    """Forward a held study; it was a false alarm, or a person takes responsibility."""
    from pacs_guard.cli.studies import release_study

    release_study(config, study, who=who, reason=reason)


@quarantine_app.command("reject")
def quarantine_reject(study: Study, who: Who, reason: Reason, config: Config = None) -> None:
    """Confirm that a held study must not be forwarded; it is kept."""
    from pacs_guard.cli.studies import reject_study

    reject_study(config, study, who=who, reason=reason)


@quarantine_app.command("export")
def quarantine_export(
    to: Annotated[Path, typer.Option("--to", help="Folder to write into; new or empty.")],
    config: Config = None,
) -> None:
    """Copy what people released or rejected into a folder, labelled, to train and calibrate from."""
    from pacs_guard.cli.reviewed import export_reviewed

    export_reviewed(config, to)


@app.command()
def assess(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    *,
    detector: Annotated[list[str] | None, typer.Option(help="Name or bundle folder; may be repeated.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for a picture per finding.")] = None,
    json: Json = False,
) -> None:
    """Run the detectors on DICOM files, without any network."""
    from pacs_guard.cli.assess import assess_paths

    raise typer.Exit(assess_paths(paths, detectors=detector, pictures=pictures, json=json))


@app.command()
def ledger(
    config: Config = None,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Check every waiting and held instance's bytes too.")] = False,
    json: Json = False,
) -> None:
    """Prove that received = delivered + held + waiting + failed; exits with 1 if it does not add up."""
    from pacs_guard.cli.ledger import show_ledger

    raise typer.Exit(show_ledger(config, deep=deep, json=json))


@report_app.command("daily")
def report_daily(
    config: Config = None,
    *,
    date: Annotated[str | None, typer.Option(help="Such as 2026-11-24, local time; default yesterday.")] = None,
    json: Json = False,
) -> None:
    """Write what came on a day, by source, and where it is; exits with 1 if it does not add up."""
    from pacs_guard.cli.report import write_daily

    raise typer.Exit(write_daily(config, day=date, json=json))


@app.command("self-test")
def self_test(config: Config = None, *, json: Json = False) -> None:
    """Send a clean and an altered simulated study through the running node, to a destination of the test's own."""
    from pacs_guard.cli.selftest import run_self_test

    raise typer.Exit(run_self_test(config, json=json))


@bypass_app.command("on")
def bypass_on(source: Source, who: Who, reason: Reason, config: Config = None) -> None:
    """Forward a source's studies unjudged from now on; they are assessed afterwards."""
    from pacs_guard.cli.bypass import switch_bypass

    switch_bypass(config, source, on=True, who=who, reason=reason)


@bypass_app.command("off")
def bypass_off(source: Source, who: Who, reason: Reason, config: Config = None) -> None:
    """Have a source's studies wait for their verdict again."""
    from pacs_guard.cli.bypass import switch_bypass

    switch_bypass(config, source, on=False, who=who, reason=reason)


@bypass_app.command("list")
def bypass_list(config: Config = None, *, json: Json = False) -> None:
    """List every turn of the switches there ever was."""
    from pacs_guard.cli.bypass import list_bypasses

    list_bypasses(config, json=json)


@model_app.command("list")
def model_list(config: Config = None, *, json: Json = False) -> None:
    """List every version of every model, and which are in force."""
    from pacs_guard.cli.model import list_models

    list_models(config, json=json)


@model_app.command("retrain")
def model_retrain(
    name: Annotated[str | None, typer.Argument(help="A detector; default all of retraining.detectors.")] = None,
    config: Config = None,
    *,
    data: Annotated[Path | None, typer.Option(help="Base folder, instead of retraining.data.")] = None,
) -> None:
    """Train a challenger from what people decided, compare it, and propose; exits with 1 if there is too little."""
    from pacs_guard.cli.retraining import retrain_model

    raise typer.Exit(retrain_model(config, name, data=data))


@model_app.command("promote")
def model_promote(
    name: str, version: str, who: Who, reason: Reason, config: Config = None, *, wait: Wait = 5.0
) -> None:
    """Put a version in force, once it is verified; running workers take it between two studies."""
    from pacs_guard.cli.model import promote_model

    promote_model(config, name, version, who=who, reason=reason, wait_seconds=wait)


@model_app.command("rollback")
def model_rollback(name: str, who: Who, reason: Reason, config: Config = None, *, wait: Wait = 5.0) -> None:
    """Go back to the version that was in force before the last promotion."""
    from pacs_guard.cli.model import roll_back_model

    roll_back_model(config, name, who=who, reason=reason, wait_seconds=wait)


@model_app.command("show")
def model_show(name: str, *, json: Json = False) -> None:
    """Show a bundle: its data, its figures, its limits."""
    from pacs_guard.cli.model import show_model

    show_model(name, json=json)


@model_app.command("verify")
def model_verify(name: str) -> None:
    """Check every file of a bundle against its hash, and load it."""
    from pacs_guard.cli.model import verify_model

    verify_model(name)


@config_app.command("check")
def config_check(config: Config = None) -> None:
    """Check the settings; every problem is listed at once."""
    from pacs_guard.cli.configuration import check_config

    check_config(config)


@config_app.command("show")
def config_show(config: Config = None) -> None:
    """Show every setting in force, defaults included, secrets hidden."""
    from pacs_guard.cli.configuration import show_config

    show_config(config)


@audit_app.command("export")
def audit_export(
    config: Config = None,
    *,
    hours: Annotated[float, typer.Option(min=0, help="Of the last so many hours.")] = 24.0,
) -> None:
    """Print the node's audit messages (DICOM PS3.15 A.5), one XML document a line."""
    from pacs_guard.cli.auditing import export_audit

    export_audit(config, hours=hours)


@app.command()
def reload(config: Config = None) -> None:
    """Have the running node read its settings again; says what changed and what needs a restart."""
    from pacs_guard.cli.reload import reload_settings

    raise typer.Exit(reload_settings(config))


@app.command()
def alive(
    roles: Annotated[list[str] | None, typer.Argument(help="Only these; default all that run here.")] = None,
    config: Config = None,
) -> None:
    """Say whether this data folder's roles live, for a container's health check; exits with 1 if one does not."""
    from pacs_guard.cli.reload import check_alive

    raise typer.Exit(check_alive(config, roles or []))


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="Folder of the copy, on another disk; only what is new is copied.")],
    config: Config = None,
) -> None:
    """Copy queue, instances and evidence while the node runs; exits with 1 if the copy lacks an instance."""
    from pacs_guard.cli.backup import back_up

    raise typer.Exit(back_up(config, target))


@app.command()
def sbom() -> None:
    """Print the software bill of materials of this installation (CycloneDX, JSON)."""
    from pacs_guard.cli.sbom import print_sbom

    print_sbom()


@app.command()
def conformance(
    *,
    update: Annotated[Path | None, typer.Option(help="Bring the tables of this document up to date instead.")] = None,
) -> None:
    """Print the tables of the DICOM conformance statement, as this release behaves."""
    from pacs_guard.cli.conformance import show_conformance

    show_conformance(update)


@app.command()
def doctor(config: Config = None, *, json: Json = False) -> None:
    """Check ports, disk, decoders, database, models and destinations."""
    from pacs_guard.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(config, json=json))
