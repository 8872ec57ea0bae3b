"""Everything computed once per media and reused by every object, question and turn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from unipixel import grammar
from unipixel.model.sam2 import FrameFeatures
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.vision import VisionFeatures
from unipixel.processing import sam_inputs, to_tensor, vision_inputs
from unipixel.types import Media

_FRAMES_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Prefix:
    """The language model's state after the system turn and the media: token ids 1 x P and their keys and values."""

    input_ids: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...]

    def cache(self) -> DynamicCache:
        """A cache of its own for one turn, starting with the prefix."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.keys_values):
            cache.update(keys, values, layer)
        return cache


@dataclass(eq=False)
class Encoding:
    """What is known of one media so far; parts are computed when first asked for."""

    frames: dict[int, FrameFeatures] = field(default_factory=dict)
    vision: VisionFeatures | None = None
    grid_thw: Tensor | None = None
    prefix: Prefix | None = None


class Encoder:
    """Encodes media with a network and keeps the last few encodings, found by content.

    Safe to use from several threads: encodings are computed under a lock and never changed afterwards.
    """

    def __init__(self, network: UniPixelForConditionalGeneration, tokenizer, capacity: int = 4) -> None:
        self.network, self.tokenizer, self.capacity = network, tokenizer, capacity
        self._encodings: OrderedDict[str, Encoding] = OrderedDict()
        self._lock = threading.RLock()

    def _encoding(self, media: Media) -> Encoding:
        key = media.content_key
        encoding = self._encodings.pop(key, None) or Encoding()
        self._encodings[key] = encoding
        while len(self._encodings) > self.capacity:
            self._encodings.popitem(last=False)
        return encoding

    @torch.inference_mode()
    def encode_frames(self, media: Media, first: int, count: int) -> dict[int, FrameFeatures]:
        """SAM 2's features of `count` frames from `first` on, computed afresh."""
        network = self.network
        pixels = sam_inputs(to_tensor(media.frames[first : first + count]), network.config)
        features = network.sam2.encode_frames(pixels.to(network.device))
        return {first + i: features.at([i]) for i in range(len(features))}

    def frame(self, media: Media, t: int) -> FrameFeatures:
        """SAM 2's features of frame `t` (one row); neighbouring frames are encoded along with it."""
        with self._lock:
            encoding = self._encoding(media)
            if t not in encoding.frames:
                first = t - t % _FRAMES_AT_ONCE
                encoding.frames |= self.encode_frames(media, first, _FRAMES_AT_ONCE)
            return encoding.frames[t]

    @torch.inference_mode()
    def vision(self, media: Media) -> tuple[VisionFeatures, Tensor]:
        """The vision tower's features and the clip's grid (1 x 3)."""
        with self._lock:
            encoding, network = self._encoding(media), self.network
            if encoding.vision is None or encoding.grid_thw is None:
                pixels, encoding.grid_thw = vision_inputs(to_tensor(media.frames), network.config)
                grid = encoding.grid_thw.to(network.device)
                (encoding.vision,) = network.encode_vision(pixels.to(network.device), grid)
            return encoding.vision, encoding.grid_thw

    @torch.inference_mode()
    def prefix(self, media: Media) -> Prefix:
        """The language model's state after everything that every conversation about `media` starts with."""
        with self._lock:
            encoding, network = self._encoding(media), self.network
            if encoding.prefix is None:
                vision, grid = self.vision(media)
                text = grammar.render_prefix().replace(grammar.VIDEO_PAD, grammar.VIDEO_PAD * len(vision.tokens))
                ids = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False)], device=network.device)
                positions, _ = network.positions(ids, grid)
                cache = DynamicCache()
                network.read(network.embed(ids, vision.tokens), positions, cache)
                layers: list[Any] = cache.layers
                encoding.prefix = Prefix(ids, tuple((layer.keys, layer.values) for layer in layers))
            return encoding.prefix
