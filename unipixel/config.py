"""The model's numbers. Defaults are those of the released UniPixel-3B."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, cast

from transformers import AutoConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)

# What the released checkpoints' `sam2_config` (a Hydra path) means, as files of the sam2 package.
SAM2_SIZES = {
    "sam2.1_hiera_t": "sam2.1_hiera_t.yaml",
    "sam2.1_hiera_s": "sam2.1_hiera_s.yaml",
    "sam2.1_hiera_b+": "sam2.1_hiera_b+.yaml",
    "sam2.1_hiera_l": "sam2.1_hiera_l.yaml",
}

# The released models by hub id: Qwen2.5-VL-3B and -7B with the defaults of `UniPixelConfig`. Their own config.json
# says the same and more; these few numbers are for plans and tests where the hub is out of reach.
RELEASED: dict[str, dict[str, Any]] = {
    "PolyU-ChenLab/UniPixel-3B": {
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
        },
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 2048},
        "tie_word_embeddings": True,
    },
    "PolyU-ChenLab/UniPixel-7B": {
        "text_config": {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
}


class Patching(NamedTuple):
    """How the vision tower cuts frames: a patch's side in pixels, how many a token merges a side, frames a patch."""

    side: int
    merge: int
    temporal: int


class UniPixelConfig(Qwen2_5_VLConfig):
    """Qwen2.5-VL's configuration plus what UniPixel adds.

    `sam2_config` is a path as the original wrote it, whose last part names an official size, or the numbers
    themselves (a dict shaped like the `model` part of sam2's own YAML). `mem_feature_order` says how `<|mem|>` pools
    vision features: "window" reproduces the released weights (window-ordered features under a raster mask), "raster" is
    the right order. `prefill_frame` says on which frame the answer of the pre-fill pass is decoded: the clip's
    "first" (released weights) or the one on which the object was marked ("prompt"). Frames are resized for the vision
    tower to between `min_pixels` and `max_pixels` with their aspect ratio kept, or to a square of `square_side` pixels.
    """

    model_type = "pixel_qwen2_5_vl"

    ref_token_id: int = 151665
    seg_token_id: int = 151666
    mem_token_id: int = 151667
    sam2_config: str | dict | None = "configs/sam2.1_hiera_b+"
    sam2_image_size: int = 768
    sam2_hidden_tokens: int = 2
    mem_feature_order: str = "window"
    prefill_frame: str = "first"
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 256 * 28 * 28
    square_side: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.mem_feature_order not in ("window", "raster"):
            raise ValueError(f'mem_feature_order must be "window" or "raster", not {self.mem_feature_order!r}.')
        if self.prefill_frame not in ("first", "prompt"):
            raise ValueError(f'prefill_frame must be "first" or "prompt", not {self.prefill_frame!r}.')
        # The hidden state a mask is read from is the one before the final norm.
        self.text.tie_last_hidden_states = False

    @property
    def text(self) -> Qwen2_5_VLTextConfig:
        """The language model's part."""
        assert isinstance(self.text_config, Qwen2_5_VLTextConfig)
        return self.text_config

    @property
    def vision(self) -> Qwen2_5_VLVisionConfig:
        """The vision tower's part."""
        assert isinstance(self.vision_config, Qwen2_5_VLVisionConfig)
        return self.vision_config

    @property
    def patching(self) -> Patching:
        """How the vision tower cuts frames."""
        vision = self.vision
        return Patching(
            cast("int", vision.patch_size), vision.spatial_merge_size, cast("int", vision.temporal_patch_size)
        )


def released_config(name: str) -> UniPixelConfig:
    """The configuration of a released model (a key of `RELEASED`), as far as its network's shape goes."""
    values = copy.deepcopy(RELEASED[name])  # the library changes what it is given
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    values["text_config"] |= {"rope_parameters": rope, "rms_norm_eps": 1e-6, "max_position_embeddings": 128000}
    values["text_config"] |= {"tie_word_embeddings": values["tie_word_embeddings"]}
    values["vision_config"] |= {"tokens_per_second": 2}
    return UniPixelConfig(**values)


AutoConfig.register(UniPixelConfig.model_type, UniPixelConfig)  # lets AutoTokenizer know the checkpoint's kind
