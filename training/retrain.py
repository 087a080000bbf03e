"""From labelled studies to a proposal: train a challenger, compare it with the champion, write both down."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pacs_guard.detect.bundle import load_bundle
from pacs_guard.detect.registry import load_detector
from pacs_guard.errors import ConfigurationError
from training.challenger import TooFewError, learnt_from, train_classifier, train_forensic, write_challenger
from training.comparison import compare, judge_both, outcome, what_n_allows
from training.labelled import CLEAN, PRESUMED, TAMPERED, read_labelled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from pacs_guard.detect.bundle import Bundle
    from training.comparison import Comparison
    from training.labelled import LabelledStudy

FORENSIC = "forensic"
TOO_FEW = "too few"
PROTOCOL = "held-back patients of this node, whole studies judged as in the node; exact 95 % intervals"


@dataclass(frozen=True, slots=True)
class Run:
    """What is asked for.

    Attributes
    ----------
    champion : Path
        Folder of its bundle.
    reviewed : Path
        Export of labelled studies.
    data : Path or None
        Base that the champion was trained on.
    out : Path
        Folder of the new version.
    version : str
    proposal : Path
        JSON file to write; the same in words lies beside it.
    least : int
        Fewest held-back patients, altered as well as clean, that a proposal is made on.
    seed, networks : int
    """

    champion: Path
    reviewed: Path
    data: Path | None
    out: Path
    version: str
    proposal: Path
    least: int
    seed: int = 0
    networks: int = 5


def retrain(run: Run, options: argparse.Namespace, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Train, compare and propose; nothing is put in force.

    Returns
    -------
    dict
        The proposal, as written. With too few patients held back none is trained.
    """
    champion = load_bundle(run.champion)
    studies = read_labelled(run.reviewed)
    aside = [one for one in studies if one.held_back]
    counts = _counts(aside)
    facts = {
        "name": champion.name,
        "version": run.version,
        "champion": {"version": champion.version, "sha256": champion.sha256},
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "held_back_patients": counts,
        "trained_on_patients": _counts([one for one in studies if not one.held_back and one.label != PRESUMED]),
        "base": run.data is not None,
    }
    altered, clean = counts[TAMPERED], counts[CLEAN] + counts[PRESUMED]
    if min(altered, clean) < run.least:
        why = f"{what_n_allows(altered, clean)}; expected {run.least} of each or more"
        return _written(run, facts | {"outcome": TOO_FEW, "why": why}, {})
    try:
        sections, files = _trained(run, champion, studies, options, say)
    except TooFewError as error:
        return _written(run, facts | {"outcome": TOO_FEW, "why": str(error)}, {})
    working = run.out.with_name(f".{run.out.name}.partial")
    shutil.rmtree(working, ignore_errors=True)
    learnt = learnt_from(studies)
    write_challenger(champion, run.version, sections, files, learnt, [], "", working)
    figures = compare(judge_both(aside, load_detector(run.champion), load_detector(working), say))
    proposed, why = outcome(figures)
    facts |= {"outcome": proposed, "why": why, "note": what_n_allows(altered, clean)}
    card = champion.read("MODEL_CARD.md").decode() + _card(run, facts, figures)
    made = write_challenger(champion, run.version, sections, files, learnt, _figures(figures), card, working)
    if run.out.exists():
        raise ConfigurationError([f"{run.out} exists; expected a version that is new"])
    working.rename(run.out)
    return _written(run, facts | {"sha256": made.sha256}, figures)


def _trained(
    run: Run,
    champion: Bundle,
    studies: list[LabelledStudy],
    options: argparse.Namespace,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    if champion.detector == FORENSIC:
        return train_forensic(champion, studies, run.data, seed=run.seed, networks=run.networks, say=say)
    return train_classifier(champion, studies, run.reviewed, run.data, options, say)


def _counts(studies: list[LabelledStudy]) -> dict[str, int]:
    return {label: len({one.patient for one in studies if one.label == label}) for label in (TAMPERED, CLEAN, PRESUMED)}


def _figures(figures: dict[str, Comparison]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.of,
            "value": round(one.challenger.count / one.challenger.n, 3),
            "low": one.challenger.low,
            "high": one.challenger.high,
            "n": f"{one.challenger.n} patients",
            "protocol": PROTOCOL,
        }
        for one in figures.values()
        if one.challenger.n
    ]


def _written(run: Run, facts: dict[str, Any], figures: dict[str, Comparison]) -> dict[str, Any]:
    proposal = facts | {"figures": {name: one.as_dict() for name, one in figures.items()}}
    run.proposal.parent.mkdir(parents=True, exist_ok=True)
    run.proposal.with_suffix(".txt").write_text(_text(facts, figures), encoding="utf-8")
    part = run.proposal.with_suffix(".part")
    part.write_text(json.dumps(proposal, indent=1) + "\n", encoding="utf-8")
    part.replace(run.proposal)
    return proposal


def _text(facts: dict[str, Any], figures: dict[str, Comparison]) -> str:
    held, used = facts["held_back_patients"], facts["trained_on_patients"]
    lines = [
        f"{facts['name']} {facts['version']} against {facts['champion']['version']}: {facts['outcome']}",
        f"  {facts['why']}",
        f"  trained on {used[TAMPERED]} altered and {used[CLEAN]} clean patients of this node"
        + ("" if facts["base"] else " alone, without a base"),
        f"  held back: {held[TAMPERED]} altered, {held[CLEAN]} clean and {held[PRESUMED]} unreviewed patients",
    ]
    lines += [
        f"  {one.of}: champion {one.champion}, challenger {one.challenger}; "
        f"only challenger {one.gained}, only champion {one.lost}, p {one.p_value:.3f}"
        for one in figures.values()
    ]
    if "note" in facts:
        lines += [f"  {facts['note']}", f"  {_BIAS}"]
    return "\n".join(lines) + "\n"


def _card(run: Run, facts: dict[str, Any], figures: dict[str, Comparison]) -> str:
    before = facts["champion"]["version"]
    return "\n".join(
        [
            "",
            f"## Trained again: {run.version}",
            "",
            f"The figures and data above are those of version {before}. This version was trained anew, on the same",
            "kinds of examples and on studies that people labelled on one node; its points and p-values are new, too.",
            "",
            "```",
            _text(facts, figures).rstrip(),
            "```",
            "",
            f"Protocol: {PROTOCOL}.",
            "",
        ]
    )


_BIAS = (
    "Reviewed studies were chosen by a champion's suspicion: of those confirmed a challenger can only lose, of the "
    "false alarms it can only end some."
)
