"""Where inputs come from: changes made by chance, or atheris, which follows the branches that the code takes."""

from __future__ import annotations

import faulthandler
import hashlib
import random
import signal
import struct
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fuzz.targets import Target

_HANG_SECONDS = 30
_INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    64,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 2,
    2**32 - 1,
)
_PIECES = (
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\x0d\xe0",
    b"\xfe\xff\xdd\xe0",
    b"\xff\xff\xff\xff",
    b"SQ\0\0",
    b"UN\0\0",
    b"\x1b[2J",
)


@dataclass
class Campaign:
    """What came of fuzzing one target.

    Attributes
    ----------
    inputs : int
    seconds : float
    findings : dict of str to str
        Error by the file that its input was put into.
    """

    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)


def by_chance(target: Target, seconds: float, seed: int, output: Path | None) -> Campaign:
    """Try changed seeds until the time is over; one input for each kind of error is kept."""
    rng = random.Random(seed)
    seeds, campaign, kinds = target.seeds(), Campaign(), set()
    for one in (*seeds, b""):
        target.check(one)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        data = changed(rng, seeds)
        campaign.inputs += 1
        try:
            with _alarm():
                target.check(data)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            kind = _kind(error)
            if kind not in kinds:
                kinds.add(kind)
                name = f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
                campaign.findings[name] = kind
                if output is not None:
                    output.mkdir(parents=True, exist_ok=True)
                    (output / name).write_bytes(data)
    campaign.seconds = time.monotonic() - began
    return campaign


def _kind(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__} at {where}: {str(error)[:120]}"


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError(f"not done within {_HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def changed(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a seed with some changes of the kinds that parsers trip over."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(7)
        if what == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[at : at + rng.choice((1, 2, 4, 100))] = b""
        elif what == 2:
            form = rng.choice(("<H", "<L", ">H", ">L"))
            value = rng.choice(_INTERESTING) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif what == 3:
            data[at:at] = rng.choice(_PIECES) * rng.choice((1, 1, 3))
        elif what == 4:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[at:at] = other[start : start + rng.choice((4, 50, 400))]
        elif what == 5:
            data[at : at + 4] = rng.randbytes(4)
        else:
            part = bytes(data[at : at + rng.choice((8, 40))])
            data[at:at] = part * rng.choice((1, 2, 40))
    return bytes(data)


def by_atheris(target: Target, seconds: float, seed: int, output: Path) -> None:
    """Hand the target to atheris, which ends the process itself: with 0, or at the first finding with another code.

    Raises
    ------
    SystemExit
        If atheris is not installed.
    """
    try:
        import atheris  # noqa: PLC0415  # not on every platform
    except ImportError as error:
        raise SystemExit(
            f"atheris cannot be loaded ({error}); pip install atheris (CPython 3.11 to 3.13 on Linux), "
            "or --engine chance"
        ) from error
    faulthandler.disable()  # the fuzzer reports crashes itself
    corpus = output / f"corpus-{target.name}"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(one)
    options = [
        f"-max_total_time={int(seconds)}",
        f"-seed={seed}",
        f"-timeout={_HANG_SECONDS}",
        "-max_len=65536",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={output}/{target.name}-",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], target.check)
    atheris.Fuzz()
