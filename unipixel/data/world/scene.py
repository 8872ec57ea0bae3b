"""Scenes of the drawn world: objects on a background, with the exact visible mask of each in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from unipixel.data.world.background import BACKGROUNDS, draw_background
from unipixel.data.world.casting import Actor, cast
from unipixel.data.world.contents import SHAPES_ONLY, Contents
from unipixel.data.world.motion import CAMERA_REACH, Stage, camera_path
from unipixel.data.world.shapes import ObjectSpec, Sprite
from unipixel.data.world.surfaces import SURFACES, draw_surface

MIN_AREA = 150 / 256**2  # least visible area of an object on the frame it is judged by, as a share of side squared
MIN_VISIBLE = 0.6  # least visible share of an object on that frame

_LAYOUT_TRIES = 30
_STILL_GROUNDS = ("flat", "gradient")  # on these nobody can see the camera move
_STANDS_OUT = 14.0  # least CIELAB distance of an object's mean colour from its surroundings on a surface


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn picture (T = 1) or clip with N objects.

    `frames` is uint8 T x H x W x 3 RGB, `masks` bool N x T x H x W with the visible pixels of each object (so no two
    overlap); objects later in `objects` lie in front. `background` is one of `BACKGROUNDS` or `SURFACES`, `contents`
    what was drawn from, `camera` how far (x, y) the camera has moved over the ground on the last frame, in pixels.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    objects: tuple[ObjectSpec, ...]
    background: str
    contents: Contents = SHAPES_ONLY
    camera: tuple[int, int] = (0, 0)

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


def draw_scene(
    rng: np.random.Generator,
    *,
    num_frames: int = 1,
    size: int | tuple[int, int] = 256,
    num_objects: tuple[int, int] = (1, 5),
    heldout: bool = False,
    contents: Contents = SHAPES_ONLY,
) -> Scene:
    """Draw a random scene; the same state of `rng` gives the same scene.

    `size` is the side or (height, width) in pixels, `num_objects` the smallest and largest number of objects. With
    `heldout`, the pairs of `HELDOUT_PAIRS` and `HELD_APART` are in the mix; without, they never occur. `contents` says
    what there is beside shapes. Raises ValueError for a size, frame count or object count that cannot be drawn.
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
        actors = cast(rng, stage, count, heldout, contents)
        kind, path = _choose_ground(rng, stage, contents)
        frames = _draw_ground(rng, kind, stage, actors, path, heldout)
        labels = np.zeros((num_frames, height, width), np.uint8)
        if _paint(frames, labels, actors, path) and (kind not in SURFACES or _stand_out(frames[0], labels[0])):
            masks = labels[None] == np.arange(1, len(actors) + 1, dtype=np.uint8)[:, None, None, None]
            camera = (int(path[-1, 0]), int(path[-1, 1]))
            return Scene(frames, masks, tuple(actor.spec for actor in actors), kind, contents, camera)
    raise ValueError(f"{count} objects do not fit into {width} x {height} pixels; ask for fewer objects.")


def _choose_ground(rng: np.random.Generator, stage: Stage, contents: Contents) -> tuple[str, NDArray[np.int64]]:
    """A kind of background, and T x 2 pixels by which the camera has moved over it."""
    surface = contents.surfaces > 0 and rng.random() < contents.surfaces
    kind = str(rng.choice(SURFACES if surface else BACKGROUNDS))
    moves = contents.camera > 0 and stage.num_frames > 1 and kind not in _STILL_GROUNDS
    if moves and rng.random() < contents.camera:
        return kind, camera_path(rng, stage)
    return kind, np.zeros((stage.num_frames, 2), np.int64)


