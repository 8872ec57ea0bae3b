"""What the world looks like beyond words: photographs, rich patterns, and pieces cut out of them."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.pictures import CELL, FILL, PHOTO_FOLDER, Picture, make_picture
from unipixel.data.world.shapes import FloatArray

# Kept out of training: they measure what happens on a photograph that is new.
HELDOUT_PHOTOS = frozenset({"coffee", "rocket"})
SURFACES = ("photo", "pattern")

_SEGMENT_AREA = (0.06, 0.6)  # of the square a segment is cut from
_CUT_TRIES = 3


@cache
def photo_names() -> tuple[str, ...]:
    """The photographs at hand."""
    return tuple(sorted(file.stem for file in PHOTO_FOLDER.glob("*.jpg")))


@cache
def _photo(name: str) -> NDArray[np.uint8]:
    picture = cv2.imread(str(PHOTO_FOLDER / f"{name}.jpg"))
    if picture is None:
        raise ValueError(f"The drawn world's photograph {name!r} cannot be read.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def draw_surface(
    rng: np.random.Generator, kind: str, height: int, width: int, heldout: bool = False
) -> NDArray[np.uint8]:
    """An H x W x 3 uint8 piece of a photograph or a pattern; `heldout` allows for photographs kept out of training."""
    return photo_piece(rng, height, width, heldout) if kind == "photo" else pattern(rng, height, width)


def photo_piece(rng: np.random.Generator, height: int, width: int, heldout: bool = False) -> NDArray[np.uint8]:
    """A random part of a photograph, mirrored, tinted and lit anew, H x W x 3 uint8."""
    names = [name for name in photo_names() if heldout or name not in HELDOUT_PHOTOS]
    photo = _photo(names[int(rng.integers(len(names)))])
    full = min(photo.shape[0] / height, photo.shape[1] / width)
    scale = full * rng.uniform(0.4, 1.0)
    rows, columns = max(8, int(height * scale)), max(8, int(width * scale))
    top = int(rng.integers(photo.shape[0] - rows + 1))
    left = int(rng.integers(photo.shape[1] - columns + 1))
    piece = photo[top : top + rows, left : left + columns]
    piece = cv2.resize(piece[:, ::-1] if rng.random() < 0.5 else piece, (width, height), interpolation=cv2.INTER_AREA)
    light = rng.uniform(0.75, 1.2) * rng.uniform(0.85, 1.15, 3)
    return _lit(piece, light, rng.uniform(-15, 15))


def _lit(piece: NDArray, light: NDArray[np.float64], shift: float) -> NDArray[np.uint8]:
    """`piece` with each channel scaled by `light` and moved by `shift`, by a table: pictures have few levels."""
    levels = np.clip(np.arange(256)[:, None] * light + shift, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(piece), levels[None]), np.uint8)


def pattern(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A rich texture, H x W x 3 uint8: waves, cells or grain, through a random palette."""
    kind = ("waves", "cells", "clouds")[int(rng.integers(3))]
    level = {"waves": _waves, "cells": _cells, "clouds": _clouds}[kind](rng, height, width)
    stops = int(rng.integers(3, 6))
    palette = rng.uniform(20, 235, (stops, 3)) * rng.uniform(0.6, 1.0)
    ramp = np.stack([np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, stops), palette[:, c]) for c in range(3)], -1)
    low, high = float(level.min()), float(level.max())
    index = ((level - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    return np.asarray(cv2.LUT(np.dstack([index] * 3), ramp.astype(np.uint8)[None]), np.uint8)


def _grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Coordinates (x, y) as a row and a column, the shorter side going from 0 to 1."""
    side = np.float32(min(height, width))
    x, y = np.arange(width, dtype=np.float32) / side, np.arange(height, dtype=np.float32) / side
    return x[None].astype(np.float32), y[:, None].astype(np.float32)


def _waves(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """A few crossing waves, some of them bent by another: cloth, wood, water."""
    x, y = _grid(height, width)
    level, bend = np.zeros((height, width), np.float32), np.float32(0)
    for _ in range(int(rng.integers(2, 5))):
        angle, length = rng.uniform(0, math.pi), rng.uniform(8, 70)
        along = np.float32(math.cos(angle) * length) * x + np.float32(math.sin(angle) * length) * y
        wave = np.sin(along + bend + np.float32(rng.uniform(0, 6)))
        level += wave
        bend = wave * np.float32(rng.uniform(0, 2.5))
    return level


def _cells(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Distance to the nearest of many points, bent out of round: stones, scales, cracked ground."""
    spots = np.full((height, width), 255, np.uint8)
    count = int(rng.integers(40, 160))
    spots[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    distance = cv2.distanceTransform(spots, cv2.DIST_L2, 3).astype(np.float32)
    bend = rng.standard_normal((24, 24), np.float32) * np.float32(rng.uniform(2, 5))
    distance += cv2.resize(bend, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.sin(distance * np.float32(rng.uniform(0.1, 0.5))) if rng.random() < 0.4 else distance


def _clouds(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Noise on several scales: marble, rust, foliage."""
    level = np.zeros((height, width), np.float32)
    roughness = rng.uniform(0.45, 0.85)
    for octave in range(5):
        cells = 3 * 2**octave
        coarse = rng.standard_normal((cells, cells), np.float32) * np.float32(roughness**octave)
        level += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.abs(level) if rng.random() < 0.4 else level


def cut_out(rng: np.random.Generator, heldout: bool = False) -> Picture:
    """A thing that nobody has a word for: a blob of some surface, or a segment of a photograph."""
    found = _segment(rng, heldout) if rng.random() < 0.5 else None
    rgb, alpha = found or (_surface_square(rng, heldout), _blob(rng))
    mean = rgb.reshape(-1, 3)[alpha.ravel() > 0.5].mean(0)
    if rng.random() < 0.4:  # a rim, as many things have
        rim = cv2.GaussianBlur(alpha, (0, 0), 2)
        rgb = rgb + (mean * rng.uniform(0.3, 0.7) - rgb) * np.clip(2 - 2 * rim, 0, 1)[..., None]
    return make_picture(rgb, alpha, ((float(mean[0]), float(mean[1]), float(mean[2])),))


def _surface_square(rng: np.random.Generator, heldout: bool) -> FloatArray:
    return draw_surface(rng, SURFACES[int(rng.integers(2))], CELL, CELL, heldout).astype(np.float32)


def _blob(rng: np.random.Generator) -> FloatArray:
    """`CELL` x `CELL` alpha of a smooth, irregular outline that fills the picture."""
    angles = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    radius = np.ones(96)
    # Two or three large bulges, unevenly spread: little that passes for a circle, a cross or a star.
    for wave, low, high in ((2, 0.1, 0.3), (3, 0.1, 0.22), (4, 0.06, 0.13), (5, 0.03, 0.07)):
        radius += rng.uniform(low, high) * np.cos(wave * angles + rng.uniform(0, 2 * math.pi))
    radius = np.maximum(radius, 0.25)
    outline = np.stack([radius * np.cos(angles) * rng.uniform(0.65, 1.0), radius * np.sin(angles)], 1)
    return _alpha_of(outline)


def _alpha_of(outline: NDArray[np.float64], smoothing: float = 0.0) -> FloatArray:
    """`CELL` x `CELL` alpha of a closed curve (K x 2) moved and scaled so that its longer side is `FILL`."""
    low, high = outline.min(0), outline.max(0)
    inside = ((outline - (low + high) / 2) * (FILL / (high - low).max()) + CELL / 2) * 2
    drawn = np.zeros((2 * CELL, 2 * CELL), np.uint8)
    cv2.fillPoly(drawn, [np.round(inside * 16).astype(np.int32)], 255, shift=4)
    if smoothing:
        drawn = np.where(cv2.GaussianBlur(drawn, (0, 0), smoothing) > 127, 255, 0).astype(np.uint8)
    small = cv2.resize(drawn, (CELL, CELL), interpolation=cv2.INTER_AREA)
    return (small.astype(np.float32) / np.float32(255)).astype(np.float32)


def _segment(rng: np.random.Generator, heldout: bool) -> tuple[FloatArray, FloatArray] | None:
    """A superpixel of a photograph (colours and alpha, `CELL` x `CELL`): a watershed region, bounded by real edges."""
    for _ in range(_CUT_TRIES):
        photo = photo_piece(rng, CELL, CELL, heldout)
        markers = np.zeros((CELL, CELL), np.int32)
        seeds = rng.integers(8, CELL - 8, (int(rng.integers(6, 14)), 2))
        markers[seeds[:, 0], seeds[:, 1]] = np.arange(1, len(seeds) + 1)
        regions = cv2.watershed(cv2.GaussianBlur(photo, (0, 0), 1.5), markers)
        # A region at the border is cut off there, not bounded by an edge.
        at_border = np.concatenate([regions[1], regions[-2], regions[:, 1], regions[:, -2]])
        shares = np.bincount(regions[regions > 0], minlength=len(seeds) + 1) / CELL**2
        shares[np.unique(at_border[at_border > 0]).astype(np.int64)] = 0
        good = np.flatnonzero((shares >= _SEGMENT_AREA[0]) & (shares <= _SEGMENT_AREA[1]))
        if len(good):
            return _enlarge(photo, regions == good[0])
    return None


def _enlarge(photo: NDArray[np.uint8], region: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """The region's outline smoothed and its bounding box scaled to fill a cell."""
    contours, _ = cv2.findContours(region.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)[:, 0].astype(np.float64) + 0.5
    low, high = outline.min(0), outline.max(0)
    scale = FILL / (high - low).max()
    move = CELL / 2 - (low + high) / 2 * scale
    matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
    rgb = cv2.warpAffine(photo, matrix, (CELL, CELL), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return rgb.astype(np.float32), _alpha_of(outline, 2.5)
