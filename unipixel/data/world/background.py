"""Backgrounds that every object of a scene stands out from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.shapes import Color, FloatArray

BACKGROUNDS = ("flat", "gradient", "noise", "clutter")

_CONTRAST = 34.0  # smallest CIELAB distance of the background from every object's colour
_TRIES = 60
_PAPER_ODDS = 0.15  # how often white is tried first


def draw_background(
    rng: np.random.Generator, kind: str, height: int, width: int, avoid: Sequence[Color]
) -> NDArray[np.uint8]:
    """Draw an H x W x 3 uint8 background of `kind` that keeps away from the RGB colours in `avoid`."""
    base = _contrasting_color(rng, avoid)
    # Rows of width * 3 numbers: numpy is slow where the last axis is as short as a pixel.
    canvas, row = np.empty((height, width * 3), np.float32), np.tile(base, width)
    if kind == "gradient":
        ramp = _gradient(rng, height, width)
        np.multiply(np.repeat(ramp, 3, 1), np.tile(_contrasting_color(rng, avoid, near=base) - base, width), out=canvas)
        canvas += row
    elif kind == "noise":
        np.add(_noise(rng, height, width), row, out=canvas)
    else:
        canvas[:] = row
        if kind == "clutter":
            _scribble(rng, canvas.reshape(height, width, 3), base)
    canvas += 0.5
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8).reshape(height, width, 3)


def _lab(rgb: FloatArray) -> FloatArray:
    """CIELAB of K x 3 RGB colours in 0..255."""
    return np.array(cv2.cvtColor(rgb[None] / np.float32(255), cv2.COLOR_RGB2LAB)[0], np.float32)


def _contrasting_color(rng: np.random.Generator, avoid: Sequence[Color], near: FloatArray | None = None) -> FloatArray:
    """The first of some random colours that differs enough from all in `avoid`, else the most different one."""
    hsv = np.stack(
        [rng.uniform(0, 360, _TRIES), rng.beta(1.0, 3.0, _TRIES) * 0.7, rng.uniform(0.12, 1.0, _TRIES)], 1
    ).astype(np.float32)
    if near is None and rng.random() < _PAPER_ODDS:
        hsv[0] = (0.0, 0.0, 1.0)
    colors: FloatArray = (cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255).astype(np.float32)
    if near is not None:
        colors = (near + (colors - near) * 0.45).astype(np.float32)
    if not avoid:
        return colors[0]
    distance = np.linalg.norm(_lab(colors)[:, None] - _lab(np.array(avoid, np.float32))[None], axis=-1).min(1)
    good = np.flatnonzero(distance >= _CONTRAST)
    return colors[good[0] if len(good) else int(distance.argmax())]


def _gradient(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """A ramp from 0 to 1 in a random direction, H x W."""
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32) * np.float32(np.sin(angle))
    ramp = y[:, None] + x[None]
    return (ramp - ramp.min()) / (ramp.max() - ramp.min())


def _noise(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Fine grain or soft clouds around zero, H x (W * 3)."""
    if rng.random() < 0.5:
        return np.repeat(rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(3, 9)), 3, 1)
    cells = int(rng.integers(3, 12))
    coarse = rng.standard_normal((cells, cells, 3), np.float32) * np.float32(rng.uniform(3, 8))
    clouds = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(clouds, np.float32).reshape(height, width * 3)


def _scribble(rng: np.random.Generator, canvas: FloatArray, base: FloatArray) -> None:
    """Draw thin, faint lines and curls into `canvas`: texture that is never mistaken for an object."""
    height, width = canvas.shape[:2]
    side = min(height, width)
    for _ in range(int(rng.integers(6, 20))):
        steps = rng.normal(0, side * rng.uniform(0.02, 0.1), (int(rng.integers(2, 7)), 2))
        path = rng.uniform(0, 1, 2) * (width, height) + np.cumsum(steps, 0)
        color = np.clip(base + rng.uniform(12, 26) * rng.choice([-1, 1]), 0, 255)
        thickness = max(1, round(side / 256 * rng.uniform(1, 2.4)))
        points = np.round(path * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, tuple(float(c) for c in color), thickness, cv2.LINE_8, shift=4)
