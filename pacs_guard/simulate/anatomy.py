"""A schematic chest, slice by slice: which tissue lies where, in Hounsfield units before blur and noise.

Coordinates are mm from the middle of the chest: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

AIR, FAT, SKIN, MUSCLE, BLOOD, LIVER = -1000.0, -105.0, 5.0, 52.0, 155.0, 105.0
LUNG_HEIGHT_MM = 235.0
_RIB_DISTANCE_MM = 26.0
_WALL_MM = (34.0, 27.0)


@dataclass(frozen=True, slots=True)
class Chest:
    """How one chest differs from another, drawn at random.

    Attributes
    ----------
    half_width_mm, half_depth_mm : float
        Of the body at the heart.
    fat_mm : float
        Thickness of the subcutaneous fat.
    waves : ndarray of float, shape (modes, 3)
        Amplitude, phase and twist of the outline's irregularity.
    rib_offset_mm : float
        Height of one rib.
    heart_mm : float
        Size of the heart.
    lung_hu : float
        Mean of the parenchyma at the front.
    """

    half_width_mm: float
    half_depth_mm: float
    fat_mm: float
    waves: NDArray[np.float64]
    rib_offset_mm: float
    heart_mm: float
    lung_hu: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Chest:
        """Draw a chest."""
        waves = np.stack([rng.normal(0, 0.008, 4), rng.uniform(0, 2 * np.pi, 4), rng.normal(0, 0.004, 4)], axis=1)
        return cls(
            half_width_mm=rng.uniform(150, 162),
            half_depth_mm=rng.uniform(102, 112),
            fat_mm=rng.uniform(9, 18),
            waves=waves,
            rib_offset_mm=rng.uniform(0, _RIB_DISTANCE_MM),
            heart_mm=rng.uniform(50, 57),
            lung_hu=rng.uniform(-890, -870),
        )


@dataclass(frozen=True, slots=True)
class Section:
    """One slice of a chest.

    Attributes
    ----------
    hu : ndarray of float32, shape (rows, columns)
        Without lung vessels and textures.
    lung : ndarray of float32, shape (rows, columns)
        How much of each pixel is lung, 0 to 1.
    muscle : ndarray of float32, shape (rows, columns)
        How much is chest wall muscle.
    """

    hu: Plane
    lung: Plane
    muscle: Plane


class Grid:
    """Where the pixels of a slice lie.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    spacing_mm : tuple of float
        Between rows, between columns.
    """

    def __init__(self, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> None:
        rows, columns = (np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in shape)
        self._lines = (columns * np.float32(spacing_mm[1]), rows * np.float32(spacing_mm[0]))
        self.x, self.y = np.meshgrid(*self._lines)
        self.distance = np.hypot(self.x, self.y)
        self.angle = np.arctan2(self.y, self.x)
        self.pixel_mm = float(spacing_mm[0])

    def inside(self, distance_mm: Plane) -> Plane:
        """Turn a signed distance (positive inside) into coverage, 0 to 1."""
        covered: Plane = np.clip(distance_mm / np.float32(self.pixel_mm) + np.float32(0.5), 0, 1)
        return covered.astype(np.float32, copy=False)

    def oval(self, x: float, y: float, a: float, b: float, *, turn: float = 0.0, power: float = 2.0) -> Plane:
        """Return the signed distance, roughly, from a (super)ellipse's edge; positive inside, mm."""
        return _oval(self.x - np.float32(x), self.y - np.float32(y), a, b, turn, power)

    def paint_oval(
        self,
        hu: Plane,
        value: float,
        centre: tuple[float, float],
        axes: tuple[float, float],
        *,
        turn: float = 0.0,
        power: float = 2.0,
    ) -> None:
        """Fill a small (super)ellipse with a value, in place, at the cost of its own pixels only."""
        reach = max(axes) + 2 * self.pixel_mm
        low, high = (
            [np.searchsorted(line, middle + way * reach) for line, middle in zip(self._lines, centre, strict=True)]
            for way in (-1, 1)
        )
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        depth = _oval(self.x[box] - np.float32(centre[0]), self.y[box] - np.float32(centre[1]), *axes, turn, power)
        _paint(hu[box], self.inside(depth), value)


