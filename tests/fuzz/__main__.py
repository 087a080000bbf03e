"""Fuzzing by command.

    python -m tests.fuzz TARGET --seconds 300 [--engine atheris|chance] [--output findings]

Targets: wire (PDUs and messages), structure (a data set as it is received), reader (an instance as it is read),
assembler (a series), confined (the same in its process under limits, codecs included), transfer (what that process
answers), or all of them one after the other. Inputs that break a promise are put into the output folder, and the exit
code is 1. `chance` changes good inputs at random; `atheris` follows the branches that the code takes, and ends at the
first finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Fuzz what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--engine", choices=("atheris", "chance"), default="chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("fuzz-output"))
    options = parser.parse_args()
    if options.engine == "atheris":
        _instrument()
    from tests.fuzz.engines import by_atheris, by_chance  # noqa: PLC0415  # after the instrumentation
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    if options.target == "all":
        return max(_another(name, options) for name in TARGETS)
    if options.target not in TARGETS:
        parser.error(f"target {options.target!r} was given; expected one of {', '.join(TARGETS)}, or all")
    target = TARGETS[options.target]
    if options.engine == "atheris":
        by_atheris(target, options.seconds, options.seed or 1, options.output)  # does not return
    found = by_chance(target, options.seconds, options.seed, options.output)
    print(f"{target.name}: {found.inputs} inputs in {found.seconds:.0f} s, {len(found.findings)} findings")
    for name, kind in found.findings.items():
        print(f"  {options.output / name}: {kind}")
    return 1 if found.findings else 0


def _another(name: str, options: argparse.Namespace) -> int:
    more = ["--seconds", str(options.seconds), "--engine", options.engine, "--seed", str(options.seed)]
    command = [sys.executable, "-m", "tests.fuzz", name, *more, "--output", str(options.output)]
    return subprocess.run(command, check=False).returncode


def _instrument() -> None:
    if importlib.util.find_spec("atheris") is None:
        return  # the engine says so
    import atheris  # noqa: PLC0415  # not on every platform

    packages = ["pacs_guard.receive", "pacs_guard.assemble", "pydicom.filereader", "pydicom.values", "pydicom.dataset"]
    with atheris.instrument_imports(include=packages):
        import tests.fuzz.targets  # noqa: F401, PLC0415


if __name__ == "__main__":
    sys.exit(main())
