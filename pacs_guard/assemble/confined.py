"""Assembly in a process of its own, within limits: no data set can take more, or bring the worker down."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import structlog

from pacs_guard.assemble.reading import bare_facts
from pacs_guard.assemble.series import assemble_series, by_series
from pacs_guard.assemble.transfer import read_series, write_series
from pacs_guard.confined import ConfinedProcess, Limits, read_message, serve, write_message
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.domain.text import printable
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.errors import ConfinementError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MESSAGE_BYTES, _BYTES_PER_INSTANCE = 1 << 20, 1 << 14
_LOG = structlog.get_logger(__name__)


class ConfinedAssembly:
    """Assembles studies as `pacs_guard.assemble.series.assemble_study` does, in another process.

    Not for several threads at a time.

    Parameters
    ----------
    root : Path
        Folder that the instances' paths are relative to.
    limits : Limits
        For each series.
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
        self._process = ConfinedProcess(__name__, limits)

    def __call__(self, instances: Iterable[StoredInstance]) -> Iterator[AssembledSeries]:
        """Yield the series, one after the other; one that goes beyond a limit with that as its refusal.

        Raises
        ------
        SpoolError
            If a file cannot be opened.
        """
        for group in by_series(instances, from_network=self._from_network):
            try:
                yield from self._series(group)
            except ConfinementError as error:
                _LOG.error("series not read", series=group[0].key.series_uid, reason=str(error))
                yield _refused(group, f"reading failed: {error}")

    def close(self) -> None:
        """End the process, if there is one."""
        self._process.close()

    def _series(self, group: Sequence[StoredInstance]) -> Iterator[AssembledSeries]:
        most = _MESSAGE_BYTES + _BYTES_PER_INSTANCE * len(group)
        request = self._request | {"instances": [asdict(instance) for instance in group]}
        with self._process.question(request) as answers:
            while "series" in (message := read_message(answers, most=most)):
                yield read_series(answers, message, most_bytes=self._limits.memory_bytes)
        if "spool_error" in message:
            raise SpoolError(str(message["spool_error"]))
        if "refusal" in message:
            yield _refused(group, str(message["refusal"]))


def _refused(group: Sequence[StoredInstance], reason: str) -> AssembledSeries:
    key = group[0].key
    return AssembledSeries(
        study_uid=key.study_uid,
        series_uid=key.series_uid,
        instances=tuple(bare_facts(instance) for instance in group),
        refusal=f"not judged: {printable(reason)}",
        files={instance.key.sop_uid: instance.path for instance in group},
    )


def _answer(request: dict[str, Any], answers: IO[bytes], limits: Limits) -> None:
    """Assemble, in the other process."""
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
        write_message(answers, {"refusal": f"reading failed: {error!r}"})
    else:
        write_message(answers, {})


if __name__ == "__main__":
    serve(_answer)
