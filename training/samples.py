"""Which slices and sites an experiment uses, and the pictures made of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pacs_guard.detect.lungs import lung_mask
from pacs_guard.detect.preprocess import Crop, Window, export_jpeg, lung_crop, sample, site_crop
from pacs_guard.errors import ConfigurationError
from training.index import AWAY_SLICES, CLEAN, NODULE, TAMPERED
from training.settings import Form, ProtocolName
from training.sources import read_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from pacs_guard.detect.preprocess import Transform
    from pacs_guard.domain.volume import Volume
    from training.index import Index, IndexRow

    Sheet = NDArray[np.float32]

AWAY_PIXELS = 80
"""An untampered site of a tampered slice is at least this far from every altered place."""

_ALTERED_PIXELS = 30
_WINDOW = Window()
_EDGE_PIXELS = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture before any copies are made of it.

    Attributes
    ----------
    kind : str
        ``untampered``, FB or FM.
    patient : str
        As in the index.
    source : str
        Data set.
    file, sha256 : str
        The slice.
    crop : Crop
        What of it.
    """

    kind: str
    patient: str
    source: str
    file: str
    sha256: str
    crop: Crop

    def answer(self, classes: Sequence[str]) -> int:
        """Return the number of its class."""
        return classes.index(self.kind if self.kind in classes else "tampered")


def choose_samples(
    index: Index, form: Form, protocol: ProtocolName, shape: tuple[int, int], seed: int
) -> tuple[list[Sample], list[str]]:
    """Return all tampered samples and as many untampered ones, and what should be known about the choice.

    Localised and grouped, the untampered ones are lung of the same slices, 80 pixels or more from every altered place
    within 40 slices; under the paper's protocol they are real nodules, then places in the lungs, of untampered slices.
    Whole slices are taken from untampered scans of the same source first, then of others; in turn from each patient.

    Raises
    ------
    ConfigurationError
        If there is nothing tampered, or nothing untampered.
    """
    rng = np.random.default_rng(seed)
    index, lost = _readable(index, form)
    tampered = list(_tampered(index, form, shape))
    if form is Form.LOCALISED and protocol is ProtocolName.GROUPED:
        untampered = list(_same_slice(index, shape, rng))
    else:
        untampered = _of_clean_slices(index, form, shape, len(tampered), rng)
    if not tampered or not untampered:
        raise ConfigurationError([f"found {len(tampered)} tampered and {len(untampered)} untampered samples"])
    notes = [f"{len(tampered)} tampered and {len(untampered)} untampered samples"]
    if lost:
        notes.append(f"{len(lost)} labelled slices cannot be read and were left out, such as {lost[0]}")
    sources = {one.source for one in tampered}
    foreign = sum(one.source not in sources for one in untampered)
    if foreign:
        notes.append(
            f"{foreign} of {len(untampered)} untampered samples come from other sources than the tampered ones: a "
            "classifier can tell the sources apart instead of the tampering"
        )
    if form is Form.LOCALISED and any(one.kind == "FM" for one in tampered):
        notes.append("FM sites show a nodule and most untampered ones none: part of what is learned may be 'nodule'")
    return [*tampered, *untampered], notes


def make_pictures(
    samples: Sequence[Sample],
    transforms: Sequence[Transform],
    protocol: ProtocolName,
    cache: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.float16], str]:
    """Return the pictures, and their key; made once and then read from `cache`.

    Returns
    -------
    ndarray of float16, shape (samples, transforms, rows, columns)
        Between 0 and 1, mapped from disk.
    str
        Hash of everything that went into them.
    """
    key = _key(samples, transforms, protocol)
    path = cache / f"pictures-{key}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shape = (len(samples), len(transforms), *samples[0].crop.shape)
        pictures = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        for number, one in enumerate(samples):
            pictures[number] = _pictures_of(one, transforms, protocol)
            progress(number + 1)
        pictures.flush()
        partial.replace(path)
    return np.load(path, mmap_mode="r"), key


def clean_volumes(index: Index, without: Collection[str], most: int, seed: int) -> Iterator[tuple[str, Volume]]:
    """Yield single untampered slices of every patient but those in `without`, up to `most` of each."""
    taken: Counter[str] = Counter()
    for row in _in_turn([one for one in index.rows if one.kind == CLEAN], np.random.default_rng(seed)):
        if row.patient not in without and taken[row.patient] < most:
            taken[row.patient] += 1
            yield row.patient, _volume(row.file)


def contact_pictures(index: Index, count: int, shape: tuple[int, int], seed: int) -> Iterator[tuple[str, Sheet]]:
    """Yield each class with pictures of up to `count` of its rows, one of each patient in turn.

    Yields
    ------
    str
        The class.
    ndarray of float32, shape (pictures, rows, columns)
        Around the site, or of the whole slice where there is none.
    """
    for kind in sorted({row.kind for row in index.rows}):
        rows = _in_turn([row for row in index.rows if row.kind == kind], np.random.default_rng(seed))
        pictures = []
        for row in rows[:count]:
            hu = _volume(row.file).hu[0]
            crop = _whole(hu.shape, shape) if row.x is None or row.y is None else site_crop(row.x, row.y, shape)
            pictures.append(sample(_WINDOW.apply(hu), crop))
        yield kind, np.stack(pictures)


def _pictures_of(one: Sample, transforms: Iterable[Transform], protocol: ProtocolName) -> NDArray[np.float32]:
    grey = _WINDOW.apply(_volume(one.file).hu[0])
    if protocol is ProtocolName.PAPER:
        grey = export_jpeg(grey)
    return np.stack([sample(grey, one.crop, transform) for transform in transforms])


