"""Scenes of the drawn world: objects on a background, with the exact visible mask of each in every frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.background import BACKGROUNDS, draw_background
from unipixel.data.world.motion import Stage, Track, possible_motions, sample_track
from unipixel.data.world.shapes import (
    COLORS,
    HELDOUT_PAIRS,
    SHAPES,
    TEXTURES,
    Look,
    ObjectSpec,
    Sprite,
    draw_sprite,
    sample_look,
)

MIN_AREA = 150 / 256**2  # least visible area of an object on the frame it is judged by, as a share of side squared
MIN_VISIBLE = 0.6  # least visible share of an object on that frame

_DIAMETERS = {"small": (0.14, 0.22), "large": (0.26, 0.38)}  # shares of the shorter side
_TEXTURE_ODDS = (0.52, 0.16, 0.16, 0.16)
_HELDOUT_ODDS = 0.3
_LAYOUT_TRIES = 30
_PLACE_TRIES = 30
_UPRIGHT = math.radians(18)


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn picture (T = 1) or clip with N objects.

    `frames` is uint8 T x H x W x 3 RGB, `masks` bool N x T x H x W with the visible pixels of each object (so no two
    overlap); objects later in `objects` lie in front. `background` is one of `BACKGROUNDS`.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    objects: tuple[ObjectSpec, ...]
    background: str

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.frames.shape[1:3])

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """N x T: how many pixels of each object are visible in each frame."""
        return np.count_nonzero(self.masks, axis=(2, 3))

    @cached_property
    def centroids(self) -> NDArray[np.float64]:
        """N x T x 2: mean (x, y) of the visible pixels in pixels, NaN where nothing is visible."""
        height, width = self.masks.shape[2:]
        columns, rows = self.masks.sum(2), self.masks.sum(3)
        area = np.where(self.areas, self.areas, np.nan)
        return np.stack([columns @ np.arange(width) / area, rows @ np.arange(height) / area], -1)


@dataclass(frozen=True)
class _Actor:
    """An object with all that is needed to draw it."""

    spec: ObjectSpec
    look: Look
    track: Track


def draw_scene(
    rng: np.random.Generator,
    *,
    num_frames: int = 1,
    size: int | tuple[int, int] = 256,
    num_objects: tuple[int, int] = (1, 5),
    heldout: bool = False,
) -> Scene:
    """Draw a random scene; the same state of `rng` gives the same scene.

    `size` is the side or (height, width) in pixels, `num_objects` the smallest and largest number of objects. With
    `heldout`, the pairs of `HELDOUT_PAIRS` are in the mix; without, they never occur. Raises ValueError for a size,
    frame count or object count that cannot be drawn.
    """
    height, width = (size, size) if isinstance(size, int) else size
    least, most = num_objects
    if min(height, width) < 64:
        raise ValueError(f"A scene needs at least 64 x 64 pixels, not {width} x {height}.")
    if num_frames < 1:
        raise ValueError(f"A scene needs at least 1 frame, not {num_frames}.")
    if not 0 <= least <= most <= 8:
        raise ValueError(f"A scene holds between 0 and 8 objects, not {least} to {most}.")
    stage = Stage(height, width, num_frames)
    count = int(rng.integers(least, most + 1))
    for _ in range(_LAYOUT_TRIES):
        actors = _cast(rng, stage, count, heldout)
        labels = np.zeros((num_frames, height, width), np.uint8)
        kind = str(rng.choice(BACKGROUNDS))
        avoid = [color for actor in actors for color in actor.look.large_colors]
        ground = draw_background(rng, kind, height, width, avoid)
        frames = np.repeat(ground[None], num_frames, 0)
        if _paint(frames, labels, actors):
            masks = labels[None] == np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None]
            return Scene(frames, masks, tuple(actor.spec for actor in actors), kind)
    raise ValueError(f"{count} objects do not fit into {width} x {height} pixels; ask for fewer objects.")


def _cast(rng: np.random.Generator, stage: Stage, count: int, heldout: bool) -> list[_Actor]:
    """Choose `count` objects, and a look and a track for each."""
    actors: list[_Actor] = []
    for color, shape in _sample_pairs(rng, count, heldout):
        size = "small" if rng.random() < 0.5 else "large"
        diameter = float(rng.uniform(*_DIAMETERS[size]))
        texture = str(rng.choice(TEXTURES, p=_TEXTURE_ODDS))
        motion = str(rng.choice(possible_motions(shape, diameter, stage.num_frames)))
        spec = ObjectSpec(shape, color, texture, size, motion)
        actors.append(_Actor(spec, sample_look(rng, spec), _place(rng, spec, diameter, stage, actors)))
    return actors


def _sample_pairs(rng: np.random.Generator, count: int, heldout: bool) -> list[tuple[str, str]]:
    """Choose (colour, shape) pairs: mostly all different, some sharing a word, now and then one twice."""
    reserved = sorted(HELDOUT_PAIRS)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        if heldout and rng.random() < _HELDOUT_ODDS:
            color, shape = reserved[int(rng.integers(len(reserved)))]
        else:
            color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
            if pairs and rng.random() < 0.4:
                other_color, other_shape = pairs[int(rng.integers(len(pairs)))]
                color, shape = (other_color, shape) if rng.random() < 0.5 else (color, other_shape)
        known = (color, shape) in pairs
        if (heldout or (color, shape) not in HELDOUT_PAIRS) and (not known or rng.random() < 0.3):
            pairs.append((color, shape))
    return pairs


def _place(
    rng: np.random.Generator, spec: ObjectSpec, diameter: float, stage: Stage, others: Sequence[_Actor]
) -> Track:
    """Choose a track that starts clear of the others (with some overlap allowed now and then)."""
    spread = math.pi if spec.shape in ("triangle", "crescent", "star") and rng.random() < 0.3 else _UPRIGHT
    angle = float(rng.uniform(-spread, spread))
    radius = diameter * stage.side / 2
    gap = 0.8 if rng.random() < 0.35 else 1.08
    best, best_room = None, -math.inf
    for _ in range(_PLACE_TRIES):
        track = sample_track(rng, spec.motion, radius, angle, stage)
        room = min((_clearance(track, spec, other) for other in others), default=math.inf)
        if best is None or room > best_room:
            best, best_room = track, room
        if best_room >= gap:
            break
    assert best is not None
    return best


def _clearance(track: Track, spec: ObjectSpec, other: _Actor) -> float:
    """Distance of two objects on frame 0 in units of their summed radii; objects of one colour need more of it."""
    a, b = track[0], other.track[0]
    distance = math.hypot(a.x - b.x, a.y - b.y) / (a.radius + b.radius)
    return distance * (0.7 if spec.color == other.spec.color else 1.0)


def _paint(frames: NDArray[np.uint8], labels: NDArray[np.uint8], actors: Sequence[_Actor]) -> bool:
    """Draw the actors into `frames` and their numbers (from 1) into `labels`, back to front.

    Stops and returns False when an object cannot be seen well where it must be: on the last frame for one that
    appears, on the first for all others.
    """
    last = len(frames) - 1
    sprites: list[Sprite | None] = [None] * len(actors)
    for t in (0, *range(last, 0, -1)):
        for k, actor in enumerate(actors):
            sprite = sprites[k]
            if sprite is None or t in (0, last) or actor.track[t] != actor.track[t + 1]:
                sprites[k] = sprite = draw_sprite(actor.look, actor.track[t])
            _stamp(frames[t], labels[t], sprite, k + 1)
        if t in (0, last) and not _all_seen(labels[t], actors, sprites, t):
            return False
    return True


def _stamp(frame: NDArray[np.uint8], label: NDArray[np.uint8], sprite: Sprite, number: int) -> None:
    """Lay a sprite over a frame; where it covers more than half of a pixel, the pixel is the object's."""
    height, width = label.shape
    size = len(sprite.alpha)
    x1, x2 = max(sprite.left, 0), min(sprite.left + size, width)
    y1, y2 = max(sprite.top, 0), min(sprite.top + size, height)
    if x1 >= x2 or y1 >= y2:
        return
    inside = np.s_[y1 - sprite.top : y2 - sprite.top, x1 - sprite.left : x2 - sprite.left]
    alpha, rgb = sprite.alpha[inside], sprite.rgb[inside]
    below = frame[y1:y2, x1:x2].astype(np.float32)
    frame[y1:y2, x1:x2] = (below + (rgb - below) * alpha[..., None] + 0.5).astype(np.uint8)
    label[y1:y2, x1:x2][alpha > 0.5] = number


def _all_seen(label: NDArray[np.uint8], actors: Sequence[_Actor], sprites: Sequence[Sprite | None], t: int) -> bool:
    last = len(actors[0].track) - 1 if actors else 0
    areas = np.bincount(label.ravel(), minlength=len(actors) + 1)[1:]
    least = MIN_AREA * min(label.shape) ** 2
    for actor, sprite, area in zip(actors, sprites, areas):
        judged = last if actor.spec.motion == "appears" else 0
        if t == judged and sprite is not None:
            whole = np.count_nonzero(sprite.alpha > 0.5)
            if area < max(least, MIN_VISIBLE * whole):
                return False
    return True