def _oval(dx: Plane, dy: Plane, a: float, b: float, turn: float, power: float) -> Plane:
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = (dx * cosine + dy * sine) / np.float32(a), (dy * cosine - dx * sine) / np.float32(b)
    radius = np.hypot(u, v) if power == 2 else (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    signed: Plane = ((1 - radius) * np.float32(min(a, b))).astype(np.float32, copy=False)
    return signed


def section(chest: Chest, grid: Grid, z: float) -> Section:
    """Return the slice at height `z`, mm from the middle of the lungs."""
    height = 0.5 + z / LUNG_HEIGHT_MM
    outline = np.ones_like(grid.angle)
    for order, (amplitude, phase, twist) in enumerate(chest.waves, start=2):
        outline += np.float32(amplitude) * np.cos(order * grid.angle + np.float32(phase + twist * z))
    body = _radial_depth(grid, outline, _half_axes(chest, height, 0), power=2.35)
    cavity = _radial_depth(grid, outline, _half_axes(chest, height, 1), power=2.2)
    lung = grid.inside(_lung_depth(chest, grid, cavity, z, height))

    hu = np.full(grid.x.shape, AIR, dtype=np.float32)
    _table(grid, hu, chest)
    _paint(hu, grid.inside(body), FAT)
    _paint(hu, grid.inside(body) * grid.inside(1.8 - body), SKIN)
    fat = chest.fat_mm * (1 + 0.35 * np.cos(grid.angle + 1.3) + 0.25 * np.cos(3 * grid.angle + z / 60))
    wall = grid.inside(body - fat)
    _paint(hu, wall, MUSCLE)
    _paint(hu, grid.inside(cavity), FAT + 40)
    _below_diaphragm(grid, hu, cavity, z, height)
    _mediastinum(chest, grid, hu, z, height)
    _ribs(chest, grid, hu, cavity, z)
    _paint(hu, lung, chest.lung_hu)
    hu += lung * (grid.y / chest.half_depth_mm) * 25
    _spine(chest, grid, hu, z)
    _airways(grid, hu, z)
    _scapulae(grid, hu, height, chest)
    muscle = wall * (1 - grid.inside(cavity + 12)) * (hu > 0) * (hu < 90)
    return Section(hu, lung, muscle.astype(np.float32))


def _paint(hu: Plane, coverage: Plane, value: float) -> None:
    hu += coverage * (value - hu)


def _half_axes(chest: Chest, height: float, layer: int) -> tuple[float, float]:
    """Return the half axes of the body (layer 0) or of the thoracic cavity (layer 1)."""
    width = chest.half_width_mm + 10 * np.clip((height - 0.6) / 0.4, 0, 1)
    depth = chest.half_depth_mm - 14 * np.clip((height - 0.65) / 0.35, 0, 1) ** 2
    if not layer:
        return float(width), float(depth)
    taper = np.sqrt(np.clip(1 - (max(0.0, height - 0.42) / 0.62) ** 2.2, 0.02, 1))
    return float((chest.half_width_mm - _WALL_MM[0]) * taper), float((chest.half_depth_mm - _WALL_MM[1]) * taper**0.6)


def _radial_depth(grid: Grid, outline: Plane, axes: tuple[float, float], *, power: float) -> Plane:
    a, b = (np.float32(axis) for axis in axes)
    radius = (np.abs(grid.x / a) ** power + np.abs(grid.y / b) ** power) ** (1 / power) / outline
    depth: Plane = (grid.distance * (1 / np.maximum(radius, 1e-3) - 1)).astype(np.float32)
    return depth


def _lung_depth(chest: Chest, grid: Grid, cavity: Plane, z: float, height: float) -> Plane:
    """Return the distance from the lungs' surface, positive inside them."""
    side, y = np.abs(grid.x), grid.y
    hilum = 26 * np.exp(-(((height - 0.52) / 0.16) ** 2)) * np.exp(-(((y - 4) / 24) ** 2))
    half_width = 9 + 20 * np.exp(-(((y - 5) / 34) ** 2)) + 20 / (1 + np.exp(-(y - 40) / 6)) + hilum
    depth = np.minimum(cavity, side - half_width)
    heart = _heart(chest, grid, z)
    depth = np.minimum(depth, -heart - 2)
    depth = np.minimum(depth, -grid.oval(24, 47, 17, 17))
    lung: Plane = np.minimum(depth, (z - _diaphragm(grid)) * 0.6).astype(np.float32)
    return lung


def _diaphragm(grid: Grid) -> Plane:
    """Return the height of the diaphragm: two domes, the right one higher, deep behind."""
    bottom = -LUNG_HEIGHT_MM / 2 - 25
    right = 82 * np.exp(-(((grid.x + 66) / 62) ** 2) - ((grid.y + 18) / 62) ** 2)
    left = 68 * np.exp(-(((grid.x - 66) / 58) ** 2) - ((grid.y + 14) / 58) ** 2)
    dome: Plane = (bottom + np.maximum(right, left)).astype(np.float32)
    return dome


def _heart(chest: Chest, grid: Grid, z: float) -> Plane:
    size = chest.heart_mm
    dz = (z + 42) / (size * 1.15)
    shrink = np.sqrt(max(0.0, 1 - dz * dz))
    if not shrink:
        return np.full(grid.x.shape, -50, dtype=np.float32)
    return grid.oval(20, -26, size * 1.15 * shrink, size * 0.85 * shrink, turn=0.5)


def _below_diaphragm(grid: Grid, hu: Plane, cavity: Plane, z: float, height: float) -> None:
    under = grid.inside((_diaphragm(grid) - z) * 0.6 - 3) * grid.inside(cavity - 2)
    if height > 0.45 or not under.any():
        return
    _paint(hu, under * grid.inside(12 - grid.x), LIVER)
    _paint(hu, under * grid.inside(grid.oval(82, 32, 34, 42)), LIVER + 15)
    _paint(hu, under * grid.inside(grid.oval(62, -28, 40, 36)), 28)
    _paint(hu, under * grid.inside(grid.oval(62, -46, 26, 13)), AIR + 30)


def _mediastinum(chest: Chest, grid: Grid, hu: Plane, z: float, height: float) -> None:
    heart = _heart(chest, grid, z)
    if heart.max() > 0:
        _paint(hu, grid.inside(heart), MUSCLE + 50)
        _paint(hu, grid.inside(np.minimum(heart - 9, grid.oval(38, -30, 34, 22, turn=0.6))), BLOOD)
        _paint(hu, grid.inside(np.minimum(heart - 5, grid.oval(-14, -24, 24, 30))), BLOOD + 10)
    grid.paint_oval(hu, BLOOD, (24, 47), (13, 13))
    if height > 0.47:
        grid.paint_oval(hu, BLOOD, (-6, -22), (15, 15))
        grid.paint_oval(hu, BLOOD + 30, (-25, -18), (9, 10))
    if 0.66 < height < 0.75:
        grid.paint_oval(hu, BLOOD, (12, 12), (14, 46), turn=-0.45)
    if 0.46 < height < 0.6:
        grid.paint_oval(hu, BLOOD + 10, (2, -2), (42, 10), turn=0.12)
    grid.paint_oval(hu, MUSCLE, (6, 34), (8, 5))


def _airways(grid: Grid, hu: Plane, z: float) -> None:
    """Trachea down to the carina, then the two main bronchi."""
    spread = np.clip((12 - z) * 1.1, 0, None)
    if z < -22:
        return
    for side in (-1, 1) if spread else (0,):
        x, y = side * (4 + spread), 14 + 0.1 * spread
        a = 8.5 if not side else 6.5
        grid.paint_oval(hu, MUSCLE, (x, y), (a + 1.6, a + 1.6))
        grid.paint_oval(hu, AIR, (x, y), (a, a))


def _ribs(chest: Chest, grid: Grid, hu: Plane, cavity: Plane, z: float) -> None:
    # ribs fall from back to front
    rise = z - 0.55 * grid.y + chest.rib_offset_mm
    along = (rise + 0.06 * grid.x * np.sign(grid.x)) % _RIB_DISTANCE_MM - _RIB_DISTANCE_MM / 2
    radius = np.hypot((cavity + 7.0) / 4.2, along / 6.2)
    front = grid.y < -0.62 * chest.half_depth_mm
    coverage = grid.inside((1 - radius) * 4.2)
    core = grid.inside((0.66 - radius) * 4.2)
    _paint(hu, coverage, 620)
    _paint(hu, core, 180)
    cartilage = (coverage * front).astype(np.float32)
    _paint(hu, cartilage, 95)
    front_y = -chest.half_depth_mm + 21
    grid.paint_oval(hu, 420, (0, front_y), (17, 6), power=3)
    grid.paint_oval(hu, 120, (0, front_y), (15, 4), power=3)


def _spine(chest: Chest, grid: Grid, hu: Plane, z: float) -> None:
    y = _half_axes(chest, 0.5 + z / LUNG_HEIGHT_MM, 0)[1] - 54
    disc = abs(z % 27 - 13.5) > 11.5
    grid.paint_oval(hu, MUSCLE, (0, y), (21, 18), power=2.6)
    grid.paint_oval(hu, 90 if disc else 480, (0, y), (18, 15), power=2.6)
    grid.paint_oval(hu, 85 if disc else 170, (0, y), (16.2, 13.4), power=2.6)
    for side in (-1, 1):
        grid.paint_oval(hu, MUSCLE + 3, (side * 27, y + 36), (19, 13))
        grid.paint_oval(hu, 330, (side * 17, y + 21), (16, 5), turn=side * 0.55)
    grid.paint_oval(hu, 520, (0, y + 21), (13, 11))
    grid.paint_oval(hu, 25, (0, y + 20), (8.5, 7.5))
    grid.paint_oval(hu, 380, (0, y + 37), (3.2, 9))


def _scapulae(grid: Grid, hu: Plane, height: float, chest: Chest) -> None:
    if height < 0.5:
        return
    for side in (-1, 1):
        x, y = side * (chest.half_width_mm - 45), chest.half_depth_mm - 52
        grid.paint_oval(hu, 540, (x, y), (4.5, 38), turn=side * 0.75)
        grid.paint_oval(hu, 210, (x, y), (2.7, 23), turn=side * 0.75)


def _table(grid: Grid, hu: Plane, chest: Chest) -> None:
    level = chest.half_depth_mm + 17 - grid.x**2 / 1100
    depth = grid.y - level
    _paint(hu, grid.inside(depth) * grid.inside(24 - depth), -960)
    _paint(hu, grid.inside(depth) * grid.inside(1.4 - depth), -250)
    _paint(hu, grid.inside(depth - 22.5) * grid.inside(24 - depth), -250)
