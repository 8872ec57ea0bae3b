"""Masks through time: prompts on some frames, propagated to all others by SAM 2's memory.

All objects whose prompts lie on the same frames move as one batch. State is local to one call of `track`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unipixel.model.sam2 import SAM2, FrameFeatures, MaskPrediction, MemoryEntry

# How far back SAM 2 looks: spatial memories of the last few frames, object pointers of some more.
_POINTER_FRAMES = 16


@dataclass(frozen=True, eq=False)
class FramePrompt:
    """What N objects are prompted with on one frame.

    Either `sparse` N x P x C embeddings (clicks, boxes or the language model's tokens; `multimask` asks for three
    candidates each) or `masks` N x 1 x S x S, taken as they are.
    """

    sparse: Tensor | None = None
    masks: Tensor | None = None
    multimask: bool = True

    @property
    def says_absent(self) -> bool:
        """Whether this says of all objects that they are not on the frame."""
        return self.masks is not None and not self.masks.any()

    def __len__(self) -> int:
        given = self.sparse if self.masks is None else self.masks
        assert given is not None, "a prompt needs sparse embeddings or masks"
        return len(given)


def decode_prompt(sam2: SAM2, features: FrameFeatures, prompt: FramePrompt, hide_absent: bool = True) -> MaskPrediction:
    """Masks of prompted objects on their frame alone (`features` has one row an object)."""
    if prompt.masks is not None:
        return sam2.adopt(features, prompt.masks)
    assert prompt.sparse is not None, "a prompt needs sparse embeddings or masks"
    return sam2.decode(
        sam2.condition_fresh(features), features, prompt.sparse, multimask=prompt.multimask, hide_absent=hide_absent
    )


def track(
    sam2: SAM2,
    frame: Callable[[int], FrameFeatures],
    num_frames: int,
    prompts: Mapping[int, FramePrompt],
    hide_absent: bool = True,
) -> Iterator[tuple[int, MaskPrediction]]:
    """Yield (t, prediction) for every frame of a clip: prompted frames first, then onwards, then backwards.

    `frame(t)` gives the features of one frame: one row that all objects share, or a row for each. Every prompt is for
    the same N objects. Memory use does not grow with the length of the clip. `hide_absent`: see `SAM2.decode`.
    """
    count = len(next(iter(prompts.values())))
    prompted: dict[int, MemoryEntry] = {}
    for t in sorted(prompts):
        features = _rows(frame(t), count)
        prediction = decode_prompt(sam2, features, prompts[t], hide_absent)
        prompted[t] = sam2.remember(features, prediction)
        yield t, prediction
    # A frame that only says "not here" is remembered, but there is nothing on it to follow.
    start = next((t for t in sorted(prompts) if not prompts[t].says_absent), min(prompts))
    for reverse, times in ((False, range(start + 1, num_frames)), (True, range(start - 1, -1, -1))):
        tracked: dict[int, MemoryEntry] = {}
        for t in times:
            if t in prompted:
                continue
            features = _rows(frame(t), count)
            conditioned = sam2.condition(features, t, prompted, tracked, num_frames, reverse)
            prediction = sam2.decode(conditioned, features, sam2.no_points(count), hide_absent=hide_absent)
            tracked[t] = sam2.remember(features, prediction)
            forget(tracked, t, sam2.num_maskmem)
            yield t, prediction


def _rows(features: FrameFeatures, count: int) -> FrameFeatures:
    """Features with one row an object."""
    return features if len(features) == count else features.expand(0, count)


def forget(tracked: dict[int, MemoryEntry], now: int, spatial_frames: int) -> None:
    """Drop what no later frame looks at: old spatial memories first, then old pointers."""
    for t in list(tracked):
        if abs(now - t) >= _POINTER_FRAMES:
            del tracked[t]
        elif abs(now - t) >= spatial_frames:
            tracked[t] = {"obj_ptr": tracked[t]["obj_ptr"]}


def trust(prediction: MaskPrediction) -> Tensor:
    """How sure SAM 2 is of each candidate, N x M in 0..1: predicted IoU times the chance that the object is there.

    Given masks are certain.
    """
    if prediction.given:
        return torch.ones_like(prediction.ious)
    return prediction.ious.clamp(0, 1) * torch.sigmoid(prediction.object_logits)
