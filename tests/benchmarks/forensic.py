"""How long the forensic detector takes, beside a plain DenseNet121 and a sliding window over the same slices.

    python tests/benchmarks/forensic.py --series FOLDER [--slices 300] [--threads 2]

`FOLDER` holds one axial CT series; it is repeated up to `--slices`, mirrored each time, as no real series has the same
tissue twice. The three are timed in one run: the detector on the whole series, decoding apart; DenseNet121 without
weights on some slices at full size; a small network in 32 x 32 windows every 4 pixels on a crop. The last two are
extrapolated by their share of slices and of windows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pacs_guard.domain.volume import AssembledSeries  # after the threads are set

_DENSENET_SLICES = 4
_WINDOW, _STRIDE, _CROP = 32, 4, 128


def main() -> None:
    """Time all three and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(options.threads)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    series, decoding = _decoded(options.series, options.slices)
    detector = _detector_seconds(series)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    densenet, sliding = _densenet_seconds(series), _sliding_seconds(series)
    answer = {
        "slices": options.slices,
        "threads": options.threads,
        "decoding_seconds": round(decoding, 2),
        "forensic_seconds": round(detector, 2),
        "together_seconds": round(decoding + detector, 2),
        "peak_mib_with_the_volume": round(memory),
        "densenet121_seconds": round(densenet, 1),
        "densenet121_against_forensic": round(densenet / detector, 2),
        "sliding_window_seconds": round(sliding),
        "sliding_window_against_forensic": round(sliding / detector, 1),
    }
    print(json.dumps(answer))


def _decoded(folder: Path, slices: int) -> tuple[AssembledSeries, float]:
    """Return a series of that many slices, and the seconds that decoding them would take."""
    import numpy as np  # noqa: PLC0415  # after the threads are set

    from pacs_guard.assemble import assemble_study, find_instances  # noqa: PLC0415  # after the threads are set

    started = time.perf_counter()
    instances, _ = find_instances([folder])
    every = assemble_study(instances, Path("/"))
    series = max(every, key=lambda one: 0 if one.volume is None else len(one.volume.hu))
    seconds = time.perf_counter() - started
    volume = series.volume
    if volume is None:
        raise SystemExit(f"{folder}: {series.refusal}")
    index = np.arange(slices) % len(volume.hu)
    positions = volume.positions_mm[0] + np.arange(slices)[:, None] * np.array([0.0, 0.0, volume.spacing_mm[0]])
    longer = replace(
        volume,
        hu=_mirrored(volume.hu, index),
        padding=None,
        positions_mm=positions,
        sop_uids=tuple(f"1.2.{number + 1}" for number in range(slices)),
    )
    return replace(series, volume=longer), seconds * slices / len(volume.hu)


def _mirrored(hu: NDArray[np.int16], index: NDArray[np.intp]) -> NDArray[np.int16]:
    """Return slices of a series, each further turn of them mirrored in another way."""
    longer = hu[index]
    for number, one in enumerate(longer):
        turn = number // len(hu)
        longer[number] = one[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1].copy()
    return longer


def _detector_seconds(series: AssembledSeries) -> float:
    from pacs_guard.detect.registry import load_detector  # noqa: PLC0415  # after the threads are set

    detector = load_detector("forensic")
    started = time.perf_counter()
    detector.assess(series)
    return time.perf_counter() - started


def _densenet_seconds(series: AssembledSeries) -> float:
    import keras  # noqa: PLC0415  # after the threads are set
    import numpy as np  # noqa: PLC0415  # after the threads are set

    assert series.volume is not None
    model = keras.applications.DenseNet121(weights=None, include_top=False, input_shape=(None, None, 3), pooling="avg")
    some = np.repeat(series.volume.hu[:_DENSENET_SLICES, ..., None], 3, axis=3).astype(np.float32) / 1000
    model.predict(some[:1], verbose=0)
    started = time.perf_counter()
    model.predict(some, batch_size=1, verbose=0)
    return (time.perf_counter() - started) * len(series.volume.hu) / len(some)


def _sliding_seconds(series: AssembledSeries) -> float:
    import keras  # noqa: PLC0415  # after the threads are set
    import numpy as np  # noqa: PLC0415  # after the threads are set

    assert series.volume is not None
    layers: list[keras.Layer] = [keras.Input((_WINDOW, _WINDOW, 1))]
    for width in (32, 64, 128):
        layers += [keras.layers.Conv2D(width, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)])
    rows, columns = series.volume.hu.shape[1:]
    top, left = (rows - _CROP) // 2, (columns - _CROP) // 2
    crop = series.volume.hu[0, top : top + _CROP, left : left + _CROP].astype(np.float32) / 1000
    views = np.lib.stride_tricks.sliding_window_view(crop, (_WINDOW, _WINDOW))[::_STRIDE, ::_STRIDE]
    windows = np.ascontiguousarray(views.reshape(-1, _WINDOW, _WINDOW, 1))
    model.predict(windows[:64], verbose=0)
    started = time.perf_counter()
    model.predict(windows, batch_size=256, verbose=0)
    seconds = time.perf_counter() - started
    whole = ((rows - _WINDOW) // _STRIDE + 1) * ((columns - _WINDOW) // _STRIDE + 1)
    return seconds * whole / len(windows) * len(series.volume.hu)


if __name__ == "__main__":
    main()
