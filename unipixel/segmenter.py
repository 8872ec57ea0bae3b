"""From marks and prompt tokens to masklets: SAM 2 on one media, without the language model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unipixel.marks import MarkedObject, is_scribble, scribble_points
from unipixel.model.sam2 import SAM2, FrameFeatures
from unipixel.model.tracker import FramePrompt, decode_prompt, track, trust
from unipixel.processing import mark_coordinates
from unipixel.types import MASK_THRESHOLD, BoolArray, Box, Masklet, MaskUpdate, Media, Point, Region

Frames = Callable[[int], FrameFeatures]


@dataclass(frozen=True, eq=False)
class MaskPreview:
    """The mask of one object on one frame (H x W bool), its score in 0..1, and other readings of the same marks."""

    mask: BoolArray
    score: float
    alternatives: tuple[tuple[BoolArray, float], ...] = ()


@dataclass(frozen=True, eq=False)
class ObjectPrompt:
    """One object's prompts by frame: `tokens` K x C of the language model, `points` (P x 2, P), or a mask S x S.

    An empty mask says that the object is not on the frame.
    """

    object_id: int
    tokens: Mapping[int, Tensor] = field(default_factory=dict)
    points: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    masks: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> tuple:
        """Objects of one kind can be prompted as one batch."""
        single = tuple(sorted(t for t, (_, labels) in self.points.items() if len(labels) == 1))
        masks = tuple(sorted((t, bool(mask.any())) for t, mask in self.masks.items()))
        return tuple(sorted(self.tokens)), tuple(sorted(self.points)), masks, single


def marks_prompt(marked: MarkedObject, media: Media, side: int) -> ObjectPrompt:
    """An object's marks for SAM 2: clicks and boxes as points, a drawn area as it is, a scribble as clicks."""
    points: dict[int, tuple[Tensor, Tensor]] = {}
    masks: dict[int, Tensor] = {}
    for t in marked.frames:
        marks = marked.on(t)
        areas = [mark.mask for mark in marks if isinstance(mark, Region) and not is_scribble(mark.mask)]
        if areas and len(areas) == len(marks):
            mask = torch.from_numpy(np.logical_or.reduce(areas)).float()[None, None]
            masks[t] = (F.interpolate(mask, (side, side), mode="area")[0, 0] >= 0.5).float()
            continue
        pairs = [mark_coordinates(click, media, side) for mark in marks for click in _clicks(mark)]
        # SAM 2 expects a box's corners first.
        pairs.sort(key=lambda pair: int(pair[1][0]) < 2)
        points[t] = torch.cat([c for c, _ in pairs]), torch.cat([labels for _, labels in pairs])
    return ObjectPrompt(marked.object_id, points=points, masks=masks)


def _clicks(mark: Point | Box | Region) -> list[Point | Box]:
    if isinstance(mark, Region):
        return [Point(xy, frame=mark.frame) for xy in scribble_points(mark.mask)]
    return [mark]


class Segmenter:
    """SAM 2 over the frames of one media: previews on single frames, masklets through all of them."""

    def __init__(self, sam2: SAM2, frame: Frames, media: Media, num_frames: int | None = None) -> None:
        self.sam2, self.frame, self.media = sam2, frame, media
        self.num_frames = num_frames or media.num_frames

    def _device(self) -> torch.device:
        return self.sam2.no_mem_embed.device

    def frame_prompt(self, prompts: Sequence[ObjectPrompt], t: int) -> FramePrompt:
        """The prompts on frame `t` of objects of one kind, as one batch."""
        device, count = self._device(), len(prompts)
        if t in prompts[0].masks:
            return FramePrompt(masks=torch.stack([p.masks[t] for p in prompts])[:, None].to(device))
        if t in prompts[0].tokens:
            tokens = torch.stack([p.tokens[t] for p in prompts]).to(device)
            none = self.sam2.no_points(count)
            return FramePrompt(sparse=torch.cat([none, tokens.to(none.dtype)], 1))
        most = max(len(p.points[t][1]) for p in prompts)
        coords = torch.stack([F.pad(p.points[t][0], (0, 0, 0, most - len(p.points[t][1]))) for p in prompts])
        labels = torch.stack([F.pad(p.points[t][1], (0, most - len(p.points[t][1])), value=-1) for p in prompts])
        return FramePrompt(sparse=self.sam2.embed_points(coords.to(device), labels.to(device)), multimask=most == 1)

    def to_picture(self, logits: Tensor) -> NDArray[np.bool_]:
        """Low-resolution logits N x 1 x h x w -> masks N x H x W in the media's own size."""
        size = (self.media.height, self.media.width)
        full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return (full[:, 0] > MASK_THRESHOLD).cpu().numpy()

    @torch.inference_mode()
    def preview(self, prompt: ObjectPrompt) -> MaskPreview:
        """The mask on the (last) marked frame, with other candidates for a single click, best first."""
        t = max([*prompt.points, *prompt.masks, *prompt.tokens])
        prediction = decode_prompt(self.sam2, self.frame(t), self.frame_prompt([prompt], t))
        masks = self.to_picture(prediction.all_logits[0][:, None])
        scores = trust(prediction)[0].tolist()
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        others = tuple((masks[i], scores[i]) for i in order[1:])
        return MaskPreview(masks[order[0]], scores[order[0]], others)

    @torch.inference_mode()
    def masklets(
        self, prompts: Sequence[ObjectPrompt], stop: threading.Event | None = None
    ) -> Iterator[MaskUpdate | Masklet]:
        """Follow objects through all frames: every mask as it is found, then the masklets.

        Frames not reached when `stop` is set stay empty with a score of 0.
        """
        groups: dict[tuple, list[ObjectPrompt]] = {}
        for prompt in prompts:
            groups.setdefault(prompt.kind, []).append(prompt)
        for group in groups.values():
            yield from self._follow(group, stop)

    def _follow(self, group: Sequence[ObjectPrompt], stop: threading.Event | None) -> Iterator[MaskUpdate | Masklet]:
        first = group[0]
        frames = sorted({*first.tokens, *first.points, *first.masks})
        prompts = {t: self.frame_prompt(group, t) for t in frames}
        masks = np.zeros((len(group), self.num_frames, self.media.height, self.media.width), bool)
        scores = np.zeros((len(group), self.num_frames), np.float32)
        for t, prediction in track(self.sam2, self.frame, self.num_frames, prompts):
            masks[:, t] = self.to_picture(prediction.logits)
            scores[:, t] = trust(prediction).amax(-1).float().cpu().numpy()
            for i, prompt in enumerate(group):
                yield MaskUpdate(prompt.object_id, t, masks[i, t])
            if stop is not None and stop.is_set():
                break
        for i, prompt in enumerate(group):
            yield Masklet(prompt.object_id, masks[i], scores[i])
