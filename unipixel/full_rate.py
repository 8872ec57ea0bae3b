"""Masks on every frame of a clip's source, with SAM 2's inputs on disk instead of in memory."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from unipixel.media import read_all_frames
from unipixel.model.sam2 import FrameFeatures
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.processing import normalize_for_sam, resize_for_sam, to_tensor
from unipixel.segmenter import ObjectPrompt, Segmenter
from unipixel.types import Masklet, Media


def track_every_frame(
    network: UniPixelForConditionalGeneration,
    media: Media,
    prompts: Sequence[ObjectPrompt],
    stop: threading.Event | None = None,
) -> Mapping[int, Masklet]:
    """Follow prompted objects (frames of `prompts` count `media.frames`) through every frame of the source."""
    side = network.config.sam2_image_size
    with tempfile.TemporaryFile() as store:
        count = 0
        for frame in read_all_frames(media):
            small = resize_for_sam(to_tensor(frame[None]), side).round().byte()  # grey levels: a quarter of the disk
            store.write(small.numpy().tobytes())
            count += 1
        store.flush()
        frames = np.memmap(store, np.uint8, "r", shape=(count, 3, side, side))

        @torch.inference_mode()
        def features(t: int) -> FrameFeatures:
            pixels = normalize_for_sam(torch.from_numpy(np.array(frames[t : t + 1])))
            return network.sam2.encode_frames(pixels.to(network.device))

        segmenter = Segmenter(network.sam2, features, media, count)
        at_source = [_to_source(prompt, media.frame_indices) for prompt in prompts]
        return {m.object_id: m for m in segmenter.masklets(at_source, stop) if isinstance(m, Masklet)}


def _to_source(prompt: ObjectPrompt, frame_indices: Sequence[int]) -> ObjectPrompt:
    """The same prompt with frames counted in the source."""
    return replace(
        prompt,
        tokens={frame_indices[t]: v for t, v in prompt.tokens.items()},
        points={frame_indices[t]: v for t, v in prompt.points.items()},
        masks={frame_indices[t]: v for t, v in prompt.masks.items()},
    )
