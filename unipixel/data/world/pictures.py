"""Objects that are pasted rather than drawn: emoji of nouns and cut-outs, as pictures with transparency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.nouns import NOUNS
from unipixel.data.world.shapes import COLORS, Color, FloatArray, Pose, Sprite

SPRITES = Path(__file__).with_name("nouns.png")
PHOTO_FOLDER = Path(__file__).with_name("photos")
CELL, COLUMNS = 96, 10  # the layout of SPRITES, in pixels and cells
FILL = 92  # the longer side of each picture in its cell: two radii of a pose

_TINT_SHARE = 0.12  # of a picture's pixels, from which on a person may give it a colour's name


@dataclass(frozen=True, eq=False)
class Picture:
    """A thing to paste: `rgba` is `CELL` x `CELL` x 4 float32, colours (0..255) times alpha, and alpha (0..1).

    `large_colors` are the colours that cover a good part of it.
    """

    rgba: FloatArray
    large_colors: tuple[Color, ...]


def make_picture(rgb: NDArray, alpha: NDArray, large_colors: tuple[Color, ...]) -> Picture:
    """A picture of `CELL` x `CELL` x 3 colours (0..255) and `CELL` x `CELL` alpha (0..1)."""
    return Picture(np.dstack([rgb * alpha[..., None], alpha]).astype(np.float32), large_colors)


@cache
def _atlas() -> NDArray[np.uint8]:
    atlas = cv2.imread(str(SPRITES), cv2.IMREAD_UNCHANGED)
    if atlas is None:
        raise ValueError(f"The pictures of the drawn world are missing: {SPRITES.name}.")
    return np.asarray(cv2.cvtColor(atlas, cv2.COLOR_BGRA2RGBA), np.uint8)


def _cell(noun: str) -> NDArray[np.uint8]:
    row, column = divmod(list(NOUNS).index(noun), COLUMNS)
    return _atlas()[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]


@cache
def noun_picture(noun: str) -> Picture:
    """The emoji of one of `NOUNS`."""
    cell = _cell(noun).astype(np.float32)
    colors = [COLORS[name] for name in _named_colors(noun, 1.0)]
    return make_picture(
        cell[..., :3], cell[..., 3] / np.float32(255), tuple((float(r), float(g), float(b)) for r, g, b in colors)
    )


@cache
def tints(noun: str) -> frozenset[str]:
    """Every colour that a person may call a good part of the noun's picture, its own colour among them."""
    return frozenset({*_named_colors(noun, 1.35), NOUNS[noun].color} - {""})


def _named_colors(noun: str, slack: float) -> list[str]:
    """Colours that fit a good part of a picture: up to `slack` times as far (in CIELAB) as the nearest."""
    cell = _cell(noun)[::2, ::2]
    shown = cell[cell[..., 3] > 127][:, :3]
    lab = cv2.cvtColor(shown[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    names = cv2.cvtColor(np.array([list(COLORS.values())], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - names[None], axis=-1)
    shares = (distance <= slack * distance.min(1, keepdims=True)).mean(0)
    return [name for name, share in zip(COLORS, shares) if share >= _TINT_SHARE]


def draw_picture(picture: Picture, pose: Pose) -> Sprite:
    """Turn and scale a picture to `pose` (its longer side is two radii); the patch may reach beyond the frame."""
    rgba, scale = picture.rgba, 2 * pose.radius / FILL
    while scale < 0.6:  # plain linear sampling would skip pixels
        rgba = cv2.resize(rgba, (rgba.shape[1] // 2, rgba.shape[0] // 2), interpolation=cv2.INTER_AREA)
        scale *= 2
    # A turned cell reaches further than a radius, but its corners hold nothing.
    half = math.ceil(pose.radius * 1.42) + 1
    left, top = math.floor(pose.x) - half, math.floor(pose.y) - half
    cos, sin = math.cos(pose.angle) * scale, math.sin(pose.angle) * scale
    middle = (rgba.shape[0] - 1) / 2
    x, y = pose.x - left - 0.5, pose.y - top - 0.5
    turn = np.array([[cos, -sin, x - cos * middle + sin * middle], [sin, cos, y - sin * middle - cos * middle]])
    size = (2 * half + 1, 2 * half + 1)
    drawn: FloatArray = np.asarray(cv2.warpAffine(rgba, turn, size, flags=cv2.INTER_LINEAR), np.float32)
    alpha = drawn[..., 3]
    rgb = (drawn[..., :3] / np.maximum(alpha, 1e-3)[..., None]).astype(np.float32)
    return Sprite(left, top, rgb, alpha)