def _draw_ground(
    rng: np.random.Generator,
    kind: str,
    stage: Stage,
    actors: Sequence[Actor],
    path: NDArray[np.int64],
    heldout: bool,
) -> NDArray[np.uint8]:
    """T x H x W x 3 uint8: the background as the camera sees it on its way."""
    margin = int(CAMERA_REACH * stage.side) + 1 if path.any() else 0
    height, width = stage.height + 2 * margin, stage.width + 2 * margin
    if kind in SURFACES:
        ground = draw_surface(rng, kind, height, width, heldout)
    else:
        ground = draw_background(rng, kind, height, width, [color for actor in actors for color in actor.large_colors])
    if not margin:
        return np.repeat(ground[None], stage.num_frames, 0)
    corners = margin + path
    return np.stack([ground[y : y + stage.height, x : x + stage.width] for x, y in corners])


def _paint(
    frames: NDArray[np.uint8], labels: NDArray[np.uint8], actors: Sequence[Actor], path: NDArray[np.int64]
) -> bool:
    """Draw the actors into `frames` and their numbers (from 1) into `labels`, back to front.

    `path` is the camera's. Stops and returns False when an object cannot be seen well where it must be: on the last
    frame for one that appears, on the first for all others.
    """
    last = len(frames) - 1
    sprites: list[Sprite | None] = [None] * len(actors)
    for t in (0, *range(last, 0, -1)):
        for k, actor in enumerate(actors):
            sprite = sprites[k]
            if sprite is None or t in (0, last) or actor.track[t] != actor.track[t + 1]:
                sprites[k] = sprite = actor.draw(actor.track[t])
            stamp(frames[t], labels[t], sprite, k + 1, path[t])
        if t in (0, last) and not _all_seen(labels[t], actors, sprites, t):
            return False
    return True


def _stand_out(frame: NDArray[np.uint8], label: NDArray[np.uint8]) -> bool:
    """Whether each object of a frame differs from the ground around it: surfaces have every colour."""
    lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    reach = max(3, min(label.shape) // 20)
    for number in range(1, int(label.max()) + 1):
        inside = label == number
        if inside.any():
            x, y, w, h = cv2.boundingRect(inside.view(np.uint8))
            near = np.s_[max(y - reach, 0) : y + h + reach, max(x - reach, 0) : x + w + reach]
            around = label[near] == 0
            if around.any():
                means = [lab[near][where].mean(0) for where in (inside[near], around)]
                if np.linalg.norm(means[0] - means[1]) < _STANDS_OUT:
                    return False
    return True


def stamp(
    frame: NDArray[np.uint8], label: NDArray[np.uint8], sprite: Sprite, number: int, camera: NDArray[np.int64]
) -> None:
    """Lay a sprite over a frame; where it covers more than half of a pixel, the pixel is the object's."""
    height, width = label.shape
    size = len(sprite.alpha)
    left, top = sprite.left - int(camera[0]), sprite.top - int(camera[1])
    x1, x2 = max(left, 0), min(left + size, width)
    y1, y2 = max(top, 0), min(top + size, height)
    if x1 >= x2 or y1 >= y2:
        return
    inside = np.s_[y1 - top : y2 - top, x1 - left : x2 - left]
    alpha, rgb = sprite.alpha[inside], sprite.rgb[inside]
    below = frame[y1:y2, x1:x2].astype(np.float32)
    frame[y1:y2, x1:x2] = (below + (rgb - below) * cv2.merge([alpha] * 3) + 0.5).astype(np.uint8)
    label[y1:y2, x1:x2][alpha > 0.5] = number


def _all_seen(label: NDArray[np.uint8], actors: Sequence[Actor], sprites: Sequence[Sprite | None], t: int) -> bool:
    last = len(actors[0].track) - 1 if actors else 0
    least = MIN_AREA * min(label.shape) ** 2
    for number, (actor, sprite) in enumerate(zip(actors, sprites), 1):
        judged = last if actor.spec.motion == "appears" else 0
        if t == judged and sprite is not None:
            area, whole = (np.count_nonzero(inside) for inside in (label == number, sprite.alpha > 0.5))
            if area < max(least, MIN_VISIBLE * whole):
                return False
    return True
