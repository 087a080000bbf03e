"""A process of its own for work on hostile bytes, with a limit on its memory and on its time.

What a data set says of itself may be a lie: a few kilobytes can unpack to any size, and a decoder in C can crash. Both
end a process that does nothing else; whoever asked is told why, and the next question gets a new process. A process
answers one question after the other, as starting it takes longer than answering most.

The two talk in JSON objects, each after its length, and bytes that these announce. What answers has read hostile bytes,
so nothing here makes more than data of its answers.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from pacs_guard.errors import ConfinementError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LENGTH = struct.Struct(">Q")
_CLOCK_PER_PROCESSOR = 10.0
_LARGEST_REQUEST = 1 << 30
_PIPE_BYTES = 1 << 20  # a volume goes through in half the time that the usual size takes


@dataclass(frozen=True, slots=True)
class Limits:
    """What one answer may take.

    Attributes
    ----------
    memory_bytes : int
        Address space of the process (RLIMIT_AS).
    seconds : float
        Processor time; on the clock it may be ten times as long, since the process may have to wait for others.
    """

    memory_bytes: int
    seconds: float


def write_message(file: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write one JSON object."""
    content = json.dumps(message).encode()
    file.write(_LENGTH.pack(len(content)) + content)


def read_message(file: IO[bytes], *, most: int) -> dict[str, Any]:
    """Read one JSON object of at most `most` bytes.

    Raises
    ------
    ConfinementError
        If there is none.
    """
    (length,) = _LENGTH.unpack(read_exactly(file, _LENGTH.size))
    if length > most:
        raise ConfinementError(f"a message of {length} bytes; at most {most} are read")
    try:
        message = json.loads(read_exactly(file, length))
    except (ValueError, RecursionError) as error:
        raise ConfinementError(f"a message that is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise ConfinementError("a message that is no JSON object")
    return message


def read_exactly(file: IO[bytes], count: int) -> bytes:
    """Read `count` bytes.

    Raises
    ------
    ConfinementError
        If the stream ends before.
    """
    content = file.read(count)
    if len(content) < count:
        raise ConfinementError("the stream ended within a message")
    return content


class ConfinedProcess:
    """Runs a module that calls `serve`, and asks it. Not for several threads at a time.

    Parameters
    ----------
    module : str
        Its full name.
    limits : Limits
    """

    def __init__(self, module: str, limits: Limits) -> None:
        self._module = module
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def question(self, request: Mapping[str, Any]) -> Iterator[IO[bytes]]:
        """Ask, and yield the stream of the answer, of which the block has to take everything.

        A process whose answer was not taken to its end is ended, as what is left must not be taken for the next one.

        Raises
        ------
        ConfinementError
            If the process goes beyond a limit, crashes, or answers nonsense; the text says which.
        """
        process = self._running()
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._limits.seconds * _CLOCK_PER_PROCESSOR, end)
        timer.daemon = True
        timer.start()
        is_whole = False
        try:
            assert process.stdin is not None  # noqa: S101  # narrows the type
            assert process.stdout is not None  # noqa: S101
            write_message(process.stdin, request)
            process.stdin.flush()
            yield process.stdout
            is_whole = True
        except (ConfinementError, OSError) as error:
            raise ConfinementError(self._why(process, error, late=late.is_set())) from error
        finally:
            timer.cancel()
            if not is_whole:
                self.close()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            limits = [str(self._limits.memory_bytes), str(self._limits.seconds)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # codecs in C say there what they think of each broken stream
                pipesize=_PIPE_BYTES,
            )
        return self._process

    def _why(self, process: subprocess.Popen[bytes], error: Exception, *, late: bool) -> str:
        process.kill()  # it may be alive, with nobody to know where its answer ends
        code = process.wait()
        seconds = self._limits.seconds
        if late:
            return f"it took more than {seconds * _CLOCK_PER_PROCESSOR:g} s"
        if code == -signal.SIGXCPU:
            return f"it took more than {seconds:g} s of processor time"
        if code in {-signal.SIGKILL, 0, 1}:
            return f"the answer makes no sense: {error}"
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its process ended with {what}, within {self._limits.memory_bytes} bytes of memory"


# the other process


def serve(answer: Callable[[dict[str, Any], IO[bytes], Limits], None]) -> None:
    """Answer on standard output what is asked on standard input; the time is counted anew for each question."""
    memory, seconds = sys.argv[1:]
    limits = Limits(int(memory), float(seconds))
    # what a library prints must not get between the answers
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):  # it has nothing to write
        resource.setrlimit(limit, (0, 0))
    while True:
        try:
            request = read_message(sys.stdin.buffer, most=_LARGEST_REQUEST)
        except ConfinementError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = math.ceil(used.ru_utime + used.ru_stime + limits.seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        answer(request, answers, limits)
        answers.flush()
