"""What all measurements on the drawn world share."""

from __future__ import annotations

from dataclasses import dataclass

from unipixel.data.world import Scene
from unipixel.types import Media

HELDOUT_SEED = 2_000_000
CLIP_FRAMES = 8


@dataclass(frozen=True)
class Measure:
    """One row of the report: `value` in percent over `count` questions."""

    name: str
    value: float
    count: int


def scene_media(scene: Scene) -> Media:
    """A drawn scene as media."""
    return Media(scene.frames, tuple(range(scene.num_frames)), 8.0 if scene.num_frames > 1 else 0.0)
