"""The soak: a whole node under mixed traffic for an hour, while everything around it goes wrong.

    python -m tests.recovery soak --minutes 60 --output soak.json

DCMTK and pynetdicom send studies in several transfer syntaxes. Meanwhile roles are killed, the PACS goes away, the disk
is full (really, where a tmpfs can be mounted; else by the watermark), and peers send garbage, half data sets, floods of
connections and instances that claim gigabytes. In the last third of the time nobody is killed any more, so that the
roles' memory is seen beyond the minutes in which caches fill. In the end everything that was acknowledged has to be at
the PACS byte for byte, the ledger has to add up, and no role's memory may have grown; the exit code says so.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.integration.node import ROLES, Node, running, write_config
from tests.integration.peers import dataset_bytes, free_port, run_storescu, storescp, wait_until
from tests.integration.samples import make_instances
from tests.integration.sending import ACKNOWLEDGED, associate, verbatim
from tests.recovery.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INSTANCES = 20
MOST_WAITING = 10 * INSTANCES
TMPFS_BYTES = 192 << 20
MIN_FREE_BYTES = 24 << 20
SEGMENT_BYTES = 4 << 20  # as small a part of the disk as the usual size is of a usual disk
SETTLE_SECONDS = 600.0
SYNTAXES = {ExplicitVRLittleEndian: "-xe", ImplicitVRLittleEndian: "-xi", JPEG2000Lossless: "-xv", RLELossless: "-xr"}
KILLING = 2 / 3
"""Share of the time in which roles are killed; a killed role's memory tells nothing but how it warms up."""
EXTRA = """
proof = {{ method = "none", remove_unproved = true }}
"""


