"""What the detectors of trained slice classifiers share: their bundle, their calibration and their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.detect.networks import Network
from pacs_guard.detect.preprocess import Window
from pacs_guard.detect.slicemodels import SliceModel, read_model
from pacs_guard.domain.verdict import FindingKind
from pacs_guard.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pacs_guard.detect.bundle import Bundle

CLASSES = (("untampered", "tampered"), ("untampered", "FB", "FM"))


def margins(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each altered class is above the untampered one, shape (n, classes - 1)."""
    return scores[:, 1:] - scores[:, :1]


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier of a bundle, with what it was made for.

    Attributes
    ----------
    name, version : str
    shape : tuple of int
        (rows, columns) of its pictures.
    window : Window
    point : float
        Operating point on margins.
    clean : tuple of float
        The highest margin of each clean patient.
    model : SliceModel
    """

    name: str
    version: str
    shape: tuple[int, int]
    window: Window
    point: float
    clean: tuple[float, ...]
    model: SliceModel

    @classmethod
    def read(cls, bundle: Bundle, form: str) -> Trained:
        """Read a bundle that was made for pictures of one form.

        Raises
        ------
        BundleError
            If it is incomplete or made for other pictures.
        """
        classes = tuple(bundle.section("preprocessing", "classes"))
        made_for = bundle.section("preprocessing", "form")
        if made_for != form or classes not in CLASSES:
            raise BundleError(f"{bundle.path} is for {made_for} pictures of {classes}; expected {form} ones")
        rows, columns = bundle.section("preprocessing", "shape")
        low, high = bundle.section("preprocessing", "window_hu")
        return cls(
            name=bundle.name,
            version=bundle.version,
            shape=(int(rows), int(columns)),
            window=Window(float(low), float(high)),
            point=float(bundle.section("operating_point", "slice")),
            clean=tuple(float(one) for one in bundle.section("calibration", "clean_patients")),
            model=read_model(bundle),
        )

    def margins(self, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the margins of pictures of shape (n, rows, columns), shape (n, classes - 1)."""
        return margins(self.model.scores(pictures))

    def p_value(self, score: float) -> float:
        """Return the conformal p-value of a series score."""
        return (1 + sum(other >= score for other in self.clean)) / (1 + len(self.clean))

    def draw(self, picture: NDArray[np.float32], answer: int, evidence: Path | None, stem: str) -> str | None:
        """Write a network's Grad-CAM overlay; the other classifiers have no picture of what they looked at.

        Parameters
        ----------
        picture : ndarray of float32, shape (rows, columns)
        answer : int
            Number of the class that is explained.
        evidence : Path or None
            Folder; no pictures are made without it.
        stem : str
            Begin of the file's name.
        """
        if evidence is None or not isinstance(self.model, Network):
            return None
        from pacs_guard.detect.gradcam import grad_cam, overlay  # noqa: PLC0415  # only where pictures are wanted
        from pacs_guard.detect.preprocess import network_input  # noqa: PLC0415

        given = network_input(self.model.name, picture[None])
        heat = grad_cam(self.model.model, self.model.layer, given, answer)[0]
        evidence.mkdir(parents=True, exist_ok=True)
        name = f"{stem}-gradcam.png"
        overlay(picture, heat).save(evidence / name)
        return name


def kind_of(values: NDArray[np.float64]) -> tuple[FindingKind, str]:
    """Return the kind that margins of one picture speak for, and how to say it."""
    if len(values) == 1:
        return FindingKind.FB, "altered; a removal and an injection are not told apart"
    kind = (FindingKind.FB, FindingKind.FM)[int(values.argmax())]
    return kind, f"altered ({kind})"
