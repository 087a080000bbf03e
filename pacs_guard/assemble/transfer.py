"""An assembled series as bytes and back, between two processes: JSON for what is small, plain arrays for pixels.

The bytes come from a process that read hostile data sets, so nothing here makes more than data of them, and every size
is checked before room is made for it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pacs_guard.confined import write_message
from pacs_guard.domain.volume import AssembledSeries, InstanceFacts, Volume
from pacs_guard.errors import ConfinementError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ARRAYS = {"hu": np.dtype("<i2"), "padding": np.dtype("?"), "positions_mm": np.dtype("<f8")}


def write_series(file: IO[bytes], series: AssembledSeries) -> None:
    """Write a series: a message, then the arrays that it announces."""
    volume = series.volume
    message = {field.name: getattr(series, field.name) for field in fields(series) if field.name != "volume"}
    message["instances"] = [asdict(facts) for facts in series.instances]
    message["volume"] = None
    arrays: dict[str, NDArray[Any]] = {}
    if volume is not None:
        values = {field.name: getattr(volume, field.name) for field in fields(volume)}
        arrays = {name: values.pop(name) for name in _ARRAYS if values[name] is not None}
        message["volume"] = values | dict.fromkeys(_ARRAYS)
    message["shapes"] = {name: array.shape for name, array in arrays.items()}
    write_message(file, {"series": message})
    for name, array in arrays.items():
        file.write(np.ascontiguousarray(array, dtype=_ARRAYS[name]).data.cast("B"))


def read_series(file: IO[bytes], message: dict[str, Any], *, most_bytes: int) -> AssembledSeries:
    """Return the series that a message announces, reading its arrays.

    Parameters
    ----------
    file : binary file
    message : dict
        As `read_message` returned it.
    most_bytes : int
        Of all arrays together.

    Raises
    ------
    ConfinementError
        If the message announces no series, or more than that.
    """
    try:
        content = dict(message["series"])
        shapes = {str(name): tuple(map(int, shape)) for name, shape in content.pop("shapes").items()}
        _check(shapes, most_bytes)
        arrays = {name: _array(file, _ARRAYS[name], shape) for name, shape in shapes.items()}
        volume = content.pop("volume")
        content["instances"] = tuple(InstanceFacts(**_tuples(facts)) for facts in content["instances"])
        made = None if volume is None else Volume(**_tuples(volume) | arrays)
        return AssembledSeries(**_tuples(content), volume=made)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfinementError(f"a message that is no series: {error}") from error


def _check(shapes: Mapping[str, tuple[int, ...]], most_bytes: int) -> None:
    sizes = [math.prod(shape) * _ARRAYS[name].itemsize for name, shape in shapes.items()]
    if any(count < 0 for shape in shapes.values() for count in shape) or sum(sizes) > most_bytes:
        raise ConfinementError(f"arrays of shapes {shapes}; at most {most_bytes} bytes are read")


def _array(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.empty(shape, dtype)
    view = array.reshape(-1).view(np.uint8).data
    at = 0
    while at < len(view):
        count = file.readinto(view[at:])  # type: ignore[attr-defined]  # every buffered reader has it
        if not count:
            raise ConfinementError("the stream ended within an array")
        at += count
    return array


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Undo what JSON does to tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