class Soak:
    """Traffic, faults and a count of what was promised.

    Parameters
    ----------
    node : Node
    folder : Path
        For what the peers need.
    pacs_port : int
    data_disk : Path
        The disk that the node's data lies on.
    is_small : bool
        Whether that disk is small enough to be filled.
    seed : int
    """

    def __init__(self, node: Node, folder: Path, pacs_port: int, data_disk: Path, *, is_small: bool, seed: int) -> None:
        self._node = node
        self._folder = folder
        self._pacs_port = pacs_port
        self._disk = data_disk
        self._is_small = is_small
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._killing_until = 0.0
        self._pacs: contextlib.ExitStack | None = None
        self._pacs_lock = threading.Lock()
        self._encoding = threading.Lock()  # the encoders are not made for several threads
        self.acknowledged: dict[str, str] = {}
        self.arrived: dict[str, Counter[str]] = defaultdict(Counter)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.memory = Memory(node.pid, node.process.pid)

    def run(self, seconds: float) -> None:
        """Keep everything going for so long, then let it come to rest and look at what is left."""
        self._killing_until = time.monotonic() + KILLING * seconds
        self._pacs_up()
        work = (self._pynetdicom, self._dcmtk, self._faults, self._hostile, self._collect)
        threads = [threading.Thread(target=self._guarded, args=(one,), name=one.__name__) for one in work]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.problems:
            self.memory.sample()
            time.sleep(5.0)
        self._stop.set()
        for thread in threads:
            thread.join()
        self._pacs_up()
        self._guarded(self._look)
        self._pacs_down()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # it ends the run, and is told
            self.problems.append(f"{work.__name__}: {error!r}")

    # traffic

    def _studies(self, name: str) -> Iterator[tuple[list[Path], str]]:
        number, rng = 0, random.Random(f"{name} {self._rng.random()}")
        while not self._stop.is_set():
            # so that there is something to wait for, and an end to waiting
            while len(self.acknowledged) - len(self.arrived) > MOST_WAITING and not self._stop.wait(0.2):
                continue
            folder, syntax = self._folder / f"{name}-{number}", rng.choice(list(SYNTAXES))
            with self._encoding:
                files = make_instances(folder, INSTANCES, transfer_syntax=syntax)
            yield files, syntax
            shutil.rmtree(folder)
            number += 1

    def _note(self, file: Path) -> None:
        content = file.read_bytes()
        uid = content[: content.index(b"\x02\x00\x10\x00")].rpartition(b"UI")[2][2:].rstrip(b"\0").decode()
        self.acknowledged[uid] = hashlib.sha256(dataset_bytes(content)).hexdigest()

    def _pynetdicom(self) -> None:
        with verbatim():
            for files, _ in self._studies("pynetdicom"):
                waiting = list(files)
                while waiting and not self._stop.is_set():
                    self._send_some(waiting)
                self.counts["studies sent by pynetdicom"] += not waiting

    def _send_some(self, waiting: list[Path]) -> None:
        association = associate(self._node.port, waiting[0])
        if not association.is_established:
            self.counts["associations not accepted"] += 1
            time.sleep(0.3)
            return
        while waiting and association.is_established:
            status = association.send_c_store(waiting[0])
            if not status or status.Status != ACKNOWLEDGED:
                self.counts["instances answered otherwise"] += 1
                break
            self._note(waiting.pop(0))
        if association.is_established:
            association.release()

    def _dcmtk(self) -> None:
        for files, syntax in self._studies("dcmtk"):
            options = ("-v", "-R", SYNTAXES[syntax], "-to", "10", "-td", "20", "-ta", "20")
            while not self._stop.is_set():
                try:
                    done = run_storescu(self._node.port, files, options=options)
                except subprocess.TimeoutExpired:  # on a busy machine; what it sent comes again
                    self.counts["storescu took too long"] += 1
                    continue
                if done.returncode == 0:
                    for file in files:
                        self._note(file)
                    self.counts["studies sent by DCMTK"] += 1
                    break
                self.counts["storescu ended early"] += 1
                time.sleep(0.3)

    # faults

    def _faults(self) -> None:
        kinds = (self._kill, self._kill, self._outage, self._full_disk)
        while not self._stop.wait(self._rng.uniform(5.0, 15.0)):
            kind = self._rng.choice(kinds)
            if kind != self._kill or time.monotonic() < self._killing_until:
                kind()

    def _kill(self) -> None:
        role = self._rng.choice(ROLES)
        self.counts[f"{role} killed"] += self._node.kill(role)

    def _outage(self) -> None:
        self.counts["PACS outages"] += 1
        self._pacs_down()
        self._stop.wait(self._rng.uniform(2.0, 10.0))
        self._pacs_up()

    def _pacs_up(self) -> None:
        with self._pacs_lock:
            if self._pacs is None:
                self._pacs = contextlib.ExitStack()
                self._pacs.enter_context(storescp(self._folder / "pacs", port=self._pacs_port))

    def _pacs_down(self) -> None:
        with self._pacs_lock:
            if self._pacs is not None:
                self._pacs.close()
                self._pacs = None

    def _full_disk(self) -> None:
        if not self._is_small:
            return
        # below the watermark, or not a byte left
        left = self._rng.choice((MIN_FREE_BYTES // 2, 0))
        self.counts["disk below its watermark" if left else "disk full to the last byte"] += 1
        ballast = self._disk / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while shutil.disk_usage(self._disk).free > left:
                    file.write(bytes(min(1 << 20, max(4096, shutil.disk_usage(self._disk).free - left))))
            self._stop.wait(self._rng.uniform(2.0, 6.0))
        finally:
            ballast.unlink()

    # peers that mean no good

    def _hostile(self) -> None:
        kinds = (self._garbage, self._huge_pdu, self._flood, self._half_association, self._liar)
        while not self._stop.wait(self._rng.uniform(1.0, 4.0)):
            kind = self._rng.choice(kinds)
            with contextlib.suppress(OSError):
                kind()
            self.counts[f"hostile: {kind.__name__.strip('_').replace('_', ' ')}"] += 1

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._node.port), timeout=5)

    def _garbage(self) -> None:
        with self._connect() as connection:
            connection.sendall(self._rng.randbytes(self._rng.choice((3, 600, 100_000))))

    def _huge_pdu(self) -> None:
        with self._connect() as connection:
            connection.sendall(struct.pack(">BxL", self._rng.choice((1, 4)), 2**32 - 1) + bytes(1 << 16))

    def _flood(self) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(self._connect())
            self._stop.wait(1.0)

    def _half_association(self) -> None:
        with self._encoding:
            [file] = make_instances(self._folder / "half", 1)
        association = associate(self._node.port, file)
        if association.is_established:  # and is left without a word
            association.dul.socket.socket.close()

    def _liar(self) -> None:
        """Send an instance that claims eight gigabytes; once acknowledged it has to be delivered like any other."""
        folder = self._folder / "liar"
        with self._encoding:
            [file] = make_instances(folder, 1, transfer_syntax=RLELossless)
        content = file.read_bytes()
        for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
            at = content.index(tag) + len(tag)
            content = content[:at] + b"\xff\xff" + content[at + 2 :]
        file.write_bytes(content)
        self._send_some([file])
        shutil.rmtree(folder)

    # what came of it

    def _collect(self) -> None:
        while not self._stop.wait(2.0):
            self._take()
            self._scrape()

    def _scrape(self) -> None:
        """Ask for the metrics, as Prometheus does; the role that has them may just have been killed."""
        try:
            self._node.metrics()
        except httpx.HTTPError:
            self.counts["scrapes not answered"] += 1
        else:
            self.counts["scrapes"] += 1

    def _take(self) -> None:
        """Note what the PACS has, and remove it there."""
        for file in (self._folder / "pacs").iterdir():
            content = file.read_bytes()
            if time.time() - file.stat().st_mtime < 1.0 or content[128:132] != b"DICM":
                continue  # the peer may be writing it just now
            uid = file.name.partition(".")[2]
            self.arrived[uid][hashlib.sha256(dataset_bytes(content)).hexdigest()] += 1
            file.unlink()

    def _missing(self) -> list[str]:
        return [uid for uid, digest in self.acknowledged.items() if digest not in self.arrived[uid]]

    def _look(self) -> None:
        def all_there() -> bool:
            self._take()
            return not self._missing()

        with contextlib.suppress(AssertionError):
            wait_until(all_there, seconds=SETTLE_SECONDS, what="every acknowledged instance at the PACS")
        if missing := self._missing():
            self.problems.append(f"{len(missing)} acknowledged instances did not arrive as they were: {missing[:3]}")
        altered = [uid for uid, digests in self.arrived.items() if uid in self.acknowledged and len(digests) > 1]
        if altered:
            self.problems.append(f"{len(altered)} instances arrived with other content too: {altered[:3]}")
        # nothing waits any more whose bytes could be looked at
        ledger = self._node.ask("ledger", check=False, seconds=SETTLE_SECONDS)
        received = sum(line["received"] for line in ledger["sources"])
        if not ledger["adds_up"] or received < len(self.acknowledged):
            self.problems.append(f"the ledger does not add up to {len(self.acknowledged)}: {json.dumps(ledger)[:500]}")
        self.counts["instances acknowledged"] = len(self.acknowledged)
        self.counts["instances arrived twice or more"] = sum(one.total() > 1 for one in self.arrived.values())


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a tmpfs at `folder`, where that is allowed; yields whether it was."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=0700", "tmpfs", str(folder)],
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def soak(minutes: float, seed: int, folder: Path) -> dict[str, object]:
    """Run the soak and return what is to be told of it."""
    pacs_port, data = free_port(), folder / "disk"
    with small_disk(data) as is_small:
        config = write_config(data, {"pacs": ("STORESCP", pacs_port)}, quiet=0.5, extra=EXTRA.format())
        room = f"min_free_bytes = {MIN_FREE_BYTES if is_small else 0}\nsegment_bytes = {SEGMENT_BYTES}"
        text = config.read_text().replace("min_free_bytes = 0", room)
        config = folder / "node" / "pacs-guard.toml"
        config.parent.mkdir()
        (config.parent / "data").symlink_to(data / "data")  # the log stays off the disk that is filled
        config.write_text(
            text.replace("[ops]\n", "[ops]\nretention_days = 0\n").replace("[detect]\n", "[detect]\nnice = 0\n")
        )
        with running(config) as node:
            one = Soak(node, folder, pacs_port, data, is_small=is_small, seed=seed)
            one.run(minutes * 60)
            grown = one.memory.grown()
        problems = one.problems + [f"memory grows: {line}" for line in grown]
        log = (folder / "node" / "node.log").read_text(errors="replace")
        if "Traceback" in log:
            one.counts["traces in the log"] = log.count("Traceback")
    return {
        "minutes": minutes,
        "seed": seed,
        "disk could be filled": is_small,
        "counts": dict(sorted(one.counts.items())),
        "memory": one.memory.report(),
        "problems": problems,
    }


def main(arguments: Sequence[str]) -> int:
    """Run the soak for as long as asked for, and tell what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.recovery soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("soak.json"))
    parser.add_argument("--keep", action="store_true", help="keep the node's folder")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    found = soak(options.minutes, options.seed, folder)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    if options.keep or found["problems"]:
        print(f"the node's log is in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if found["problems"] else 0
