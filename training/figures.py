"""The pictures of a report: ROC curves, sample sheets and where a network looked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pacs_guard.detect.gradcam import grad_cam, overlay
from pacs_guard.detect.preprocess import network_input
from pacs_guard.errors import ConfigurationError
from training.classifiers import TITLES, build_base, last_convolution, with_head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from training.classifiers import Weights

_TITLE = 20
_GAP = 4
_EACH = 6


def draw_roc(results: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the ROC curves of some classifiers, one line for each and for each class where there are three.

    Raises
    ------
    ConfigurationError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra dependency
    except ImportError as error:
        raise ConfigurationError(["plots need matplotlib; install pacs-guard[training]"]) from error
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes = figure.add_subplot(xlabel="false positive rate", ylabel="true positive rate", title=title)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for number, result in enumerate(results):
        for style, (name, points) in zip(("-", "--", ":"), result["roc"].items(), strict=False):
            label = TITLES[result["classifier"]] + (f" {name}" if len(result["roc"]) > 1 else "")
            if len(result["roc"]) == 1 and result["auc"] is not None:
                label += f", AUC {result['auc']:.2f}"
            axes.plot(*np.transpose(points), style, color=f"C{number}", label=label, linewidth=1.3)
    axes.legend(fontsize=7.5, loc="lower right")
    figure.savefig(path, dpi=110)


def draw_samples(pictures: NDArray[np.floating], kinds: Sequence[str], path: Path) -> None:
    """Draw a sheet with one row of samples for each kind.

    Parameters
    ----------
    pictures : ndarray, shape (samples, rows, columns)
        Between 0 and 1.
    kinds : sequence of str
        Of each sample.
    path : Path
    """
    rows, columns = pictures.shape[1:]
    names = sorted(set(kinds), reverse=True)
    sheet = Image.new("L", (_EACH * (columns + _GAP) + _GAP, len(names) * (rows + _TITLE + _GAP)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for line, name in enumerate(names):
        own = [i for i, kind in enumerate(kinds) if kind == name]
        top = line * (rows + _TITLE + _GAP)
        draw.text((_GAP, top + 2), f"{name} ({len(own)})", fill=230, font=font)
        # spread over all of them, so that the sheet shows more than one patient
        for place, i in enumerate(own[:: max(1, len(own) // _EACH)][:_EACH]):
            grey = np.rint(np.asarray(pictures[i], np.float32) * 255).astype(np.uint8)
            sheet.paste(Image.fromarray(grey), (_GAP + place * (columns + _GAP), top + _TITLE))
    sheet.save(path)


def draw_gradcam(
    name: str, weights: Weights, fitted: Any, picture: NDArray[np.float32], answer: int, path: Path
) -> None:
    """Draw one picture, shape (rows, columns), and where a network with a fitted head looks for class `answer`."""
    rows, columns = picture.shape
    model = with_head(build_base(name, (rows, columns), weights), fitted)
    heat = grad_cam(model, last_convolution(model), network_input(name, picture[None]), answer)[0]
    overlay(picture, heat).save(path)
