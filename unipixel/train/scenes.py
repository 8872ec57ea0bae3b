"""Endless batches of drawn scenes, made in a worker process while the model computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from unipixel.data.world import Scene, draw_scene
from unipixel.train.presets import NANO_SAM_SIDE

Made = TypeVar("Made")

# Height and width of drawn canvases: mostly square, some as phones and cameras have them.
_CANVASES = ((256, 256), (256, 256), (256, 256), (216, 288), (288, 216), (180, 320), (320, 180))


@dataclass(frozen=True)
class Draw:
    """How many scenes of how many frames and objects a batch holds."""

    batch: int
    frames: int = 1
    objects: tuple[int, int] = (1, 5)

    def times(self, factor: int) -> Draw:
        """The same with `factor` as many scenes."""
        return replace(self, batch=self.batch * factor)


def square_scene(rng: np.random.Generator, frames: int, objects: tuple[int, int]) -> Scene:
    """A scene on a random canvas, squashed to SAM's square input as every upload is."""
    canvas = _CANVASES[rng.integers(len(_CANVASES))]
    scene = draw_scene(rng, num_frames=frames, size=canvas, num_objects=objects)
    if canvas == (NANO_SAM_SIDE, NANO_SAM_SIDE):
        return scene
    return Scene(_squash(scene.frames, cv2.INTER_AREA), _squash_masks(scene.masks), scene.objects, scene.background)


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
        cv2.setNumThreads(1)
        step = self.first + worker
        while True:
            yield self.make(np.random.default_rng([self.seed, step]))
            step += workers


def batches(make: Callable[[np.random.Generator], Made], seed: int, first: int = 0, workers: int = 1) -> Iterator[Made]:
    """`make(rng)` again and again; batch number n depends on `seed` and n alone, so a resumed run sees the same."""
    loader = DataLoader(_Endless(make, seed, first), batch_size=None, num_workers=workers)
    return iter(loader)