def _readable(index: Index, form: Form) -> tuple[Index, list[str]]:
    """Return the index without sites on slices that cannot be made, and these files; clean slices are read later."""
    wanted = (*TAMPERED, "TM", NODULE) if form is Form.LOCALISED else TAMPERED
    lost: dict[str, None] = {}
    for file in sorted({row.file for row in index.rows if row.kind in wanted}):
        try:
            _volume(file)
        except ConfigurationError:
            lost[file] = None
    return replace(index, rows=tuple(row for row in index.rows if row.file not in lost)), list(lost)


def _tampered(index: Index, form: Form, shape: tuple[int, int]) -> Iterator[Sample]:
    seen = set()
    for row in index.rows:
        place = (row.file, row.x, row.y) if form is Form.LOCALISED else row.file
        if row.kind not in TAMPERED or place in seen:
            continue
        seen.add(place)
        if form is Form.LOCALISED and row.x is not None and row.y is not None:
            yield _sample(row, row.kind, site_crop(row.x, row.y, shape))
        else:
            crop = _slice_crop(_volume(row.file), form, shape)
            if crop is not None:
                yield _sample(row, row.kind, crop)


def _same_slice(index: Index, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Sample]:
    """Yield one place for each altered one, in the lungs of its slice and away from all that is altered near it."""
    scans: dict[tuple[str, str], list[IndexRow]] = defaultdict(list)
    for row in index.rows:
        if row.kind in TAMPERED:
            scans[row.experiment, row.patient].append(row)
    for members in scans.values():
        for row in members:
            near = [(one.x, one.y) for one in members if abs(one.slice - row.slice) <= AWAY_SLICES]
            place = _lung_place(_volume(row.file), near, rng, max(shape) // 2 + _ALTERED_PIXELS)
            if place is not None:
                yield _sample(row, "untampered", site_crop(*place, shape))


def _of_clean_slices(
    index: Index, form: Form, shape: tuple[int, int], count: int, rng: np.random.Generator
) -> list[Sample]:
    own = {row.source for row in index.rows if row.kind in TAMPERED}
    chosen = []
    if form is Form.LOCALISED:
        real = [row for row in index.rows if row.kind in ("TM", NODULE) and row.x is not None]
        chosen = [_sample(row, "untampered", site_crop(row.x or 0, row.y or 0, shape)) for row in real[:count]]
    clean = [row for row in index.rows if row.kind == CLEAN]
    ordered = [row for same in (True, False) for row in _in_turn([r for r in clean if (r.source in own) is same], rng)]
    for row in ordered:
        if len(chosen) >= count:
            break
        volume = read_slice(Path(row.file))
        if volume is None:
            continue
        if form is Form.LOCALISED:
            place = _lung_place(volume, [], rng)
            crop = None if place is None else site_crop(*place, shape)
        else:
            crop = _slice_crop(volume, form, shape)
        if crop is not None:
            chosen.append(_sample(row, "untampered", crop))
    return chosen


def _in_turn(rows: Sequence[IndexRow], rng: np.random.Generator) -> list[IndexRow]:
    """Return rows in random order, one of each patient in turn."""
    patients: dict[str, list[IndexRow]] = defaultdict(list)
    for i in rng.permutation(len(rows)):
        patients[rows[i].patient].append(rows[i])
    order = sorted(patients)
    most = max((len(members) for members in patients.values()), default=0)
    return [patients[name][turn] for turn in range(most) for name in order if turn < len(patients[name])]


def _slice_crop(volume: Volume, form: Form, shape: tuple[int, int]) -> Crop | None:
    """Return the crop of a whole slice, or of its lungs; None where there is no lung to judge."""
    hu, spacing = volume.hu[0], volume.spacing_mm[1:]
    lungs = lung_crop(hu, spacing, shape)
    if form is Form.DELOCALISED or lungs is None:
        return lungs
    return _whole(hu.shape, shape)


def _whole(size: tuple[int, ...], shape: tuple[int, int]) -> Crop:
    rows, columns = size
    return Crop((columns - 1) / 2, (rows - 1) / 2, shape, max(1.0, rows / shape[0], columns / shape[1]))


def _lung_place(
    volume: Volume, near: Iterable[tuple[int | None, int | None]], rng: np.random.Generator, apart: int = 0
) -> tuple[int, int] | None:
    mask = lung_mask(volume.hu[0], volume.spacing_mm[1:])
    mask[:_EDGE_PIXELS], mask[-_EDGE_PIXELS:], mask[:, :_EDGE_PIXELS], mask[:, -_EDGE_PIXELS:] = (False,) * 4
    rows, columns = np.nonzero(mask)
    far = np.ones(len(rows), bool)
    for x, y in near:
        if x is not None and y is not None:
            # the altered cube must not reach into the picture
            clear = np.maximum(abs(columns - x), abs(rows - y)) >= apart
            far &= clear & (np.hypot(columns - x, rows - y) >= AWAY_PIXELS)
    places = np.flatnonzero(far)
    if not len(places):
        return None
    chosen = int(rng.choice(places))
    return int(columns[chosen]), int(rows[chosen])


def _sample(row: IndexRow, kind: str, crop: Crop) -> Sample:
    return Sample(kind, row.patient, row.source, row.file, row.sha256, crop)


def _volume(file: str) -> Volume:
    volume = read_slice(Path(file))
    if volume is None:
        raise ConfigurationError([f"{file}: no slice could be made of it"])
    return volume


def _key(samples: Iterable[Sample], transforms: Iterable[Transform], protocol: ProtocolName) -> str:
    content = [
        [(one.sha256, asdict(one.crop)) for one in samples],
        [asdict(one) for one in transforms],
        asdict(_WINDOW),
        protocol,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]
