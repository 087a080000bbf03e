"""Model bundles: a folder with weights and ``bundle.json``, verified before anything in it is used.

Nothing in a bundle is ever unpickled. Weights are plain arrays (``.npz``); other kinds of file are for the detectors
that know them.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

FORMAT = 1
"""Newest format of ``bundle.json`` that this release reads."""

MANIFEST = "bundle.json"
SHIPPED = Path(__file__).parent / "bundles"
_SECTIONS: dict[str, type] = {
    "name": str,
    "version": str,
    "detector": str,
    "preprocessing": dict,
    "operating_point": dict,
    "calibration": dict,
    "training_data": list,
    "figures": list,
    "files": dict,
}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    path : Path
        Its folder.
    manifest : dict
        The whole of ``bundle.json``: ``name``, ``version``, ``format``, ``detector`` (which detector reads it),
        ``preprocessing``, ``operating_point``, ``calibration``, ``training_data`` (each with its licence), ``figures``
        (each with n, protocol and 95 % confidence interval) and ``files`` (SHA-256 by relative path).
    sha256 : str
        Of ``bundle.json``, and so of everything in the bundle.
    """

    path: Path
    manifest: dict[str, Any]
    sha256: str = ""

    @property
    def name(self) -> str:
        """Name, as in the configuration."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """Version of the model."""
        return str(self.manifest["version"])

    @property
    def detector(self) -> str:
        """Which detector reads this bundle."""
        return str(self.manifest["detector"])

    def section(self, *keys: str) -> Any:
        """Return what lies under `keys` in the manifest.

        Raises
        ------
        BundleError
            If it is not there.
        """
        found: Any = self.manifest
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                raise BundleError(f"{self.path / MANIFEST} has no {'.'.join(keys)}; this bundle is incomplete")
            found = found[key]
        return found

    def read(self, file: str) -> bytes:
        """Return the bytes of a listed file, verified once more, so that what was checked is what is used.

        Raises
        ------
        BundleError
            If it is not listed, cannot be read, or has changed.
        """
        return _verified(self.path, file, self.section("files", file))

    def arrays(self, file: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of an ``.npz`` file; object arrays, which need pickle, are refused.

        Raises
        ------
        BundleError
            As for `read`, or if it is no such file.
        """
        try:
            with np.load(io.BytesIO(self.read(file)), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise BundleError(f"{self.path / file} is no file of plain arrays: {error}") from error


def load_bundle(path: Path) -> Bundle:
    """Read and verify a bundle: its manifest, and the SHA-256 of every file.

    Raises
    ------
    BundleError
        If the manifest is missing, malformed, incomplete or of a newer format; if a listed file is missing or altered;
        if there is a file that is not listed.
    """
    manifest, digest = _manifest(path)
    bundle = Bundle(path, manifest, digest)
    present = {one.relative_to(path).as_posix() for one in path.rglob("*") if not one.is_dir()} - {MANIFEST}
    for file, digest in manifest["files"].items():
        _verified(path, file, digest)
    unlisted = sorted(present - set(manifest["files"]))
    if unlisted:
        raise BundleError(f"{path} holds {unlisted[0]}, which its {MANIFEST} does not list; remove it or the bundle")
    return bundle


def save_bundle(path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle, with format and hashes filled in, and load it again.

    Parameters
    ----------
    path : Path
        Folder to create, or to overwrite the same files in.
    manifest : mapping
        All sections but ``format`` and ``files``.
    files : mapping of str to bytes
        Contents by relative path.
    """
    path.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (path / file).write_bytes(content)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())}
    whole = {"format": FORMAT, **manifest, "files": digests}
    (path / MANIFEST).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return load_bundle(path)


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of an ``.npz`` file; equal arrays give equal bytes."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **dict(arrays))
    return packed.getvalue()


def find_bundle(name: str, folders: Iterable[Path] = ()) -> Path:
    """Return the folder of the bundle called `name`: the first of `folders` that has it, else the shipped one.

    Raises
    ------
    BundleError
        If there is none.
    """
    searched = [*folders, SHIPPED]
    for folder in searched:
        if (folder / name / MANIFEST).is_file():
            return folder / name
    raise BundleError(f"there is no bundle {name!r} in {', '.join(str(folder) for folder in searched)}")


def list_bundles(folders: Iterable[Path] = ()) -> list[Path]:
    """Return the folders of all bundles in `folders` and of those shipped; not yet verified."""
    return [one.parent for folder in (*folders, SHIPPED) for one in sorted(folder.glob(f"*/{MANIFEST}"))]


def _manifest(path: Path) -> tuple[dict[str, Any], str]:
    where = path / MANIFEST
    try:
        content = where.read_bytes()
        manifest = json.loads(content)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is no bundle: it has no {MANIFEST}") from error
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{where} is malformed: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BundleError(f"{where} has no format number; expected 1 to {FORMAT}")
    if manifest["format"] > FORMAT:
        raise BundleError(
            f"{where} has format {manifest['format']}; this release reads up to {FORMAT}: update PACS Guard"
        )
    for key, kind in _SECTIONS.items():
        if not isinstance(manifest.get(key), kind):
            raise BundleError(f"{where} is incomplete: expected {key} as {kind.__name__}")
    return manifest, hashlib.sha256(content).hexdigest()


def _verified(path: Path, file: str, digest: str) -> bytes:
    where = path / file
    if not where.resolve().is_relative_to(path.resolve()):
        raise BundleError(f"{path / MANIFEST} lists {file}, which lies outside the bundle")
    try:
        content = where.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{where} is missing; install the bundle again") from error
    except OSError as error:
        raise BundleError(f"{where} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleError(f"{where} was altered: its SHA-256 is not the one in {MANIFEST}; install the bundle again")
    return content
