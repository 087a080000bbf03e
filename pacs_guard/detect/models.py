"""The detectors that a worker judges by, exchanged between two studies when another version is put in force."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pacs_guard.detect.bundle import MANIFEST, Bundle, find_bundle, load_bundle
from pacs_guard.detect.registry import RULES, load_detector, open_detector
from pacs_guard.detect.unavailable import UnavailableDetector
from pacs_guard.domain.models import LoadedModel, ModelVersion
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pacs_guard.detect.detector import Detector

_LOG = structlog.get_logger(__name__)
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_LOOK_SECONDS = 1.0
_REPORT_SECONDS = 60.0


def version_folder(folder: Path, name: str, version: str) -> Path:
    """Return where a version of a model lies in the folder of models.

    Raises
    ------
    BundleError
        If name or version would lead out of the folder.
    """
    if not (_PART.fullmatch(name) and _PART.fullmatch(version)):
        raise BundleError(f"{name!r} {version!r} is no name and version of a model")
    return folder / name / version


def configured_bundle(entry: str) -> Bundle:
    """Return the bundle that an entry of ``detect.detectors`` names.

    Raises
    ------
    BundleError
        If there is none, or it is not intact.
    """
    return load_bundle(Path(entry) if (Path(entry) / MANIFEST).is_file() else find_bundle(entry))


def find_version(folder: Path, configured: Bundle | None, name: str, version: str) -> Bundle:
    """Return a version of a model: from the folder of models, else the configured one if it is this.

    Raises
    ------
    BundleError
        If it is nowhere, or not intact.
    """
    path = version_folder(folder, name, version)
    if (path / MANIFEST).is_file():
        bundle = load_bundle(path)
        if (bundle.name, bundle.version) != (name, version):
            raise BundleError(f"{path} holds {bundle.name} {bundle.version}; expected {name} {version}")
        return bundle
    if configured is not None and (configured.name, configured.version) == (name, version):
        return configured
    raise BundleError(f"there is no {name} {version} in {folder}")


@dataclass
class _Slot:
    """One configured detector and what is loaded for it."""

    name: str
    configured: Bundle | None
    detector: Detector
    bundle: Bundle | None
    wanted: ModelVersion | None = None
    error: str | None = None

    def state(self) -> LoadedModel:
        sha256 = self.bundle.sha256 if self.bundle is not None else None
        return LoadedModel(self.name, self.detector.version, sha256, self.error)


class ModelsInForce:
    """Holds one detector for each configured name; a version that cannot be loaded leaves the one before it.

    Parameters
    ----------
    configured : sequence of str
        As in ``detect.detectors``.
    folder : Path
        Folder of models, ``NAME/VERSION``.
    wanted : callable
        Returns what is promoted, by name.
    report : callable
        Told what is loaded, whenever that changes and once in a while.
    now : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        configured: Sequence[str],
        folder: Path,
        wanted: Callable[[], Mapping[str, ModelVersion]],
        report: Callable[[Iterable[LoadedModel]], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._wanted = wanted
        self._report = report
        self._now = now
        self._slots = [_configured_slot(entry) for entry in configured]
        self._looked_at = self._reported_at = float("-inf")

    @property
    def loaded(self) -> list[LoadedModel]:
        """What is judged by now."""
        return [slot.state() for slot in self._slots]

    @property
    def bundles(self) -> list[Bundle]:
        """Bundles of the detectors; rules have none."""
        return [slot.bundle for slot in self._slots if slot.bundle is not None]

    @property
    def hashes(self) -> dict[str, str]:
        """Hash of each detector's bundle."""
        return {bundle.name: bundle.sha256 for bundle in self.bundles}

    def refresh(self) -> tuple[Detector, ...]:
        """Return the detectors for the next study, after a look at what is in force."""
        now = self._now()
        if now - self._looked_at >= _LOOK_SECONDS:
            wanted = self._wanted()
            changed = [slot for slot in self._slots if self._take(slot, wanted.get(slot.name))]
            self._looked_at = now
            if changed or now - self._reported_at >= _REPORT_SECONDS:
                self._report(self.loaded)
                self._reported_at = now
        return tuple(slot.detector for slot in self._slots)

    def _take(self, slot: _Slot, wanted: ModelVersion | None) -> bool:
        if slot.wanted == wanted:
            return False
        slot.wanted = wanted
        before = slot.detector.version
        try:
            slot.detector, slot.bundle = self._load(slot, wanted)
        except BundleError as error:
            slot.error = str(error)
            _LOG.error(
                "model cannot be loaded; the one before it stays", wanted=str(wanted), kept=before, error=str(error)
            )
        else:
            slot.error = None
            _LOG.info("model in force", detector=slot.name, version=slot.detector.version, before=before)
        return True

    def _load(self, slot: _Slot, wanted: ModelVersion | None) -> tuple[Detector, Bundle | None]:
        if wanted is None:
            if slot.configured is None:
                raise BundleError(f"the configured {slot.name} could not be loaded at the start")
            bundle = load_bundle(slot.configured.path)
        else:
            bundle = find_version(self._folder, slot.configured, wanted.name, wanted.version)
            if bundle.sha256 != wanted.sha256:
                raise BundleError(f"{bundle.path} is not the bundle that was promoted: its {MANIFEST} changed since")
        return open_detector(bundle), bundle


def _configured_slot(entry: str) -> _Slot:
    """Load what the settings name; what cannot be loaded now fails on each study, and the policy decides."""
    if entry == RULES:
        return _Slot(entry, None, load_detector(entry), None)
    try:
        bundle = configured_bundle(entry)
        return _Slot(bundle.name, bundle, open_detector(bundle), bundle)
    except BundleError as error:
        _LOG.error("detector cannot be loaded; its studies are undetermined", detector=entry, error=str(error))
        return _Slot(entry, None, UnavailableDetector(entry, str(error)), None, error=str(error))
