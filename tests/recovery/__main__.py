"""The crash test by command; `python -m tests.recovery soak` is the soak.

    python -m tests.recovery --rounds 1000 --output crashes.jsonl

Every round sends two studies at once through a node of forked processes, two of them receivers, while one thing goes
wrong: a process is killed at a chosen step or at a random moment, a disk is full or broken, the database is locked, a
line is cut. Afterwards everything acknowledged has to be at the PACS bit for bit, nothing else may be claimed, and the
ledger has to add up. Each outcome is a line of the output; a run that was interrupted goes on after the last one. The
exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.loads import loads
from tests.recovery.rounds import CrashTest, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH = 25
"""Rounds that one node goes through before every byte of its spool is looked at and another begins."""


def run(numbers: Sequence[int], seed: int, folder: Path | None = None) -> Iterator[Outcome]:
    """Run some rounds and yield what came of each; the node's data of a broken one is kept."""
    load = loads()["small"]
    for first in range(0, len(numbers), BATCH):
        base = Path(tempfile.mkdtemp(prefix="recovery-", dir=folder))
        crash_test, outcomes = CrashTest(base, load), []
        try:
            for number in numbers[first : first + BATCH]:
                outcomes.append(crash_test.round(number, seed))
                if outcomes[-1].error:
                    outcomes[-1].error += f" (see {base})"
                    break  # the next rounds would find the same again
                yield outcomes.pop()
            if not outcomes:
                crash_test.look_at_the_spool()
        finally:
            crash_test.close()
        if outcomes:
            yield outcomes.pop()
            continue
        _remove(base)


def _remove(folder: Path) -> None:
    import shutil  # noqa: PLC0415  # only here

    shutil.rmtree(folder)


def summary(outcomes: Sequence[dict]) -> str:
    """What a person wants to know of all rounds."""
    fired = [outcome for outcome in outcomes if outcome["fired"]]
    kinds = Counter(outcome["kind"] for outcome in fired)
    broken = [outcome for outcome in outcomes if outcome["error"]]
    total = {name: sum(outcome[name] for outcome in outcomes) for name in ("deaths", "refused", "twice")}
    lines = [
        f"{len(outcomes)} rounds; in {len(fired)} something went wrong as planned: {dict(kinds.most_common())}",
        f"{total['deaths']} processes died",
        f"{total['refused']} instances were answered with a failure, sent again and taken",
        f"{total['twice']} instances reached the PACS twice, each after an answer was lost",
        f"{len(broken)} rounds broke a promise",
    ]
    return "\n".join([*lines, *(f"  {item['number']}: {item['fault']}: {item['error']}" for item in broken)])


def main() -> int:
    """Run what is missing of the rounds asked for, or the soak."""
    if sys.argv[1:2] == ["soak"]:
        from tests.recovery.soak import main as soak  # noqa: PLC0415  # only here

        return soak(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("crashes.jsonl"))
    parser.add_argument("--folder", type=Path, help="where the nodes' data lies; the system's temporary folder")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.output.read_text().splitlines()] if options.output.exists() else []
    numbers = sorted(set(range(options.rounds)) - {outcome["number"] for outcome in done})
    with options.output.open("a") as output:
        for outcome in run(numbers, options.seed, options.folder):
            done.append(asdict(outcome))
            output.write(json.dumps(done[-1]) + "\n")
            output.flush()
            print(
                f"{outcome.number:5d} {outcome.seconds:6.2f} s  {outcome.fault}  {outcome.error or 'kept'}", flush=True
            )
    print(summary(done))
    return 1 if any(outcome["error"] for outcome in done) else 0


if __name__ == "__main__":
    sys.exit(main())
