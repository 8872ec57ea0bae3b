"""Endless batches of drawn scenes, made in a worker process while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from unipixel.data.world import SHAPES_ONLY, Contents, Scene, draw_scene
from unipixel.train.presets import NANO_SAM_SIDE

Made = TypeVar("Made")

# Height and width of drawn canvases: mostly square, some as phones and cameras have them.
_CANVASES = ((256, 256), (256, 256), (256, 256), (216, 288), (288, 216), (180, 320), (320, 180))


@dataclass(frozen=True)
class Draw:
    """How many scenes of how many frames and objects a batch holds, and what there is in them."""

    batch: int
    frames: int = 1
    objects: tuple[int, int] = (1, 5)
    contents: Contents = SHAPES_ONLY

    def times(self, factor: int) -> Draw:
        """The same with `factor` as many scenes."""
        return replace(self, batch=self.batch * factor)


def square_scene(rng: np.random.Generator, draw: Draw) -> Scene:
    """A scene on a random canvas, squashed to SAM's square input as every upload is."""
    canvas = _CANVASES[rng.integers(len(_CANVASES))]
    scene = draw_scene(rng, num_frames=draw.frames, size=canvas, num_objects=draw.objects, contents=draw.contents)
    if canvas == (NANO_SAM_SIDE, NANO_SAM_SIDE):
        return scene
    return replace(scene, frames=_squash(scene.frames, cv2.INTER_AREA), masks=_squash_masks(scene.masks))


def draw_scenes(rng: np.random.Generator, draws: Sequence[tuple[float, Draw]]) -> list[Scene]:
    """The scenes of one batch: one of `draws`, each as often as the number before it says."""
    odds = np.array([p for p, _ in draws])
    draw = draws[rng.choice(len(draws), p=odds / odds.sum())][1]
    return [square_scene(rng, draw) for _ in range(draw.batch)]


def _squash(frames: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
    side = (NANO_SAM_SIDE, NANO_SAM_SIDE)
    return np.stack([cv2.resize(frame, side, interpolation=how) for frame in frames]).astype(np.uint8)


def _squash_masks(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    n, t = masks.shape[:2]
    flat = _squash(masks.reshape(n * t, *masks.shape[2:]).astype(np.uint8) * 255, cv2.INTER_LINEAR)
    return (flat > 127).reshape(n, t, NANO_SAM_SIDE, NANO_SAM_SIDE)


class _Endless(IterableDataset):
    def __init__(self, make: Callable[[np.random.Generator], Any], seed: int, first: int) -> None:
        self.make, self.seed, self.first = make, seed, first

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        cv2.setNumThreads(1)  # where workers are not forked, they begin with as many as there are cores
        step = self.first + worker
        while True:
            yield self.make(np.random.default_rng([self.seed, step]))
            step += workers


def batches(make: Callable[[np.random.Generator], Made], seed: int, first: int = 0, workers: int = 1) -> Iterator[Made]:
    """`make(rng)` again and again; batch number n depends on `seed` and n alone, so a resumed run sees the same."""
    # Before the fork: OpenCV's threads do not go along into a worker, which would wait for them for ever.
    cv2.setNumThreads(1)
    loader = DataLoader(_Endless(make, seed, first), batch_size=None, num_workers=workers)
    return iter(loader)
