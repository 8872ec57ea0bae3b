"""The model's numbers. Defaults are those of the released UniPixel-3B."""

from __future__ import annotations

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


AutoConfig.register(UniPixelConfig.model_type, UniPixelConfig)  # lets AutoTokenizer know the checkpoint's kind
