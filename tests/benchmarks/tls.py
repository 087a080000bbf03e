"""What TLS costs: the same CT slices with and without it, to and from DCMTK, in turns.

    python -m tests.benchmarks.tls --instances 200 --repeats 5

Figures are medians; the last column is the median of the pairs' ratios. The sender of the first table and the receiver
of the second are DCMTK's and do TLS themselves, so that this is what both sides pay together.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.config import DestinationSettings
from pacs_guard.deliver.channel import open_channel
from pacs_guard.deliver.command import StoreRequest
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.spool.store import StoredFiles
from tests.authority import Authority
from tests.benchmarks.receivers import dcmtk, pacs_guard
from tests.integration import peers
from tests.integration.samples import encoded, make_data_set, make_instances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.authority import Identity

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def options(identity: Identity, authority: Authority) -> tuple[str, ...]:
    return ("+tls", str(identity.key_file), str(identity.cert_file), "+cf", str(authority.ca_file))


@contextmanager
def guard(folder: Path, authority: Authority, own: Identity, transport: str) -> Iterator[tuple[int, int]]:
    """Run PACS Guard's receiver; give its plain port and the one for TLS."""
    port = peers.free_port()
    files = f'[tls]\ncert_file = "{own.cert_file}"\nkey_file = "{own.key_file}"\nca_file = "{authority.ca_file}"\n'
    extra = f'transport = "{transport}"\n[receive.tls]\nport = {port}\n{files}'
    with pacs_guard(folder, extra=extra) as running:
        yield running.port, port


def stored(folder: Path) -> StoredInstance:
    """Put one instance into a folder, as its data set alone."""
    content = encoded(make_data_set("1.2.3", "1.2.3.1", 1, rows=512))
    (folder / "one").write_bytes(content)
    key = InstanceKey("1.2.3", "1.2.3.1", "1.2.3.1.1", hashlib.sha256(content).hexdigest())
    return StoredInstance(0, key, CT, EXPLICIT, "one", 0, len(content))


def deliver(port: int, folder: Path, count: int, tls: dict[str, str] | None) -> float:
    """Send an instance again and again over one association; return the seconds."""
    destination = DestinationSettings(name="sink", ae_title="SINK", port=port, tls=tls)
    channel = open_channel("fast", destination, "GUARD", [(CT, [EXPLICIT])], StoredFiles(folder), lambda: None)
    instance = stored(folder)
    started = time.perf_counter()
    for number in range(count):
        request = StoreRequest(channel.accepted[0][0], number + 1, CT, instance.key.sop_uid)
        assert channel.exchange(request, instance).status == 0
    seconds = time.perf_counter() - started
    channel.close()
    return seconds


def in_turns(what: str, count: int, repeats: int, plain: Callable[[], float], secured: Callable[[], float]) -> str:
    pairs = [(count / plain(), count / secured()) for _ in range(repeats)]
    without, over = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    return f"| {what} | {without:.0f} | {over:.0f} | {ratio:.2f} |"


def timed_storescu(port: int, files: list[Path], called: str, more: tuple[str, ...]) -> float:
    started = time.perf_counter()
    done = peers.run_storescu(port, files, calling="CT1", called=called, options=("-R", "+II", *more))
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - started


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    count, repeats = asked.instances, asked.repeats
    print("| CT slices, 512 x 512, one association | plain, per second | over TLS, per second | TLS ÷ plain |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        authority = Authority(folder / "ca")
        own, peer = authority.issue("localhost"), authority.issue("peer")
        files = make_instances(folder / "files", count=count, rows=512)
        for transport in ("fast", "stock"):
            with guard(folder / transport, authority, own, transport) as (port, tls_port):
                to_guard = in_turns(
                    f"storescu to PACS Guard, {transport}",
                    count,
                    repeats,
                    lambda port=port: timed_storescu(port, files, "PACSGUARD", ()),
                    lambda port=tls_port: timed_storescu(port, files, "PACSGUARD", options(peer, authority)),
                )
                print(to_guard, flush=True)
        tls = {**own.as_settings(), "ca_file": str(authority.ca_file)}
        with (
            dcmtk(folder / "plain", "storescp", "--ignore") as plain,
            dcmtk(folder / "tls", "storescp", "--ignore", *options(peer, authority)) as secured,
        ):
            print(
                in_turns(
                    "storescu to storescp",
                    count,
                    repeats,
                    lambda: timed_storescu(plain.port, files, "ANY-SCP", ()),
                    lambda: timed_storescu(secured.port, files, "ANY-SCP", options(own, authority)),
                )
            )
            print(
                in_turns(
                    "PACS Guard to storescp, fast",
                    count,
                    repeats,
                    lambda: deliver(plain.port, folder, count, None),
                    lambda: deliver(secured.port, folder, count, tls),
                )
            )


if __name__ == "__main__":
    main()
