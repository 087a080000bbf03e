"""Assembly in a process of its own, with a limit on its memory and on its time: no data set can take more than that.

What a data set says of itself may be a lie: a few kilobytes can unpack to any size, and a decoder in C can crash. Both
end a process that does nothing else; the series that it was reading is refused with the reason, and the next one gets a
new process. A process reads one series after the other, as starting it takes longer than reading a small one.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import structlog

from pacs_guard.assemble.reading import bare_facts
from pacs_guard.assemble.series import assemble_series, by_series
from pacs_guard.assemble.transfer import BrokenAnswerError, read_message, read_series, write_message, write_series
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.text import printable
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_CLOCK_PER_PROCESSOR = 10.0
_MESSAGE_BYTES, _BYTES_PER_INSTANCE = 1 << 20, 1 << 14
_LARGEST_REQUEST = 1 << 30
_PIPE_BYTES = 1 << 20  # a volume goes through in half the time that the usual size takes
_LOG = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one series may take.

    Attributes
    ----------
    memory_bytes : int
        Address space of the process that reads (RLIMIT_AS).
    seconds : float
        Processor time; on the clock it may be ten times as long, since the process may have to wait for others.
    """

    memory_bytes: int
    seconds: float


class ConfinedAssembly:
    """Assembles studies as `pacs_guard.assemble.series.assemble_study` does, in another process.

    Not for several threads at a time.

    Parameters
    ----------
    root : Path
        Folder that the instances' paths are relative to.
    limits : Limits
    split_gaps, from_network : bool
        As for `assemble_study`.

    Examples
    --------
    ``for series in ConfinedAssembly(spool, Limits(4 << 30, 300.0))(instances): …``
    """

    def __init__(self, root: Path, limits: Limits, *, split_gaps: bool = False, from_network: bool = True) -> None:
        self._limits = limits
        self._from_network = from_network
        self._request = {"root": str(root), "split_gaps": split_gaps, "from_network": from_network}
        self._process: subprocess.Popen[bytes] | None = None
        self._is_answering = False

    def __call__(self, instances: Iterable[StoredInstance]) -> Iterator[AssembledSeries]:
        """Yield the series, one after the other; one that goes beyond a limit with that as its refusal.

        Raises
        ------
        SpoolError
            If a file cannot be opened.
        """
        for group in by_series(instances, from_network=self._from_network):
            yield from self._series(group)

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process, self._is_answering = self._process, None, False
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()

    def _series(self, group: Sequence[StoredInstance]) -> Iterator[AssembledSeries]:
        process = self._running()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limits.seconds * _CLOCK_PER_PROCESSOR, end)
        timer.daemon = True
        timer.start()
        self._is_answering = True
        try:
            yield from self._answers(process, group)
        except (BrokenAnswerError, OSError) as error:
            yield self._refused(group, self._why(process, error, late=late.is_set()))
        finally:
            timer.cancel()
            if self._is_answering:  # what is left of these answers must not be taken for the next series
                self.close()

    def _answers(self, process: subprocess.Popen[bytes], group: Sequence[StoredInstance]) -> Iterator[AssembledSeries]:
        assert process.stdin is not None  # noqa: S101  # narrows the type
        assert process.stdout is not None  # noqa: S101
        write_message(process.stdin, self._request | {"instances": [asdict(instance) for instance in group]})
        process.stdin.flush()
        most = _MESSAGE_BYTES + _BYTES_PER_INSTANCE * len(group)
        while True:
            message = read_message(process.stdout, most=most)
            if "series" in message:
                yield read_series(process.stdout, message, most_bytes=self._limits.memory_bytes)
                continue
            self._is_answering = False
            if "spool_error" in message:
                raise SpoolError(str(message["spool_error"]))
            if "refusal" in message:
                yield self._refused(group, str(message["refusal"]))
            return

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            limits = [str(self._limits.memory_bytes), str(self._limits.seconds)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pacs_guard.assemble.confined", *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # codecs in C say there what they think of each broken stream
                pipesize=_PIPE_BYTES,
            )
        return self._process

    def _why(self, process: subprocess.Popen[bytes], error: Exception, *, late: bool) -> str:
        """Say why there is no answer, and end the process."""
        process.kill()  # it may be alive, with nobody to know where its answer ends
        code = process.wait()
        self.close()
        seconds = self._limits.seconds
        if late:
            reason = f"reading it took more than {seconds * _CLOCK_PER_PROCESSOR:g} s"
        elif code == -signal.SIGXCPU:
            reason = f"reading it took more than {seconds:g} s of processor time"
        elif code in {-signal.SIGKILL, 1}:
            reason = f"what was read of it makes no sense: {error}"
        else:
            what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            reason = f"the process that read it ended with {what}, within {self._limits.memory_bytes} bytes of memory"
        _LOG.error("series not read", reason=reason)
        return reason

    @staticmethod
    def _refused(group: Sequence[StoredInstance], reason: str) -> AssembledSeries:
        key = group[0].key
        return AssembledSeries(
            study_uid=key.study_uid,
            series_uid=key.series_uid,
            instances=tuple(bare_facts(instance) for instance in group),
            refusal=f"not judged: {reason}",
            files={instance.key.sop_uid: instance.path for instance in group},
        )


# the other process


def serve(requests: BinaryIO, answers: BinaryIO, limits: Limits) -> None:
    """Answer requests until there are no more; the time is counted anew for each."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):  # it has nothing to write
        resource.setrlimit(limit, (0, 0))
    while True:
        try:
            request = read_message(requests, most=_LARGEST_REQUEST)
        except BrokenAnswerError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(used.ru_utime + used.ru_stime + limits.seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        _answer(request, answers, limits)
        answers.flush()


def _answer(request: dict[str, Any], answers: BinaryIO, limits: Limits) -> None:
    try:
        group = [StoredInstance(**values | {"key": InstanceKey(**values["key"])}) for values in request["instances"]]
        root, how = Path(request["root"]), {name: request[name] for name in ("split_gaps", "from_network")}
        for series in assemble_series(group, root, **how):
            write_series(answers, series)
    except MemoryError:
        write_message(answers, {"refusal": f"reading it takes more than {limits.memory_bytes} bytes of memory"})
    except SpoolError as error:
        write_message(answers, {"spool_error": str(error)})
    except Exception as error:  # noqa: BLE001  # nobody foresaw it, but it concerns this series alone
        write_message(answers, {"refusal": f"reading it failed: {printable(repr(error))}"})
    else:
        write_message(answers, {})


def _main() -> None:
    memory, seconds = sys.argv[1:]
    # what a library prints must not get between the answers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers, Limits(int(memory), float(seconds)))


if __name__ == "__main__":
    _main()
