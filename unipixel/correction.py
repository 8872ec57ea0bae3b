"""Correct an object on one frame, and follow it anew only as far as the next frame that is known to be right.

The marked frame is decoded from the marks with the present mask as SAM 2's mask prompt (SAM 2 paper, arXiv 2408.00714,
section 4: prompts refine an earlier prediction). Frames between it and its nearest anchors are tracked again with the
memories of the marked frame and of those anchors; all others keep their masks and scores bit by bit.

A frame can also be marked as one without the object. It holds nothing to follow, so the frames around it are followed
towards it, from the anchors that hold the object; in memory it is what SAM 2 makes of a frame without the object.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unipixel.marks import MarkedObject
from unipixel.model.sam2 import MaskPrediction, MemoryEntry
from unipixel.model.tracker import forget, trust
from unipixel.processing import mark_coordinates
from unipixel.segmenter import Segmenter
from unipixel.types import BoolArray, Box, Masklet, Point, Region

# SAM 2 takes a mask prompt as logits; this is a mask it was sure of.
_SURE = 10.0


@torch.inference_mode()
def correct(
    segmenter: Segmenter,
    masklet: Masklet,
    marked: MarkedObject,
    anchors: Collection[int] = (),
    *,
    retrack: bool = True,
    stop: threading.Event | None = None,
) -> Masklet:
    """`masklet` corrected by marks: on each marked frame what the marks give, and between these and the nearest
    `anchors` (frames that are right as they are) tracked anew.

    A region is the mask itself, and an empty one says that the object is absent; clicks and boxes refine the present
    mask. A mask of only excluding clicks keeps what they leave of the present one. Without `retrack` only the marked
    frames change. Frames not reached when `stop` is set keep what they had. Raises ValueError for excluding clicks on
    a frame without a mask.
    """
    masks, scores = masklet.masks.copy(), masklet.scores.copy()
    known: dict[int, MemoryEntry] = {}
    for t in marked.frames:
        masks[t], prediction = _decode(segmenter, masks[t], marked.on(t), t)
        scores[t] = float(trust(prediction).amax())
        known[t] = segmenter.sam2.remember(segmenter.frame(t), prediction)
    right = sorted({*anchors, *marked.frames} & set(range(len(masks))))
    for fresh, gap in _gaps(marked.frames, anchors, len(masks)) if retrack else ():
        visible = masks.any((1, 2))
        ways, sources = _plan(fresh, gap, right, visible, scores)
        ends = [t for t in (gap.start - 1, gap.stop) if 0 <= t < len(masks)]
        around = {t: known[t] for t in fresh}
        around |= {t: remember_masks(segmenter, masks[t], t) for t in (*ends, *sources) if t not in around}
        for t, prediction in (step for way in ways for step in follow(segmenter, around, way, stop)):
            masks[t] = segmenter.to_picture(prediction.logits)[0]
            scores[t] = float(trust(prediction).amax())
    return Masklet(masklet.object_id, masks, scores, masklet.label)


def stretch(frames: Collection[int], anchors: Collection[int], num_frames: int) -> set[int]:
    """The frames that a correction of `frames` may change: up to, and without, the nearest anchors."""
    return {t for _, gap in _gaps(frames, anchors, num_frames) for t in gap}


def _gaps(frames: Collection[int], anchors: Collection[int], num_frames: int) -> list[tuple[list[int], range]]:
    """Marked frames that lie between the same anchors (or the clip's ends), with all frames between these."""
    held = [t for t in {-1, *anchors, num_frames} - set(frames) if -1 <= t <= num_frames]
    gaps: dict[range, list[int]] = {}
    for t in sorted(frames):
        gap = range(max(h for h in held if h < t) + 1, min(h for h in held if h > t))
        gaps.setdefault(gap, []).append(t)
    return [(fresh, gap) for gap, fresh in gaps.items()]


def _plan(
    fresh: Sequence[int], gap: range, right: Sequence[int], visible: BoolArray, scores: NDArray[np.float32]
) -> tuple[list[range], list[int]]:
    """In which order the frames of a gap are followed, and the frames beside those of the gap to remember for it.

    Outwards from a fresh frame that holds the object, where there is one; else from the nearest right frames that do,
    towards the fresh ones. What lies beyond a frame without the object is followed from the far side, if the object is
    known there, else through that frame. Where nothing right holds the object, its most certain mask is taken for it.
    """
    before = max((t for t in right if t < gap.start and visible[t]), default=None)
    after = min((t for t in right if t >= gap.stop and visible[t]), default=None)
    sources = [t for t in (before, after) if t is not None]
    start = next((t for t in fresh if visible[t]), None)
    if start is None and before is not None:
        start = gap.start - 1
    elif start is None and after is not None:
        start = gap.stop
    elif start is None:
        start = max((t for t in gap if visible[t]), key=lambda t: float(scores[t]), default=None)
        if start is None:
            return [], []
        sources = [start]
    absent = [t for t in fresh if not visible[t]]
    last, first = max(absent, default=start), min(absent, default=start)
    onwards = last if after is not None and last > start else gap.stop
    back = first if before is not None and first < start else gap.start - 1
    outwards = [range(start + 1, onwards), range(start - 1, back, -1)]
    return [*outwards, range(gap.stop - 1, onwards, -1), range(gap.start, back)], sources


def follow(
    segmenter: Segmenter, around: Mapping[int, MemoryEntry], times: range, stop: threading.Event | None = None
) -> Iterator[tuple[int, MaskPrediction]]:
    """Track objects over `times` (rising or falling) with the memories of the frames `around`, which are left out."""
    sam2 = segmenter.sam2
    count = len(next(iter(around.values()))["obj_ptr"])
    tracked: dict[int, MemoryEntry] = {}
    for t in times:
        if t in around:
            continue
        if stop is not None and stop.is_set():
            return
        features = segmenter.frame(t).expand(0, count)
        conditioned = sam2.condition(features, t, around, tracked, segmenter.num_frames, times.step < 0)
        prediction = sam2.decode(conditioned, features, sam2.no_points(count))
        tracked[t] = sam2.remember(features, prediction)
        forget(tracked, t, sam2.num_maskmem)
        yield t, prediction


# ------------------------------------------------------------------------------------------------- the marked frame


def _decode(
    segmenter: Segmenter, present: BoolArray, marks: Sequence[Point | Box | Region], t: int
) -> tuple[BoolArray, MaskPrediction]:
    """The mask (H x W bool) that `marks` make of the `present` one on frame `t`, and SAM 2's view of it."""
    areas = [mark.mask for mark in marks if isinstance(mark, Region)]
    clicks = [mark for mark in marks if not isinstance(mark, Region)]
    prior = np.logical_or.reduce(areas) if areas else present
    if not clicks:
        return prior, adopt(segmenter, prior, t)
    if all(isinstance(click, Point) and click.label == 0 for click in clicks):
        clicks.insert(0, _kept_place(prior, clicks, t))
    features, sam2 = segmenter.frame(t), segmenter.sam2
    coords, labels = _click_tensors(segmenter, clicks)
    prediction = sam2.decode(
        sam2.condition_fresh(features),
        features,
        sam2.embed_points(coords, labels),
        _mask_prompt(segmenter, prior) if prior.any() else None,
        multimask=len(clicks) == 1 and isinstance(clicks[0], Point),
    )
    return segmenter.to_picture(prediction.logits)[0], prediction


def _click_tensors(segmenter: Segmenter, clicks: Sequence[Point | Box]) -> tuple[Tensor, Tensor]:
    """Clicks and boxes as SAM 2's points (1 x P x 2) and labels (1 x P), a box's corners first."""
    sam2 = segmenter.sam2
    pairs = [mark_coordinates(click, segmenter.media, sam2.image_size) for click in clicks]
    pairs.sort(key=lambda pair: int(pair[1][0]) < 2)
    device = sam2.no_mem_embed.device
    return torch.cat([c for c, _ in pairs])[None].to(device), torch.cat([v for _, v in pairs])[None].to(device)


def _kept_place(prior: BoolArray, excluded: Sequence[Point | Box], t: int) -> Point:
    """A click for what stays of `prior`: deep inside it and far from every excluding click."""
    if not prior.any():
        raise ValueError("Mark at least one place to include: the object has no mask on this frame.")
    deep = cv2.distanceTransform(np.pad(prior, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.indices(prior.shape)
    places = [click.xy for click in excluded if isinstance(click, Point)]
    away = np.min([np.hypot(columns - x, rows - y) for x, y in places], axis=0)
    row, column = np.unravel_index(int((deep * np.minimum(away, deep.max() * 2)).argmax()), prior.shape)
    return Point((float(column), float(row)), frame=t)


def _mask_prompt(segmenter: Segmenter, mask: BoolArray) -> Tensor:
    """SAM 2's dense embedding 1 x C x h x w of a mask it is to refine."""
    sam2 = segmenter.sam2
    encoder = sam2.sam_prompt_encoder
    small = F.interpolate(_as_tensor(segmenter, mask), encoder.mask_input_size, mode="area")
    return encoder(points=None, boxes=None, masks=(small * 2 - 1) * _SURE)[1]


def _as_tensor(segmenter: Segmenter, masks: BoolArray) -> Tensor:
    """A mask H x W or masks N x H x W as N x 1 x H x W numbers on the model's device."""
    place = segmenter.sam2.no_mem_embed
    return torch.from_numpy(masks.reshape(-1, 1, *masks.shape[-2:])).to(place.device, place.dtype)


def adopt(segmenter: Segmenter, masks: BoolArray, t: int) -> MaskPrediction:
    """Given masks (H x W, or N x H x W of N objects) as SAM 2's own prediction of frame `t`."""
    side = segmenter.sam2.image_size
    full = F.interpolate(_as_tensor(segmenter, masks), (side, side), mode="area") >= 0.5
    return segmenter.sam2.adopt(segmenter.frame(t).expand(0, len(full)), full.float())


def remember_masks(segmenter: Segmenter, masks: BoolArray, t: int) -> MemoryEntry:
    """SAM 2's memory of frame `t` with given masks, as `adopt` takes them."""
    prediction = adopt(segmenter, masks, t)
    return segmenter.sam2.remember(segmenter.frame(t).expand(0, len(prediction.logits)), prediction)
