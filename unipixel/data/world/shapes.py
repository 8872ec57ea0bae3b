"""What an object looks like: its words (shape, colour, texture, ...), outline and picture.

Outlines are given in unit coordinates: about 2 across, centred on the origin, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.nouns import NOUNS

FloatArray = NDArray[np.float32]
Color = tuple[float, float, float]

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent")
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 35, 40),
    "orange": (250, 135, 15),
    "yellow": (250, 220, 40),
    "green": (45, 165, 65),
    "blue": (40, 90, 225),
    "purple": (125, 45, 175),
    "pink": (250, 140, 195),
    "white": (246, 246, 246),
    "black": (24, 24, 24),
    "brown": (122, 72, 35),
}
TEXTURES = ("plain", "striped", "dotted", "checkered")
SIZES = ("small", "large")
MOTIONS = ("still", "left", "right", "up", "down", "bounce", "spin", "grow", "shrink", "appears", "leaves")

NAMELESS = "something I have no word for"  # the `shape` of things that the world has no noun for

# One pair for each shape, never drawn and never named in training: they measure whether words combine.
HELDOUT_PAIRS = frozenset(
    {
        ("purple", "circle"),
        ("orange", "square"),
        ("blue", "triangle"),
        ("red", "star"),
        ("yellow", "heart"),
        ("green", "ring"),
        ("pink", "cross"),
        ("white", "crescent"),
    }
)

# The second colour of a texture: far enough from the first to be seen, and never the name of another colour.
_INKS: dict[str, tuple[int, int, int]] = {
    "yellow": (120, 95, 10),
    "pink": (135, 40, 90),
    "white": (160, 160, 166),
    "black": (112, 112, 112),
}
_LIGHT_INK = (250, 246, 236)
_LIGHT = 150  # mean of a colour's channels from which it takes a darker ink
_BETWEEN = 30.0  # least CIELAB distance of a shade from every colour with a name
_FADE_ODDS = 0.5  # how often a shape without a colour's name has several instead, and fades from one to the next
_FADE_COLORS = 3

_SUPERSAMPLING = 4
_SHIFT_BITS = 4
_REACH = 1.3  # no outline goes further than this from the origin


@dataclass(frozen=True)
class ObjectSpec:
    """An object in words, each word one of the constants of this module (`size` as on the first frame).

    The `color` of a shape is "" where it lies between those that have names. `shape` can also be one of `NOUNS`, which
    has a `color` only where everybody names the same and no `texture` (""), or `NAMELESS`, which has neither.
    """

    shape: str
    color: str
    texture: str = "plain"
    size: str = "large"
    motion: str = "still"

    @property
    def category(self) -> str:
        """One of `CATEGORIES`, or "" for what has no name."""
        return "shape" if self.shape in SHAPES else NOUNS[self.shape].category if self.shape in NOUNS else ""

    @property
    def shaded(self) -> bool:
        """Whether it is a shape in a colour that has no name: people would disagree on what to call it."""
        return self.shape in SHAPES and not self.color

    @property
    def name(self) -> str:
        """Colour and shape, "red circle", or the noun alone."""
        return f"{self.color} {self.shape}" if self.color and self.shape in SHAPES else self.shape

    @property
    def full_name(self) -> str:
        """Colour, texture unless plain, and shape, "red striped circle", or the noun alone."""
        return self.name if self.texture in ("plain", "") else f"{self.color} {self.texture} {self.shape}".lstrip()


@dataclass(frozen=True)
class Look:
    """The exact appearance of one object: RGB colours in 0..255, texture layout, outline width in pixels (0: none)."""

    shape: str
    texture: str
    color: Color
    ink: Color
    edge: Color
    edge_width: float
    texture_angle: float
    texture_phase: tuple[float, float]
    fade: tuple[Color, ...] = ()  # the colours that `color` turns into one after the other, across the object

    @property
    def large_colors(self) -> tuple[Color, ...]:
        """The colours that cover a good part of the object."""
        second = () if self.texture == "plain" else (self.ink,)
        return (self.color, *self.fade, *second)


@dataclass(frozen=True)
class Pose:
    """Where an object is: centre in pixels (pixel i covers i..i+1), radius in pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn object: RGB float32 h x w x 3 in 0..255 and alpha h x w in 0..1, with its top left pixel."""

    left: int
    top: int
    rgb: FloatArray
    alpha: FloatArray


def _arc(start: float, stop: float, count: int, radius: float = 1.0, x: float = 0.0) -> FloatArray:
    angles = np.linspace(start, stop, count)
    return np.stack([x + radius * np.cos(angles), radius * np.sin(angles)], 1).astype(np.float32)


def _points(*xy: tuple[float, float]) -> FloatArray:
    return np.array(xy, np.float32)


def _circle() -> list[FloatArray]:
    return [_arc(0, 2 * math.pi, 64)[:-1]]


def _ring() -> list[FloatArray]:
    return [_circle()[0], _circle()[0] * 0.55]


def _square() -> list[FloatArray]:
    side = 0.87
    return [_points((-side, -side), (side, -side), (side, side), (-side, side))]


def _triangle() -> list[FloatArray]:
    return [_arc(-math.pi / 2, 1.5 * math.pi, 4, 1.15)[:-1]]


def _star() -> list[FloatArray]:
    star = _arc(-math.pi / 2, 1.5 * math.pi, 11, 1.12)[:-1]
    star[1::2] *= 0.42
    return [star]


def _heart() -> list[FloatArray]:
    t = np.linspace(0, 2 * math.pi, 65)[:-1]
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([np.sin(t) ** 3, -(y + 2.5) / 15.5], 1).astype(np.float32)]


def _cross() -> list[FloatArray]:
    a, b = 0.33, 1.0
    arm = _points((-a, -b), (a, -b), (a, -a))
    return [np.concatenate([arm, arm[:, ::-1] * (-1, 1), -arm, arm[:, ::-1] * (1, -1)]).astype(np.float32)]


def _crescent() -> list[FloatArray]:
    bite, x = 0.84, 0.52  # radius and place of the disc that is cut out
    cut_x = (x * x + 1 - bite * bite) / (2 * x)
    cut_y = math.sqrt(1 - cut_x * cut_x)
    outer, inner = math.atan2(cut_y, cut_x), math.atan2(cut_y, cut_x - x)
    moon = np.concatenate(
        [_arc(outer, 2 * math.pi - outer, 40), _arc(2 * math.pi - inner, inner, 40, bite, x)],
    )
    return [(moon + _points((0.2, 0.0))) * np.float32(1.1)]


_OUTLINES: dict[str, Callable[[], list[FloatArray]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "crescent": _crescent,
}


@cache
def outline(shape: str) -> tuple[FloatArray, ...]:
    """The closed curves (each K x 2, unit coordinates) that bound `shape`; a second curve is a hole."""
    return tuple(_OUTLINES[shape]())


def sample_look(rng: np.random.Generator, spec: ObjectSpec) -> Look:
    """Choose the exact appearance of `spec`: its colour jittered a little, sometimes with an outline."""
    fade: tuple[Color, ...] = ()
    if spec.color:
        color, ink = jitter_color(rng, COLORS[spec.color]), _INKS.get(spec.color, _LIGHT_INK)
    else:
        if rng.random() < _FADE_ODDS:
            free = [name for name in COLORS if (name, spec.shape) not in HELDOUT_PAIRS]
            names = rng.choice(free, _FADE_COLORS, replace=False)
            color, *others = (jitter_color(rng, COLORS[name]) for name in names)
            fade = tuple(others)
        else:
            color = sample_shade(rng)
        red, green, blue = color
        dark = round(0.45 * red), round(0.45 * green), round(0.45 * blue)
        ink = _LIGHT_INK if sum(color) < 3 * _LIGHT else dark
    return Look(
        shape=spec.shape,
        texture=spec.texture,
        color=color,
        ink=jitter_color(rng, ink),
        edge=_edge_color(rng, color),
        edge_width=float(rng.uniform(1.2, 2.5)) if rng.random() < 0.3 else 0.0,
        texture_angle=float(rng.uniform(0, math.pi)),
        texture_phase=(float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0, 2 * math.pi))),
        fade=fade,
    )


def sample_shade(rng: np.random.Generator) -> Color:
    """A random RGB colour that is none of `COLORS`, though a person may call it by the nearest one's name."""
    names = cv2.cvtColor(np.array([list(COLORS.values())], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    while True:
        rgb = rng.uniform(0, 255, 3).astype(np.float32)
        lab = cv2.cvtColor(rgb[None, None] / 255, cv2.COLOR_RGB2LAB)[0, 0]
        if np.linalg.norm(names - lab, axis=1).min() >= _BETWEEN:
            return float(rgb[0]), float(rgb[1]), float(rgb[2])


def jitter_color(rng: np.random.Generator, rgb: tuple[int, int, int]) -> Color:
    """Move an RGB colour a little in hue, saturation and value: a person still gives it the same name."""
    hsv = cv2.cvtColor(np.array([[rgb]], np.float32) / 255, cv2.COLOR_RGB2HSV)[0, 0]
    hsv[0] = (hsv[0] + rng.uniform(-4, 4)) % 360
    hsv[1] = np.clip(hsv[1] * rng.uniform(0.9, 1.08), 0, 1)
    hsv[2] = np.clip(hsv[2] * rng.uniform(0.93, 1.05), 0, 1)
    red, green, blue = cv2.cvtColor(hsv[None, None], cv2.COLOR_HSV2RGB)[0, 0] * 255
    return float(red), float(green), float(blue)


def _edge_color(rng: np.random.Generator, color: Color) -> Color:
    """A darker or lighter shade of `color`; very dark and very light colours have only one way to go."""
    brightness = sum(color) / 3
    darker = brightness > 200 or (brightness > 60 and rng.random() < 0.7)
    end, share = (0.0, 0.45) if darker else (255.0, 0.4)
    red, green, blue = (c + share * (end - c) for c in color)
    return red, green, blue


def draw_sprite(look: Look, pose: Pose) -> Sprite:
    """Draw an object with smooth edges; the patch may reach beyond the picture."""
    half = math.ceil(pose.radius * _REACH) + 1
    left, top = math.floor(pose.x) - half, math.floor(pose.y) - half
    size = 2 * half + 1
    curves = _fixed_point_curves(look.shape, pose, left, top)
    filled = np.zeros((size * _SUPERSAMPLING, size * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(filled, curves, 255, shift=_SHIFT_BITS)
    alpha = _shrink(filled, size)
    rgb = np.empty((size, size, 3), np.float32)
    rgb.reshape(size, -1)[:] = np.tile(np.array(look.color, np.float32), size)
    if look.texture != "plain" or look.fade:
        grid = np.arange(size, dtype=np.float32) + 0.5
        x, y = np.meshgrid((grid + left - pose.x) / pose.radius, (grid + top - pose.y) / pose.radius)
        for share, color in zip(_shares(look, x, y, pose), look.fade):
            _blend(rgb, color, share)
        if look.texture != "plain":
            _blend(rgb, look.ink, _texture_ink(look, x, y, pose))
    if look.edge_width:
        edge = np.zeros_like(filled)
        thickness = max(1, round(2 * look.edge_width * _SUPERSAMPLING))  # half of the line falls outside
        cv2.polylines(edge, curves, True, 255, thickness, shift=_SHIFT_BITS)
        _blend(rgb, look.edge, _shrink(edge, size))
    return Sprite(left, top, rgb, alpha)


def _fixed_point_curves(shape: str, pose: Pose, left: int, top: int) -> list[NDArray[np.int32]]:
    """The outline in OpenCV's fixed-point coordinates of the supersampled patch, whose pixel centres are integers."""
    cos, sin = math.cos(pose.angle) * pose.radius, math.sin(pose.angle) * pose.radius
    turn = np.array([[cos, sin], [-sin, cos]], np.float32)
    centre = np.array([pose.x - left, pose.y - top], np.float32)
    scale = 1 << _SHIFT_BITS
    return [
        np.round(((curve @ turn + centre) * _SUPERSAMPLING - 0.5) * scale).astype(np.int32) for curve in outline(shape)
    ]


def _shrink(patch: NDArray[np.uint8], size: int) -> FloatArray:
    small = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
    return (small * (1 / 255)).astype(np.float32)


def _blend(rgb: FloatArray, color: Color, share: FloatArray) -> None:
    """Mix `color` into `rgb` in place by `share` (h x w in 0..1)."""
    rows = rgb.reshape(len(rgb), -1)  # numpy is slow where the last axis is as short as a pixel
    rows += (np.tile(np.array(color, np.float32), rgb.shape[1]) - rows) * np.repeat(share, 3, 1)


def _shares(look: Look, x: FloatArray, y: FloatArray, pose: Pose) -> list[FloatArray]:
    """How much of each colour of its fade has come by unit coordinates (x, y): 0..1, across the texture's direction."""
    angle = look.texture_angle + pose.angle
    way = (math.cos(angle) * x + math.sin(angle) * y + 0.85) / 1.7 * len(look.fade)
    return [np.clip(way - n, 0, 1).astype(np.float32) for n in range(len(look.fade))]


def _texture_ink(look: Look, x: FloatArray, y: FloatArray, pose: Pose) -> FloatArray:
    """How much of the second colour lies at unit coordinates (x, y): 0..1, less than half of the area in all."""
    angle = look.texture_angle + pose.angle
    cos, sin = math.cos(angle), math.sin(angle)
    # Tiny objects get coarser textures, so that every texture can be seen.
    period = max({"striped": 0.56, "dotted": 0.6, "checkered": 0.84}[look.texture], 10.0 / pose.radius)
    wave = 2 * math.pi / period
    u = np.cos((cos * x + sin * y) * wave + look.texture_phase[0])
    v = np.cos((cos * y - sin * x) * wave + look.texture_phase[1])
    level = {"striped": u - 0.2, "dotted": u + v - 0.7, "checkered": u * v - 0.06}[look.texture]
    share = np.clip(level * (period * pose.radius / (2 * math.pi)) + 0.5, 0, 1)
    return np.asarray(share, np.float32)
