"""A real UniPixel, very small and with random weights: every path of the engine in milliseconds.

What it says and draws means nothing, so tests hold its behaviour, never its answers. `Script` puts words into its
mouth where a test needs it to say something certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from fakes import draw_clip
from torch import Tensor

from unipixel.config import UniPixelConfig
from unipixel.engine import UniPixel
from unipixel.grammar import TURN_END, UNIPIXEL_TOKENS
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.train.presets import nano_sam2_numbers
from unipixel.types import Media

TOKENIZER_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "nano"
SIDE = 140  # five by five tokens: whole and cut attention windows
SAM_SIDE = 64


def tiny_sam2_numbers() -> dict[str, Any]:
    """SAM 2.1 with every switch of the real one, 64 wide."""
    numbers = nano_sam2_numbers(64)
    numbers["image_encoder"]["trunk"] |= {
        "embed_dim": 8,
        "stages": [1, 1, 2, 1],
        "global_att_blocks": [3],
        "window_pos_embed_bkg_spatial_size": [4, 4],
    }
    numbers["image_encoder"]["neck"]["backbone_channel_list"] = [64, 32, 16, 8]
    numbers["memory_attention"] |= {"num_layers": 1}
    numbers["memory_attention"]["layer"]["dim_feedforward"] = 64
    return numbers


def tiny_config(
    vocab_size: int = 1024, token_ids: dict[str, int] | None = None, *, tied: bool = True, **changes: Any
) -> UniPixelConfig:
    """Two layers, 64 wide; `token_ids` names the control tokens (numbers from 0 on without)."""
    ids = token_ids or {token: i for i, token in enumerate(control_tokens())}
    values: dict[str, Any] = {
        "text_config": {
            "vocab_size": vocab_size,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
            "eos_token_id": ids[TURN_END],
            "bos_token_id": None,
            "tie_word_embeddings": tied,
            # Wide enough that every part of the input moves the output.
            "initializer_range": 0.15,
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 64,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
            "initializer_range": 0.15,
        },
        "tie_word_embeddings": tied,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "ref_token_id": ids["<|ref|>"],
        "seg_token_id": ids["<|seg|>"],
        "mem_token_id": ids["<|mem|>"],
        "sam2_config": tiny_sam2_numbers(),
        "sam2_image_size": SAM_SIDE,
        "mem_feature_order": "raster",
        "prefill_frame": "prompt",
        "square_side": SIDE,
        "min_pixels": 4 * 28 * 28,
        "max_pixels": 64 * 28 * 28,
    }
    return UniPixelConfig(**(values | changes))


def control_tokens() -> tuple[str, ...]:
    """The control tokens a configuration needs to know."""
    media = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return ("<|endoftext|>", "<|im_start|>", TURN_END, *media, *UNIPIXEL_TOKENS)


def random_network(config: UniPixelConfig, seed: int = 0) -> UniPixelForConditionalGeneration:
    """A network with random weights, the same for the same seed, without disturbing anybody's random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UniPixelForConditionalGeneration(config).eval().requires_grad_(False)


@cache
def tiny_tokenizer() -> Any:
    """The embedded model's own tokenizer."""
    from transformers import AutoTokenizer  # after unipixel, which hides a torchvision that cannot load

    return AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)


@cache
def tiny_network() -> UniPixelForConditionalGeneration:
    """The one network that all tests share (nobody may change it)."""
    tokenizer = tiny_tokenizer()
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in control_tokens()}
    return random_network(tiny_config(len(tokenizer), ids))


def tiny_engine() -> UniPixel:
    """A fresh engine, that has seen nothing yet, around the shared network."""
    return UniPixel(tiny_network(), tiny_tokenizer(), "tiny")


def make_media(frames: np.ndarray, fps: float = 8.0) -> Media:
    """Media of frames T x H x W x 3 that come from no file."""
    return Media(frames, tuple(range(len(frames))), fps if len(frames) > 1 else 0.0)


def clip(num_frames: int = 5) -> Media:
    """A small clip with a circle, a square and a star; an odd number of frames by default."""
    return make_media(draw_clip(num_frames)[:, ::2, ::2])


def picture() -> Media:
    return clip(1)


class Script:
    """Stands in for `network.predict`: each answer is said token by token, then the turn ends.

    Hidden states stay the network's own, so `<|seg|>` in an answer draws what the network really says there.
    """

    def __init__(self, tokenizer: Any, answers: Iterable[str]) -> None:
        self.size = len(tokenizer)
        self.tokens = self._spell(tokenizer, answers)
        self.said = 0

    @staticmethod
    def _spell(tokenizer: Any, answers: Iterable[str]) -> Iterator[int]:
        for answer in answers:
            yield from tokenizer.encode(answer + TURN_END, add_special_tokens=False)

    def __call__(self, hidden: Tensor) -> Tensor:
        self.said += 1
        logits = torch.zeros(len(hidden), self.size)
        logits[:, next(self.tokens)] = 1.0
        return logits


@contextmanager
def saying(engine: UniPixel, *answers: str) -> Iterator[Script]:
    """Let `engine` say these answers (in which `<|seg|>` is the token), one a turn."""
    script = Script(engine.tokenizer, answers)
    with mock.patch.object(engine.network, "predict", script):
        yield script
