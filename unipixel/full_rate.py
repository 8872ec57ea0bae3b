"""Masks on every frame of a clip's source, with SAM 2's inputs on disk instead of in memory."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from unipixel.correction import follow, remember_masks
from unipixel.media import read_all_frames
from unipixel.model.sam2 import FrameFeatures, MemoryEntry
from unipixel.model.tracker import trust
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.processing import normalize_for_sam, resize_for_sam, to_tensor
from unipixel.segmenter import ObjectPrompt, Segmenter
from unipixel.types import FilledFrame, Masklet, Media


def track_every_frame(
    network: UniPixelForConditionalGeneration,
    media: Media,
    prompts: Sequence[ObjectPrompt],
    stop: threading.Event | None = None,
) -> Mapping[int, Masklet]:
    """Follow prompted objects (frames of `prompts` count `media.frames`) through every frame of the source."""
    with _source_segmenter(network, media) as segmenter:
        at_source = [_to_source(prompt, media.frame_indices) for prompt in prompts]
        return {m.object_id: m for m in segmenter.masklets(at_source, stop) if isinstance(m, Masklet)}


@torch.inference_mode()
def fill(
    network: UniPixelForConditionalGeneration,
    media: Media,
    masklets: Sequence[Masklet],
    stop: threading.Event | None = None,
) -> Iterator[FilledFrame]:
    """Masks of known objects on every frame of the source, in order.

    On the sampled frames they are the masklets' own masks and scores; in between they are tracked with the memories of
    the sampled frames on both sides, so that what was corrected stays corrected. Ends early when `stop` is set.
    """
    given = np.stack([masklet.masks for masklet in masklets])
    scores = np.stack([masklet.scores for masklet in masklets])
    with _source_segmenter(network, media) as segmenter:
        count, places = segmenter.num_frames, media.frame_indices
        behind: dict[int, MemoryEntry] = {}
        for here, (nearest, t) in enumerate(zip((-1, *places), (*places, count))):
            ahead = {t: remember_masks(segmenter, given[:, here], t)} if t < count else {}
            around = behind | ahead
            back = nearest < 0  # before the first sampled frame masks are followed backwards
            times = range(t - 1, -1, -1) if back else range(nearest + 1, t)
            found = (
                FilledFrame(at, count, segmenter.to_picture(p.logits), trust(p).amax(-1).float().cpu().numpy())
                for at, p in follow(segmenter, around, times, stop)
            )
            yield from reversed(list(found)) if back else found
            if t == count or (stop is not None and stop.is_set()):
                return
            yield FilledFrame(t, count, given[:, here], scores[:, here])
            behind = ahead


@contextmanager
def _source_segmenter(network: UniPixelForConditionalGeneration, media: Media) -> Iterator[Segmenter]:
    """A segmenter over all frames of the source; SAM 2's inputs lie in a temporary file as long as it is used."""
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

        yield Segmenter(network.sam2, features, media, count)


def _to_source(prompt: ObjectPrompt, frame_indices: Sequence[int]) -> ObjectPrompt:
    """The same prompt with frames counted in the source."""
    return replace(
        prompt,
        tokens={frame_indices[t]: v for t, v in prompt.tokens.items()},
        points={frame_indices[t]: v for t, v in prompt.points.items()},
        masks={frame_indices[t]: v for t, v in prompt.masks.items()},
    )
