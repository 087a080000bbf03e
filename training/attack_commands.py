"""``python -m training attack``: list the attacks, train their generators, write an altered series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from pacs_guard.domain.verdict import FindingKind
    from pacs_guard.domain.volume import Volume
    from training.attack.table import Attack

_LEAST_MM = 3.0  # LIDC-IDRI outlines nodules from here on; smaller ones are marked by a point


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add ``list``, ``fit`` and ``apply`` to the parser of ``attack``."""
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    listed = commands.add_parser("list", help="say what attacks there are")
    listed.set_defaults(run=_list)
    fit = commands.add_parser("fit", help="train the generators for removal and injection, or go on training them")
    fit.add_argument("--data", type=Path, required=True, help="folder with clean/")
    fit.add_argument("--out", type=Path, required=True, help="folder of the weights; resumes there")
    fit.add_argument("--width", type=int, default=16, help="channels of the first layer; the paper's is 100")
    fit.add_argument("--steps", type=int, default=1000, help="batches for each of the two generators")
    fit.add_argument("--batch", type=int, default=8, help="cubes in a batch; the paper's is 32")
    fit.add_argument("--cubes", type=int, default=300, help="cubes cut for each generator")
    fit.add_argument("--seed", type=int, default=0)
    fit.set_defaults(run=_fit)
    _add_apply(commands)


def _add_apply(commands: Any) -> None:
    apply = commands.add_parser("apply", help="write an altered copy of a series, marked as simulated, with labels")
    apply.add_argument("--series", type=Path, required=True, help="folder of one untampered chest CT series")
    apply.add_argument("--attack", required=True, help="a name that list gives")
    apply.add_argument("--kind", choices=["FB", "FM"], help="removal or injection; not needed for a sham")
    apply.add_argument("--out", type=Path, required=True, help="folder to write the images and labels.json into")
    apply.add_argument("--generator", type=Path, help="folder of trained weights; plain in-painting without")
    apply.add_argument("--donors", type=Path, help="data folder whose LIDC-IDRI nodules are spliced")
    apply.add_argument("--seed", type=int, default=0)
    apply.set_defaults(run=_apply)


def _list(options: argparse.Namespace) -> None:
    from training.attack.table import ATTACKS, SHAM  # noqa: PLC0415  # commands import what they need

    del options
    for attack in ATTACKS.values():
        print(f"{attack.name:<15} {' '.join(attack.kinds) or SHAM:<6} {attack.says}")


def _fit(options: argparse.Namespace) -> None:
    from training.attack.fit import Plan, fit_generators  # noqa: PLC0415  # commands import what they need

    plan = Plan(options.width, options.steps, options.batch, options.cubes, options.seed)
    fit_generators(options.data, options.out, plan, say=lambda line: print(line, flush=True))
    print(f"wrote the generators to {options.out}")


def _apply(options: argparse.Namespace) -> None:
    from training.attack.cubes import known_donors, known_nodules  # noqa: PLC0415  # commands import what they need
    from training.attack.export import write_altered  # noqa: PLC0415
    from training.attack.series import simulate_series  # noqa: PLC0415
    from training.attack.table import find_attack  # noqa: PLC0415
    from training.attack.weights import load_generator  # noqa: PLC0415

    attack = find_attack(options.attack)
    kind = _kind(attack, options.kind)
    generator = load_generator(options.generator) if options.generator else None
    volume = _only_series(options.series)
    copies = simulate_series(
        volume,
        attack.name,
        kind,
        1,
        options.seed,
        nodules=tuple(site for site, diameter in known_nodules(volume, options.series) if diameter >= _LEAST_MM),
        generator=generator,
        donors=known_donors(options.donors) if options.donors else (),
    )
    altered = next(copies, None)
    if altered is None:
        raise ConfigurationError([f"{options.series}: no place was found at which {attack.name} can be done"])
    labels = write_altered(altered, options.out, seed=options.seed, generator=generator.name if generator else "plain")
    index, row, column = altered.site
    print(f"wrote {len(volume.hu)} images, {altered.label} at slice {index + 1}, x {column}, y {row}; see {labels}")


def _kind(attack: Attack, given: str | None) -> FindingKind | None:
    from pacs_guard.domain.verdict import FindingKind  # noqa: PLC0415  # commands import what they need

    if attack.sham:
        return None
    if given is None or FindingKind(given) not in attack.kinds:
        raise ConfigurationError([f"kind is {given}; {attack.name} does {', '.join(attack.kinds)}"])
    return FindingKind(given)


def _only_series(folder: Path) -> Volume:
    from training.sources import read_series  # noqa: PLC0415  # commands import what they need

    volumes = read_series(folder)
    if len(volumes) != 1:
        raise ConfigurationError([f"{folder}: {len(volumes)} series were found; expected one"])
    return volumes[0]
