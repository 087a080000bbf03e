"""Slices a second of the five networks in the worker, against Keras and ONNX Runtime as they come; peak memory.

Run it on a machine that does nothing else::

    python tests/benchmarks/networks.py
    python tests/benchmarks/networks.py --memory 1000 --networks densenet121 vgg19

The networks have random bases: what they answer means nothing, what it takes is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.detect.bundle import Bundle, load_bundle, save_bundle
from pacs_guard.detect.networks import ONNX, Network
from pacs_guard.detect.preprocess import LUNG_SHAPE, Window, lung_crop, network_input, sample
from pacs_guard.detect.sliceclassifier import SliceClassifier
from pacs_guard.domain.volume import AssembledSeries
from pacs_guard.simulate import make_phantom

if TYPE_CHECKING:
    from collections.abc import Callable

    from pacs_guard.domain.volume import Volume

NAMES = ("densenet121", "densenet201", "resnet50", "resnet101", "vgg19")
NODE, PREDICT, RUNTIME, COMPILED = "the worker", "model.predict", "ONNX Runtime", "compiled TensorFlow"
_DISTINCT = 16


def main() -> None:
    """Print the tables."""
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(_measure(Path(arguments.one), arguments.slices, arguments.rounds)))
    elif arguments.peak:
        print(json.dumps(_peak(Path(arguments.peak), arguments.memory)))
    else:
        _report(arguments)


def _report(arguments: argparse.Namespace) -> None:
    print(f"{_machine()}; 512 x 512 pixels reduced to {LUNG_SHAPE[0]} x {LUNG_SHAPE[1]}; random bases\n")
    columns = [NODE, PREDICT, RUNTIME, COMPILED, "worker / predict", "worker / ONNX", "whole path: worker", "/ predict"]
    columns = ["network", *columns, "/ ONNX", "largest difference of scores"]
    if arguments.memory:
        columns = ["network", "slices", "seconds", "peak MiB", "of these the series itself"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-c", f"import networks; networks.write_bundle({name!r}, {folder!r})"],
                check=True,
                cwd=Path(__file__).parent,
            )
            if arguments.memory:
                found = _alone("--peak", folder, "--memory", str(arguments.memory))
                row = [found["slices"], f"{found['seconds']:.0f}", f"{found['peak']:.0f}", f"{found['series']:.0f}"]
            else:
                row = _speed(
                    _alone("--one", folder, "--slices", str(arguments.slices), "--rounds", str(arguments.rounds))
                )
        print("| " + " | ".join(str(one) for one in [name, *row]) + " |", flush=True)


def _speed(found: dict[str, Any]) -> list[str]:
    scored, whole = found["scored"], found["whole"]
    speeds = [f"{statistics.median(scored[way]):.2f}" for way in (NODE, PREDICT, RUNTIME, COMPILED)]
    ratios = [_ratio(scored, PREDICT), _ratio(scored, RUNTIME)]
    path = [f"{statistics.median(whole[NODE]):.2f}", _ratio(whole, PREDICT), _ratio(whole, RUNTIME)]
    return [*speeds, *ratios, *path, f"{found['difference']:.1e}"]


def _ratio(speeds: dict[str, list[float]], other: str) -> str:
    pairs = [own / theirs for own, theirs in zip(speeds[NODE], speeds[other], strict=True)]
    return f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"


def write_bundle(name: str, folder: str) -> Bundle:
    """Write a network with a random base and a head fitted on noise, as `training` exports it."""
    from training.classifiers import Weights, build_base, estimator, unconverged, with_head  # noqa: PLC0415
    from training.networkfiles import network_files  # noqa: PLC0415

    base = build_base(name, LUNG_SHAPE, Weights("none"))
    noise = np.random.default_rng(0).standard_normal((40, base.outputs[0].shape[-1])).astype(np.float32)
    with unconverged():
        fitted = estimator(name, 0).fit(noise, np.arange(40) % 2)
    files, facts = network_files(name, with_head(base, fitted))
    window = Window()
    manifest = {
        "name": name,
        "version": "1",
        "detector": "slice-classifier",
        "preprocessing": {
            "form": "delocalised",
            "shape": list(LUNG_SHAPE),
            "window_hu": [window.low, window.high],
            "classes": ["untampered", "tampered"],
            **facts,
        },
        "operating_point": {"slice": 1e9},
        "calibration": {"clean_patients": []},
        "training_data": [],
        "figures": [],
    }
    return save_bundle(Path(folder), manifest, files)


def _measure(folder: Path, slices: int, rounds: int) -> dict[str, Any]:
    """Return slices a second by way, in rounds of one after another, from pictures and from whole slices."""
    import keras  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    from pacs_guard.detect.networks import KerasEngine  # noqa: PLC0415

    bundle = load_bundle(folder)
    detector, network = SliceClassifier(bundle), Network(bundle)
    session = onnxruntime.InferenceSession(bundle.read(ONNX), providers=["CPUExecutionProvider"])
    prepare = partial(network_input, network.name)
    compiled = KerasEngine(network.model, prepare)
    volume = _series(slices)
    pictures = np.stack([_picture(volume, index) for index in range(slices)])

    def predict(picture: Any) -> Any:
        return network.model.predict(prepare(picture[None]), verbose=0)

    def runtime(picture: Any) -> Any:
        return session.run(None, {"pictures": prepare(picture[None])})[0]

    ways: dict[str, Callable[[], Any]] = {
        NODE: lambda: network.scores(pictures),
        PREDICT: lambda: np.concatenate([predict(one) for one in pictures]),
        RUNTIME: lambda: np.concatenate([runtime(one) for one in pictures]),
        COMPILED: lambda: compiled.log_odds(pictures),
    }
    whole: dict[str, Callable[[], Any]] = {
        NODE: lambda: detector.assess(AssembledSeries("1", "2", (), volume)),
        PREDICT: lambda: [predict(_picture(volume, index)) for index in range(slices)],
        RUNTIME: lambda: [runtime(_picture(volume, index)) for index in range(slices)],
    }
    exact = np.asarray(keras.ops.log_softmax(ways[PREDICT]()), float)
    return {
        "scored": _speeds(ways, slices, rounds),
        "whole": _speeds(whole, slices, rounds),
        "difference": float(abs(exact - ways[NODE]()).max()),
    }


def _speeds(ways: dict[str, Callable[[], Any]], slices: int, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, do in ways.items():
            started = time.perf_counter()
            do()
            # the first round warms everything up
            if number:
                found[way].append(slices / (time.perf_counter() - started))
    return found


def _picture(volume: Volume, index: int) -> Any:
    crop = lung_crop(volume.hu[index], volume.spacing_mm[1:])
    if crop is None:
        raise SystemExit(f"slice {index} of the phantom shows no lung")
    return sample(Window().apply(volume.hu[index]), crop)


def _series(slices: int) -> Volume:
    """Return slices of a phantom's middle, over and over, as one series."""
    made = make_phantom(slices=_DISTINCT, slice_mm=5.0)
    hu = np.empty((slices, *made.hu.shape[1:]), np.int16)
    for index in range(slices):
        hu[index] = made.hu[_DISTINCT // 4 + index % (_DISTINCT // 2)]
    places = np.outer(np.arange(slices), (0.0, 0.0, 5.0))
    uids = tuple(f"1.2.{index + 1}" for index in range(slices))
    return replace(made, hu=hu, padding=None, positions_mm=places, sop_uids=uids)


def _peak(folder: Path, slices: int) -> dict[str, Any]:
    detector, volume = SliceClassifier(load_bundle(folder)), _series(slices)
    started = time.perf_counter()
    result = detector.assess(AssembledSeries("1", "2", (), volume))
    seconds = time.perf_counter() - started
    if len(result.slices) != slices or result.score is None:
        raise SystemExit(f"{len(result.slices)} of {slices} slices were scored: {result.undetermined}")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"slices": slices, "seconds": seconds, "peak": peak / 1024, "series": volume.hu.nbytes / 2**20}


def _alone(*arguments: str) -> dict[str, Any]:
    """Run this file in a process of its own and return what it says."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} at the start"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0, metavar="SLICES", help="measure peak memory of such a series")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
