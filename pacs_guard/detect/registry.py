"""From a detector's name to the detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pacs_guard.detect.bundle import MANIFEST, Bundle, find_bundle, load_bundle
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pacs_guard.detect.detector import Detector

RULES = "integrity"


def _forensic(bundle: Bundle) -> Detector:
    from pacs_guard.detect.forensic import ForensicDetector  # noqa: PLC0415  # only when asked for

    return ForensicDetector(bundle)


def _slice_classifier(bundle: Bundle) -> Detector:
    from pacs_guard.detect.sliceclassifier import SliceClassifier  # noqa: PLC0415  # only when asked for

    return SliceClassifier(bundle)


def _site_classifier(bundle: Bundle) -> Detector:
    from pacs_guard.detect.siteclassifier import SiteClassifier  # noqa: PLC0415  # only when asked for

    return SiteClassifier(bundle)


_READERS: dict[str, Callable[[Bundle], Detector]] = {
    "forensic": _forensic,
    "slice-classifier": _slice_classifier,
    "site-classifier": _site_classifier,
}


def load_detector(name: str | Path, folders: Iterable[Path] = ()) -> Detector:
    """Return a detector ready to assess.

    Parameters
    ----------
    name : str or Path
        ``"integrity"`` for the rules, the name of a bundle, or the folder of one.
    folders : iterable of Path
        Where to look for a bundle before those shipped.

    Raises
    ------
    BundleError
        If there is no such bundle, it is not intact, or no detector of this release reads it.
    """
    if name == RULES:
        from pacs_guard.detect.integrity import IntegrityDetector  # noqa: PLC0415  # only when asked for

        return IntegrityDetector()
    path = Path(name) if (Path(name) / MANIFEST).is_file() else find_bundle(str(name), folders)
    return open_detector(load_bundle(path))


def open_detector(bundle: Bundle) -> Detector:
    """Return the detector that reads a bundle.

    Raises
    ------
    BundleError
        If no detector of this release does, or the bundle is not what that expects.
    """
    if bundle.detector not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise BundleError(f"{bundle.path} is for detector {bundle.detector!r}; this release has {known}")
    return _READERS[bundle.detector](bundle)
