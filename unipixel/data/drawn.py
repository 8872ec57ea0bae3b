"""The drawn world as samples: scenes that exist only while they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unipixel.data.masks import MaskArray
from unipixel.data.sample import Sample
from unipixel.data.world import Scene, draw_scene, sample_task
from unipixel.grammar import SEG_TOKEN, mentioned_ids
from unipixel.types import Media, Turn


@dataclass(frozen=True)
class DrawnScenes(Sequence[Sample]):
    """`total` pictures (or clips of `frames` frames) with one question each; number n depends on `seed` and n alone."""

    total: int
    seed: int = 0
    frames: int = 1
    kinds: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, n: int) -> Sample:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= n < self.total:
            raise IndexError(n)
        rng = np.random.default_rng([self.seed, n])
        while True:
            scene = draw_scene(rng, num_frames=self.frames)
            try:
                return scene_sample(rng, scene, self.kinds, f"scene {n}")
            except ValueError:  # this scene allows no such question
                continue


def scene_sample(
    rng: np.random.Generator, scene: Scene, kinds: Sequence[str] | None = None, name: str = "a scene"
) -> Sample:
    """A question about a scene with its answer; ValueError if it allows none of `kinds`."""
    task = sample_task(rng, scene, kinds=kinds)
    ids = {i: k for i, k in task.ids.items() if i in mentioned_ids(task.question)}
    answer = task.answer
    for k in task.targets:
        object_id = max(ids, default=0) + 1
        ids[object_id] = k
        answer = answer.replace(SEG_TOKEN, f"@{object_id}", 1)
    masks = {i: {t: MaskArray(mask) for t, mask in enumerate(scene.masks[k])} for i, k in ids.items()}
    media = Media(scene.frames, tuple(range(scene.num_frames)), 8.0 if scene.num_frames > 1 else 0.0)
    return Sample(media, masks, (Turn(task.question, answer),), name=name)
