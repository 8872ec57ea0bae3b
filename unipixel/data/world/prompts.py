"""Marks of tasks as the prompts a person would give: clicks, boxes, scribbles and masks."""

from __future__ import annotations

import cv2
import numpy as np

from unipixel.data.world.asking import Mark, Task
from unipixel.data.world.scene import Scene
from unipixel.types import BoolArray, Box, Point, Prompt, Region

_STROKE = 0.012  # a scribble's width as a share of the side


def draw_prompt(rng: np.random.Generator, scene: Scene, mark: Mark, object_id: int | None = None) -> Prompt:
    """A prompt of the mark's kind that fits the object's visible pixels on its frame.

    Raises ValueError if nothing of the object can be seen there.
    """
    mask = scene.masks[mark.object_index, mark.frame]
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ValueError(f"Object {mark.object_index} cannot be seen on frame {mark.frame}.")
    if mark.kind == "box":
        corners = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        return Box(corners, mark.frame, object_id)
    if mark.kind == "point":
        i = int(rng.integers(len(rows)))
        return Point((float(columns[i]) + 0.5, float(rows[i]) + 0.5), 1, mark.frame, object_id)
    return Region(mask if mark.kind == "mask" else _scribble(rng, mask), mark.frame, object_id)


def _scribble(rng: np.random.Generator, mask: BoolArray) -> BoolArray:
    """A stroke through a few pixels of the mask, without what falls outside."""
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(0, len(rows), int(rng.integers(2, 5)))
    path = np.stack([columns[chosen], rows[chosen]], 1).astype(np.int32)
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.polylines(drawn, [path], False, 1, max(2, round(_STROKE * min(mask.shape))))
    return mask & (drawn > 0)


def draw_prompts(rng: np.random.Generator, scene: Scene, task: Task) -> list[Prompt]:
    """The prompts of all marks of a task, under its ids."""
    numbers = {k: number for number, k in task.ids.items()}
    return [draw_prompt(rng, scene, mark, numbers[mark.object_index]) for mark in task.marks]
