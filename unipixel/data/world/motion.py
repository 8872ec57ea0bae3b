"""How objects move: from a motion's name to a pose for every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.shapes import Pose

DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}

CAMERA_REACH = 0.15  # how far a camera moves at most, as a share of the side
_USUAL_FRAMES = 8  # shorter clips show a part of the usual movement, longer ones the same movement more slowly
_ROUND = ("circle", "ring")  # turning does not show on these

Track = tuple[Pose, ...]


@dataclass(frozen=True)
class Stage:
    """What a track must fit into: the picture's size in pixels and the number of frames."""

    height: int
    width: int
    num_frames: int

    @property
    def side(self) -> int:
        return min(self.height, self.width)

    def progress(self) -> NDArray[np.float64]:
        """T numbers from 0 to at most 1: how much of the movement has happened at each frame."""
        return np.arange(self.num_frames) / (max(self.num_frames, _USUAL_FRAMES) - 1)


def possible_motions(shape: str, diameter: float, num_frames: int) -> tuple[str, ...]:
    """The motions that can be seen on an object of this shape and diameter (share of the side)."""
    if num_frames == 1:
        return ("still",)
    motions = ["still", *DIRECTIONS]
    if num_frames >= _USUAL_FRAMES // 2:
        motions += ["bounce", "appears", "leaves"]
    if shape not in _ROUND:
        motions.append("spin")
    motions.append("grow" if diameter < 0.26 else "shrink")
    return tuple(motions)


def sample_track(rng: np.random.Generator, motion: str, radius: float, angle: float, stage: Stage) -> Track:
    """Choose a start and a course for `motion`; `radius` (pixels) and `angle` (radians) are those of frame 0."""
    progress = stage.progress()
    radii, angles = np.full(stage.num_frames, radius), np.full(stage.num_frames, angle)
    if motion in DIRECTIONS:
        travel = rng.uniform(0.22, 0.5) * stage.side * np.array(DIRECTIONS[motion])
        centers = _start(rng, radius, stage, travel) + progress[:, None] * travel
    elif motion == "bounce":
        centers = _bounce(rng, radius, stage, progress)
    elif motion in ("appears", "leaves"):
        centers = _cross_border(rng, motion, radius, stage)
    else:
        end_radius = radius * {"grow": rng.uniform(1.6, 1.9), "shrink": rng.uniform(0.5, 0.6)}.get(motion, 1.0)
        radii = radius + (end_radius - radius) * progress
        centers = np.tile(_start(rng, max(radius, end_radius), stage), (stage.num_frames, 1))
        if motion == "spin":
            angles = angle + rng.choice([-1, 1]) * rng.uniform(0.6, 1.5) * math.pi * progress
    return tuple(Pose(float(x), float(y), float(r), float(a)) for (x, y), r, a in zip(centers, radii, angles))


def _room(radius: float, stage: Stage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and largest centre (x, y) of an object that stays inside the picture."""
    low = np.full(2, min(radius * 1.05 + 1, stage.side / 2))
    return low, np.array([stage.width, stage.height]) - low


def _start(rng: np.random.Generator, radius: float, stage: Stage, travel: NDArray | float = 0.0) -> NDArray[np.float64]:
    """A start from which the object is inside the picture before and after `travel` (as far as there is room)."""
    low, high = _room(radius, stage)
    first = np.minimum(np.maximum(low, low - travel), high)
    last = np.maximum(np.minimum(high, high - travel), first)
    return rng.uniform(first, last)


def _bounce(
    rng: np.random.Generator, radius: float, stage: Stage, progress: NDArray[np.float64]
) -> NDArray[np.float64]:
    """T x 2 centres of a straight flight that a border turns back around the middle of the clip."""
    low, high = _room(radius, stage)
    span = np.maximum(high - low, 1.0)
    axis = int(rng.integers(2))
    travel = np.empty(2)
    travel[axis] = rng.choice([-1, 1]) * rng.uniform(0.5, 0.8) * stage.side
    travel[1 - axis] = rng.uniform(-0.25, 0.25) * stage.side
    start = rng.uniform(0, 1, 2) * span
    before = rng.uniform(0.35, 0.65) * abs(travel[axis]) * progress[-1]
    start[axis] = min(before, span[axis]) if travel[axis] < 0 else max(span[axis] - before, 0)
    phase = (start + progress[:, None] * travel) % (2 * span)
    return low + np.minimum(phase, 2 * span - phase)


def _cross_border(rng: np.random.Generator, motion: str, radius: float, stage: Stage) -> NDArray[np.float64]:
    """T x 2 centres of an object that leaves over a border, or (the same backwards) comes in over one."""
    dx, dy = DIRECTIONS[str(rng.choice(list(DIRECTIONS)))]
    low, high = _room(radius, stage)
    inside = rng.uniform(low, high)
    depth = rng.uniform(radius * 1.1 + 1, 0.45 * stage.side + radius * 0.5)  # distance of the start from the border
    if dx:
        inside[0] = np.clip(depth if dx < 0 else stage.width - depth, low[0], high[0])
        gone = np.array([-radius * 1.35 if dx < 0 else stage.width + radius * 1.35, inside[1]])
    else:
        inside[1] = np.clip(depth if dy < 0 else stage.height - depth, low[1], high[1])
        gone = np.array([inside[0], -radius * 1.35 if dy < 0 else stage.height + radius * 1.35])
    begin, end = rng.uniform(0, 0.25), rng.uniform(0.7, 0.9)
    share = np.clip((np.linspace(0, 1, stage.num_frames) - begin) / (end - begin), 0, 1)
    centers = inside + share[:, None] * (gone - inside)
    return centers if motion == "leaves" else centers[::-1]


def camera_path(rng: np.random.Generator, stage: Stage) -> NDArray[np.int64]:
    """T x 2 whole pixels (x, y) by which a camera has moved over the ground at each frame: straight, from zero."""
    angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, CAMERA_REACH) * stage.side
    travel = length * np.array([math.cos(angle), math.sin(angle)])
    return np.round(stage.progress()[:, None] * travel).astype(np.int64)
