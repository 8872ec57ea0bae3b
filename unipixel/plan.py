"""How much memory a model takes, from its configuration alone: nothing is downloaded, no weight is made.

Weights, caches and features are counted exactly; what is needed for a moment while computing is an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from unipixel.checkpoints import find_config, read_config
from unipixel.config import RELEASED, UniPixelConfig, released_config
from unipixel.model.quantize import BLOCK, quantized_layers
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import PRECISE

# Bytes of a number: in the language model's matrices, and in everything else but SAM 2 and the prompt encoder, which
# are always in float32. NF4 keeps a float32 scale for every block.
FORMATS: Mapping[str, tuple[float, float]] = {
    "float32": (4, 4),
    "bfloat16": (2, 2),
    "int8": (1, 2),
    "int4": (0.5 + 4 / BLOCK, 2),
}
TEXT_TOKENS = 1024  # question, memory and answer, generously
RUNTIME = 10**9  # Python, torch and its libraries, or a GPU's context
FRAMES_AT_ONCE = 8  # that SAM 2 encodes together
# Numbers that Hiera's first stage holds at its peak, for each of its patches and channels (measured on B+).
_HIERA_PEAK = 14


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a model takes with a clip of `frames` frames: `weights` and `cache` by number format.

    `parameters` are counts by part; `tokens` is the length of the longest prompt; `cache` the language model's keys and
    values, `features` what is kept of SAM 2 for every frame and its memories of one object; `working` passes again.
    """

    name: str
    frames: int
    tokens: int
    parameters: Mapping[str, int]
    weights: Mapping[str, int]
    cache: Mapping[str, int]
    features: int
    working: Mapping[str, int]

    def total(self, number_format: str) -> int:
        """Bytes altogether with the weights in one of `FORMATS`."""
        parts = (self.weights, self.cache, self.working)
        return sum(part[number_format] for part in parts) + self.features + RUNTIME


def find_plan_config(name: str) -> UniPixelConfig:
    """The configuration of "nano", a folder or a hub id; of the released models also where no hub can be reached."""
    try:
        return read_config(find_config(name))
    except ValueError:
        if name in RELEASED:
            return released_config(name)
        raise


def plan_memory(name: str, config: UniPixelConfig, frames: int = 16) -> MemoryPlan:
    """What the model of `config` takes for a clip of `frames` frames, seen as large as its limits allow."""
    with torch.device("meta"):
        model = UniPixelForConditionalGeneration(config)
    matrices = sum(layer.weight.numel() for layer in quantized_layers(model).values())
    parts = {"language model": "model.language_model.", "vision tower": "model.visual.", "SAM 2": "sam2."}
    sizes = {n: p.numel() for n, p in model.named_parameters()}
    counts = {part: sum(v for n, v in sizes.items() if n.startswith(start)) for part, start in parts.items()}
    counts["prompts and heads"] = sum(sizes.values()) - sum(counts.values())
    precise = sum(v for n, v in sizes.items() if n.startswith(PRECISE))
    rest = sum(sizes.values()) - matrices - precise
    tokens = _clip_tokens(config, frames) + TEXT_TOKENS
    return MemoryPlan(
        name,
        frames,
        tokens,
        counts,
        {f: int(matrices * small + rest * other + precise * 4) for f, (small, other) in FORMATS.items()},
        {f: int(_cache_numbers(config, tokens) * other) for f, (_, other) in FORMATS.items()},
        4 * (frames * _frame_numbers(model) + _memory_numbers(model)),
        {f: int(max(_network_peak(config, tokens) * other, 4 * _sam_peak(model))) for f, (_, other) in FORMATS.items()},
    )


def _clip_tokens(config: UniPixelConfig, frames: int) -> int:
    patching = config.patching
    area = config.square_side**2 if config.square_side else config.max_pixels
    return math.ceil(frames / patching.temporal) * (area // (patching.side * patching.merge) ** 2)


def _cache_numbers(config: UniPixelConfig, tokens: int) -> int:
    """Keys and values of the prefix that is kept, and of the turn that starts with a copy of it."""
    text = config.text
    head = text.hidden_size // text.num_attention_heads
    heads = text.num_key_value_heads or text.num_attention_heads
    return 2 * tokens * text.num_hidden_layers * 2 * heads * head


def _frame_numbers(model: UniPixelForConditionalGeneration) -> int:
    """SAM 2's features of one frame: C channels, C/4 at twice and C/8 at four times the resolution."""
    grid, width = model.sam2.sam_image_embedding_size**2, model.sam2.hidden_dim
    return grid * (width + 4 * width // 4 + 16 * width // 8)


def _memory_numbers(model: UniPixelForConditionalGeneration) -> int:
    """SAM 2's memories of one object with their position encodings."""
    return model.sam2.num_maskmem * 2 * model.sam2.mem_dim * model.sam2.sam_image_embedding_size**2


def _sam_peak(model: UniPixelForConditionalGeneration) -> int:
    trunk = model.sam2.image_encoder.trunk
    patches = (model.sam2.image_size // 4) ** 2
    return FRAMES_AT_ONCE * patches * trunk.patch_embed.proj.out_channels * _HIERA_PEAK


def _network_peak(config: UniPixelConfig, tokens: int) -> int:
    """The widest layer of the language model or the vision tower: its MLP's two inputs and their product."""
    vision = config.vision
    patches = tokens * vision.spatial_merge_size**2
    return 3 * max(tokens * config.text.intermediate_size, patches * vision.intermediate_size)
