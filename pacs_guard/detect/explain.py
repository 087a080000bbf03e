"""A picture that lets a person check a finding: the slice, its noise, and what the detector made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pacs_guard.detect.features import noise_map
from pacs_guard.detect.scoremap import NOTHING

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pacs_guard.detect.features import Raster
    from pacs_guard.domain.verdict import Finding
    from pacs_guard.domain.volume import Volume

_PANEL = 512
_GAP = 8
_TITLE = 22
_LEGEND = 46
_BAR = 300
_WINDOW_HU = (-1150.0, 250.0)
_NOISE_FACTOR = 3.0
_SCORE_RANGE = 8.0
_OUTLINE = (255, 210, 0)
_INK = (225, 225, 225)

# blue, black, red: one side of expected, expected, the other side
_DIVERGING = np.array([[70, 150, 255], [12, 12, 12], [255, 70, 50]], np.float32)


def draw_finding(
    volume: Volume, index: int, finding: Finding, scores: NDArray[np.float32], raster: Raster, folder: Path
) -> str:
    """Write the picture of one finding and return its file name.

    Three panels beside one another: the slice at a lung window, its noise against what the same tissue usually has on
    that slice, and the detector's score; the place is outlined in each. Only pixels and measurements are shown,
    nothing of the header.

    Parameters
    ----------
    volume : Volume
        The series.
    index : int
        Slice of the finding.
    finding : Finding
        With its box.
    scores : ndarray of float32, shape (rows, columns) of the raster
        The map of the finding's head on that slice.
    raster : Raster
        Of the score map.
    folder : Path
        Where to write; created if it does not exist.
    """
    hu, spacing = volume.hu[index], volume.spacing_mm[1:]
    low, high = _WINDOW_HU
    grey = np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1) * 255
    noise = noise_map(hu, spacing)
    panels = [
        ("slice, lung window", np.repeat(grey[..., None], 3, axis=2)),
        ("finest noise against its grain", _coloured(noise / np.log(_NOISE_FACTOR), grey)),
        (f"score {finding.kind}", _coloured(_on_pixels(scores, raster, hu.shape) / _SCORE_RANGE, grey)),
    ]
    picture = Image.new("RGB", (3 * _PANEL + 4 * _GAP, _TITLE + _PANEL + _LEGEND))
    for number, (title, pixels) in enumerate(panels):
        left = _GAP + number * (_PANEL + _GAP)
        picture.paste(_panel(pixels, spacing, finding), (left, _TITLE))
        ImageDraw.Draw(picture).text((left, 4), title, fill=_INK, font=ImageFont.load_default(13))
    _scale_bar(picture, hu.shape, spacing)
    usual = f"{1 / _NOISE_FACTOR:.2f} x usual", "usual", f"{_NOISE_FACTOR:g} x usual"
    _legend(picture, 1, usual)
    _legend(picture, 2, (f"-{_SCORE_RANGE:g}", "0: as likely as not", f"+{_SCORE_RANGE:g}"))
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{finding.detector}-{finding.kind}-slice{index + 1:04d}-x{finding.x:.0f}-y{finding.y:.0f}.png"
    picture.save(folder / name)
    return name


def _coloured(values: NDArray[np.float32], grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values between -1 and 1 as colours; the slice shows faintly where there is no value."""
    position = np.clip(np.nan_to_num(values), -1, 1) + 1
    below = np.minimum(position.astype(int), 1)
    share = (position - below)[..., None]
    colours = _DIVERGING[below] * (1 - share) + _DIVERGING[below + 1] * share
    return np.where(np.isnan(values)[..., None], 0.35 * grey[..., None], colours).astype(np.float32)


def _on_pixels(scores: NDArray[np.float32], raster: Raster, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Spread the raster's scores over the pixels around each site; not a number where there is no site."""
    rows = np.clip(np.rint((np.arange(shape[0]) - raster.offset[0]) / raster.pitch[0]), 0, raster.shape[0] - 1)
    columns = np.clip(np.rint((np.arange(shape[1]) - raster.offset[1]) / raster.pitch[1]), 0, raster.shape[1] - 1)
    spread = scores[rows.astype(int)][:, columns.astype(int)]
    return np.where(spread <= NOTHING, np.nan, spread).astype(np.float32)


def _panel(pixels: NDArray[np.float32], spacing: tuple[float, float], finding: Finding) -> Image.Image:
    """Return a panel at true proportions with the finding's box outlined."""
    factor = _factor(pixels.shape, spacing)
    size = (max(1, round(pixels.shape[1] * factor[1])), max(1, round(pixels.shape[0] * factor[0])))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    if finding.box is not None:
        box = finding.box
        corners = (box.x0 * factor[1], box.y0 * factor[0], box.x1 * factor[1] - 1, box.y1 * factor[0] - 1)
        ImageDraw.Draw(image).rectangle(corners, outline=_OUTLINE, width=2)
    return image


def _factor(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[float, float]:
    """Return panel pixels per image pixel along (rows, columns)."""
    per_mm = _PANEL / max(shape[0] * spacing[0], shape[1] * spacing[1])
    return per_mm * spacing[0], per_mm * spacing[1]


def _scale_bar(picture: Image.Image, shape: tuple[int, ...], spacing: tuple[float, float]) -> None:
    length = 50.0 * _factor(shape, spacing)[1] / spacing[1]
    draw, top = ImageDraw.Draw(picture), _TITLE + _PANEL + 8
    draw.rectangle((_GAP, top, _GAP + length, top + 3), fill=_INK)
    draw.text((_GAP, top + 8), "50 mm", fill=_INK, font=ImageFont.load_default(13))


def _legend(picture: Image.Image, number: int, words: tuple[str, str, str]) -> None:
    left, top = _GAP + number * (_PANEL + _GAP), _TITLE + _PANEL + 8
    ramp = _coloured(np.tile(np.linspace(-1, 1, _BAR, dtype=np.float32), (12, 1)), np.zeros((12, _BAR), np.float32))
    picture.paste(Image.fromarray(ramp.astype(np.uint8)), (left, top))
    draw = ImageDraw.Draw(picture)
    for word, anchor, x in zip(words, ("lt", "mt", "rt"), (left, left + _BAR / 2, left + _BAR), strict=True):
        draw.text((x, top + 16), word, fill=_INK, font=ImageFont.load_default(13), anchor=anchor)
