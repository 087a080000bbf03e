"""Experiments as data: what a TOML file of ``config/experiments`` says."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pacs_guard.errors import ConfigurationError

CONFIGURATION = Path(__file__).parents[1] / "config" / "experiments"
SIZES = "sizes.toml"
LEAKY = "leaky: optimistic"


class Form(StrEnum):
    """What of a slice a classifier sees."""

    RAW = "raw"
    """The whole slice."""
    LOCALISED = "localised"
    """128 x 128 pixels around a known site."""
    DELOCALISED = "delocalised"
    """The slice reduced to its lungs."""


class ProtocolName(StrEnum):
    """How images are split and made."""

    PAPER = "paper"
    """As the paper did: copies first, then a split of images; 8-bit JPEG. Leaky."""
    GROUPED = "grouped"
    """Patients split first; copies in training only; 16-bit HU."""

    @property
    def mark(self) -> str:
        """What every output of this protocol says."""
        return LEAKY if self is ProtocolName.PAPER else "grouped by patient"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One table of the paper.

    Attributes
    ----------
    name, title : str
    form : Form
    classes : tuple of str
        ``("untampered", "tampered")`` or ``("untampered", "FB", "FM")``.
    augmented : bool
    figures : str
        Which table and figures of the paper it makes again.
    published : dict
        The paper's test accuracy by classifier.
    """

    name: str
    title: str
    form: Form
    classes: tuple[str, ...]
    augmented: bool
    figures: str
    published: dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is computed.

    Attributes
    ----------
    copies : int
        Of each picture in augmented experiments, beside itself; the paper's is 70.
    shapes : dict of Form to (int, int)
        (rows, columns) of the pictures.
    step : int
        The pixels of SVM, forest and tree are means of blocks of this side.
    permutations : int
        Rounds of the label-permutation check.
    rounds : int
        Of the bootstrap.
    grids : dict
        By classifier, parameter to values.
    """

    name: str
    copies: int
    shapes: dict[Form, tuple[int, int]]
    step: int
    permutations: int
    rounds: int
    grids: dict[str, dict[str, list[Any]]]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def read_experiments(folder: Path = CONFIGURATION) -> dict[str, Experiment]:
    """Return the experiments of a folder by name, in order.

    Raises
    ------
    ConfigurationError
        If there is none, or a file is wrong.
    """
    found = {}
    for path in sorted(folder.glob("*.toml")):
        if path.name == SIZES:
            continue
        content = _toml(path)
        try:
            found[path.stem] = Experiment(
                name=path.stem,
                title=str(content["title"]),
                form=Form(content["form"]),
                classes=_classes(content["classes"]),
                augmented=bool(content["augmented"]),
                figures=str(content["figures"]),
                published={str(key): float(value) for key, value in content.get("published", {}).items()},
            )
        except (KeyError, ValueError) as error:
            raise ConfigurationError([f"{path}: {error}; expected title, form, classes, augmented, figures"]) from error
    if not found:
        raise ConfigurationError([f"{folder} holds no experiment; expected files such as table2.toml"])
    return found


def read_size(name: str, folder: Path = CONFIGURATION) -> Size:
    """Return the size called `name` of ``sizes.toml``.

    Raises
    ------
    ConfigurationError
        If there is none, or it is wrong.
    """
    content = _toml(folder / SIZES)
    if name not in content:
        raise ConfigurationError([f"{folder / SIZES} has no size {name!r}; it has {', '.join(content)}"])
    size = content[name]
    try:
        shapes = {form: (int(size["shapes"][form][0]), int(size["shapes"][form][1])) for form in Form}
        return Size(
            name,
            int(size["copies"]),
            shapes,
            int(size["step"]),
            int(size["permutations"]),
            int(size["rounds"]),
            {str(key): dict(grid) for key, grid in size["grids"].items()},
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigurationError([f"{folder / SIZES}: size {name!r} is wrong or incomplete: {error}"]) from error


def _classes(given: list[str]) -> tuple[str, ...]:
    known = [("untampered", "tampered"), ("untampered", "FB", "FM")]
    if tuple(given) not in known:
        raise ValueError(f"classes are {given}, expected one of {[list(one) for one in known]}")
    return tuple(given)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"{path} cannot be read: {error.strerror}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"{path} is no TOML: {error}"]) from error
