"""The network as a list of verbs; training and inference call the same ones.

encode_vision   patches of a clip             -> VisionFeatures
encode_prompts  points and boxes              -> `<|ref|>` embeddings
encode_regions  masks on the token grid       -> `<|mem|>` embeddings
embed           token ids + the three above   -> input embeddings
positions       token ids + grid              -> 3D rotary positions
read            embeddings (+ cache)          -> hidden states before the final norm
predict         hidden states                 -> next-token logits
point_out       hidden states before <|seg|>  -> prompt tokens for SAM 2
sam2            frames, prompt tokens         -> masks (see `sam2.py`, `tracker.py`)

UniPixel paper: arXiv 2509.18094. The language model and vision tower are transformers' Qwen2.5-VL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLRMSNorm

from unipixel.config import UniPixelConfig
from unipixel.model.prompt_encoder import PromptEncoder, RegionEncoder, pool_regions
from unipixel.model.sam2 import build_sam2
from unipixel.model.vision import VisionFeatures, encode_vision, speed_up


class UniPixelForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):
    """Qwen2.5-VL + prompt encoder + region encoder + seg head + SAM 2.1."""

    config: UniPixelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = UniPixelConfig

    def __init__(self, config: UniPixelConfig) -> None:
        super().__init__(config)
        if config.sam2_config is None:
            raise ValueError("The configuration names no SAM 2 (sam2_config).")
        speed_up(self.model.visual)
        width, vision = config.text.hidden_size, config.vision
        patch_width = vision.hidden_size * vision.spatial_merge_size**2
        # Built after the base class has initialised its own parts: these bring their own initialisation.
        # SAM 2 computes constants while it is built, so it is always built for real (it is small), never on "meta".
        with torch.device("cpu"):
            self.sam2 = build_sam2(config.sam2_config, config.sam2_image_size)
        sam_width = self.sam2.hidden_dim
        self.prompt_encoder = PromptEncoder(sam_width, width, config.sam2_image_size)
        self.region_encoder = RegionEncoder(patch_width, width)
        self.seg_head = nn.Sequential(
            Qwen2_5_VLRMSNorm(width, config.text.rms_norm_eps),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, config.sam2_hidden_tokens * sam_width),
        )

    def encode_vision(self, pixels: Tensor, grid_thw: Tensor) -> list[VisionFeatures]:
        """Encode B clips: `pixels` P x (3 * 2 * 14 * 14) of all of them, `grid_thw` B x 3 in patches."""
        return encode_vision(self.model.visual, pixels, grid_thw, self.config.mem_feature_order)

    def encode_prompts(self, coords: Sequence[Tensor], labels: Sequence[Tensor], moments: Tensor) -> Tensor:
        """N sparse prompts, each P x 2 coordinates in SAM's input with P labels, at N moments in 0..1 -> N x D."""
        rows = [
            self.prompt_encoder(c[None].float(), label[None], moments[i : i + 1].float())
            for i, (c, label) in enumerate(zip(coords, labels))
        ]
        return torch.cat(rows)

    def encode_regions(self, vision: VisionFeatures, masks: Tensor) -> Tensor:
        """Regions on the token grid, N x T' x h x w bool -> one embedding a visible (object, patch): M x D."""
        pooled = pool_regions(vision.patches, masks)
        return self.region_encoder(pooled.to(self.model.language_model.norm.weight.dtype))

    def embed_words(self, input_ids: Tensor) -> Tensor:
        """Embeddings B x L x D of tokens as they are: a placeholder that the model itself says stands for nothing."""
        return self.get_input_embeddings()(input_ids)

    def embed(
        self,
        input_ids: Tensor,
        vision: Tensor | None = None,
        refs: Tensor | None = None,
        mems: Tensor | None = None,
    ) -> Tensor:
        """Token embeddings B x L x D, the placeholders replaced in reading order by the given rows (each n x D)."""
        embeds = self.embed_words(input_ids)
        for token_id, rows, name in (
            (self.config.video_token_id, vision, "vision tokens"),
            (self.config.ref_token_id, refs, "point and box prompts"),
            (self.config.mem_token_id, mems, "region embeddings"),
        ):
            places = input_ids == token_id
            count = 0 if rows is None else len(rows)
            if int(places.sum()) != count:
                raise ValueError(f"The text has {int(places.sum())} places for {count} {name}.")
            if rows is not None:
                embeds = embeds.masked_scatter(places[..., None], rows.to(embeds.dtype))
        return embeds

    def positions(
        self,
        input_ids: Tensor,
        grid_thw: Tensor | None,
        seconds_per_patch: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rotary positions 3 x B x L, and B x 1 offsets by which later tokens' positions exceed their index."""
        model: Any = self.model  # its annotations ask for subclasses of Tensor that torch does not make
        return model.get_rope_index(
            input_ids,
            mm_token_type_ids=(input_ids == self.config.video_token_id).int() * 2,
            video_grid_thw=grid_thw,
            second_per_grid_ts=seconds_per_patch,
            attention_mask=attention_mask,
        )

    def read(
        self,
        embeds: Tensor,
        positions: Tensor,
        cache: Cache | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the language model over B x L x D embeddings: hidden states before the final norm, B x L x D.

        `cache` is extended in place by the L tokens.
        """
        last = self.config.text.num_hidden_layers
        output = self.model.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=[last],
        )
        return output.hidden_states[last]

    def predict(self, hidden: Tensor) -> Tensor:
        """Next-token logits (..., V) from hidden states before the final norm."""
        return self.lm_head(self.model.language_model.norm(hidden))

    def point_out(self, hidden: Tensor) -> Tensor:
        """N x D hidden states that predict a `<|seg|>` -> N x K x C prompt tokens for SAM 2."""
        tokens = self.seg_head(hidden)
        return tokens.unflatten(-1, (self.config.sam2_hidden_tokens, -1))
