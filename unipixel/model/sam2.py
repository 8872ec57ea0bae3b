"""SAM 2.1 as mask decoder and tracker: the `sam2` package's network behind a few verbs.

What is added to the package's model is one door: prompt tokens that come from the language model join the sparse
prompt embeddings (`decode`). Everything is batched over objects: N objects on one frame are N rows.
Sources: SAM 2 paper (arXiv 2408.00714) sections 4 and D; UniPixel paper (arXiv 2509.18094) section 3.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor

from unipixel.config import SAM2_SIZES

MemoryEntry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """SAM 2's view of B frames: `low` B x C x h x w, `high` = (B x C/8 x 4h x 4w, B x C/4 x 2h x 2w).

    The position encoding depends on the size alone, so it is not stored here.
    """

    low: Tensor
    high: tuple[Tensor, Tensor]

    def at(self, rows: Tensor | list[int]) -> FrameFeatures:
        """Rows (frames) by index, repeats allowed: one row an object."""
        return FrameFeatures(self.low[rows], (self.high[0][rows], self.high[1][rows]))

    def expand(self, row: int, count: int) -> FrameFeatures:
        """The frame `row`, seen by `count` objects, without copying."""
        return FrameFeatures(
            self.low[row : row + 1].expand(count, -1, -1, -1),
            (
                self.high[0][row : row + 1].expand(count, -1, -1, -1),
                self.high[1][row : row + 1].expand(count, -1, -1, -1),
            ),
        )

    def __len__(self) -> int:
        return len(self.low)


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """What the decoder says of N objects on one frame.

    `all_logits` N x M x 4h x 4w (M candidates) and their predicted IoUs `ious` N x M; `logits` N x 1 x 4h x 4w is the
    best candidate; `object_logits` N x 1 above 0 where the object is in the frame; `pointer` N x C. `given` masks are
    no guess: people drew them, or said that there is none.
    """

    all_logits: Tensor
    ious: Tensor
    logits: Tensor
    object_logits: Tensor
    pointer: Tensor
    given: bool = False


class SAM2(SAM2Base):
    """SAM 2.1 with verbs for one frame: `encode_frames`, `embed_points`, `condition`, `decode`, `remember`."""

    def encode_frames(self, pixels: Tensor) -> FrameFeatures:
        """Encode B x 3 x S x S normalised frames."""
        high0, high1, low = self.forward_image(pixels)["backbone_fpn"]
        return FrameFeatures(low, (high0, high1))

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Sparse embeddings N x (P + 1) x C of P points each, in pixels of the S x S input.

        Labels: 1 and 0 clicks, 2 and 3 a box's corners, -1 padding; a padding point is added, as SAM 2 does.
        """
        return self.sam_prompt_encoder._embed_points(coords, labels, pad=True)

    def no_points(self, count: int) -> Tensor:
        """The sparse embeddings N x 2 x C of "no click": what every frame without clicks is decoded with."""
        device = self.no_mem_embed.device
        return self.embed_points(torch.zeros(count, 1, 2, device=device), -torch.ones(count, 1, device=device))

    def no_mask(self, count: int) -> Tensor:
        """The dense embedding N x C x h x w of "no mask prompt"."""
        size = self.sam_image_embedding_size
        return self.sam_prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(count, -1, size, size)

    def position_encoding(self, features: FrameFeatures) -> Tensor:
        """The neck's sine encoding N x C x h x w of the low-resolution map."""
        return self.image_encoder.neck.position_encoding(features.low).to(features.low.dtype)

    def condition_fresh(self, features: FrameFeatures) -> Tensor:
        """Features of a frame that is decoded from its prompt alone (no memory yet)."""
        return features.low + self.no_mem_embed.reshape(1, -1, 1, 1)

    def condition(
        self,
        features: FrameFeatures,
        t: int,
        prompted: Mapping[int, MemoryEntry],
        tracked: Mapping[int, MemoryEntry],
        num_frames: int,
        reverse: bool = False,
    ) -> Tensor:
        """Features of frame `t` after attention to the memories of other frames (SAM 2 paper, section 4)."""
        return self._prepare_memory_conditioned_features(
            frame_idx=t,
            is_init_cond_frame=False,
            current_vision_feats=[features.low.flatten(2).permute(2, 0, 1)],
            current_vision_pos_embeds=[self.position_encoding(features).flatten(2).permute(2, 0, 1)],
            feat_sizes=[features.low.shape[-2:]],
            output_dict={"cond_frame_outputs": dict(prompted), "non_cond_frame_outputs": dict(tracked)},
            num_frames=num_frames,
            track_in_reverse=reverse,
        )

    def decode(
        self,
        conditioned: Tensor,
        features: FrameFeatures,
        sparse: Tensor,
        dense: Tensor | None = None,
        multimask: bool = True,
        hide_absent: bool = True,
    ) -> MaskPrediction:
        """Masks of N objects from conditioned features N x C x h x w and sparse prompt embeddings N x P x C.

        With `multimask` three candidates are predicted and the one with the best predicted IoU is kept. Masks of
        objects that seem not to be in the frame are empty. With `hide_absent` off they are left as they are: training
        needs them, as a wrong guess of presence would hide the mask from its loss (the original does the same).
        """
        all_logits, ious, tokens, object_logits = self.sam_mask_decoder(
            image_embeddings=conditioned,
            image_pe=self.sam_prompt_encoder.get_dense_pe().to(conditioned.dtype),
            sparse_prompt_embeddings=sparse.to(conditioned.dtype),
            dense_prompt_embeddings=(self.no_mask(len(conditioned)) if dense is None else dense).to(conditioned.dtype),
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=list(features.high),
        )
        present = object_logits > 0
        if hide_absent:
            all_logits = torch.where(present[:, None, None], all_logits, NO_OBJ_SCORE)
        all_logits = all_logits.float()
        best, rows = ious.argmax(-1), torch.arange(len(ious), device=ious.device)
        token = tokens[rows, best] if tokens.shape[1] > 1 else tokens[:, 0]
        shown = present.to(token.dtype)
        pointer = shown * self.obj_ptr_proj(token) + (1 - shown) * self.no_obj_ptr
        return MaskPrediction(all_logits, ious, all_logits[rows, best].unsqueeze(1), object_logits, pointer)

    def adopt(self, features: FrameFeatures, masks: Tensor) -> MaskPrediction:
        """A given mask N x 1 x S x S (0..1) taken as the prediction of its frame (no decoding).

        An empty mask says that the object is absent: SAM 2 gives such a frame a low object score and its pointer for
        "no object", and `remember` marks its memory with the embedding for that.
        """
        _, _, ious, low, _, pointer, object_logits = self._use_mask_as_output(
            features.low, list(features.high), masks.to(features.low.dtype)
        )
        return MaskPrediction(low, ious, low, object_logits, pointer, given=True)

    def full_size(self, logits: Tensor) -> Tensor:
        """Low-resolution logits brought to the S x S input size."""
        size = (self.image_size, self.image_size)
        return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)

    def remember(self, features: FrameFeatures, prediction: MaskPrediction) -> MemoryEntry:
        """The memory of a decoded frame, for `condition` on other frames."""
        memory, position = self._encode_new_memory(
            current_vision_feats=[features.low.flatten(2).permute(2, 0, 1)],
            feat_sizes=[features.low.shape[-2:]],
            pred_masks_high_res=self.full_size(prediction.logits).to(features.low.dtype),
            object_score_logits=prediction.object_logits,
            is_mask_from_pts=False,
        )
        return {"maskmem_features": memory, "maskmem_pos_enc": position, "obj_ptr": prediction.pointer}


def read_sam2_numbers(config: str | Mapping[str, Any]) -> dict[str, Any]:
    """The numbers behind `sam2_config`: a dict as it is, or an official size by (the last part of) its name."""
    if not isinstance(config, str):
        return dict(config)
    size = config.split("/")[-1].removesuffix(".yaml")
    if size not in SAM2_SIZES:
        raise ValueError(f"Unknown SAM 2 configuration {config!r}; known are {', '.join(SAM2_SIZES)}, or a dict.")
    folder = importlib.resources.files("sam2") / "configs" / "sam2.1"
    loaded = OmegaConf.create((folder / SAM2_SIZES[size]).read_text())
    return OmegaConf.to_container(loaded.model)  # pyright: ignore[reportReturnType]


def _numbers(values: Mapping[str, Any], *without: str) -> dict[str, Any]:
    """Keyword arguments from a configuration node, less its `_target_` and the parts built apart."""
    converted = {k: float(v) if k == "layer_scale_init_value" else v for k, v in values.items()}
    return {k: v for k, v in converted.items() if k not in ("_target_", *without)}


def build_sam2(config: str | Mapping[str, Any], image_size: int) -> SAM2:
    """Build SAM 2.1 from its numbers for `image_size` x `image_size` inputs, with random weights."""
    numbers = read_sam2_numbers(config)
    encoder, attention, memory = numbers["image_encoder"], numbers["memory_attention"], numbers["memory_encoder"]
    neck, layer, fuser = encoder["neck"], attention["layer"], memory["fuser"]
    grid = [image_size // 16, image_size // 16]
    return SAM2(
        image_encoder=ImageEncoder(
            trunk=Hiera(**_numbers(encoder["trunk"])),
            neck=FpnNeck(
                position_encoding=PositionEmbeddingSine(**_numbers(neck["position_encoding"])),
                **_numbers(neck, "position_encoding"),
            ),
            scalp=encoder["scalp"],
        ),
        memory_attention=MemoryAttention(
            layer=MemoryAttentionLayer(
                self_attention=RoPEAttention(**_numbers(layer["self_attention"], "feat_sizes"), feat_sizes=grid),
                cross_attention=RoPEAttention(**_numbers(layer["cross_attention"], "feat_sizes"), feat_sizes=grid),
                **_numbers(layer, "self_attention", "cross_attention"),
            ),
            **_numbers(attention, "layer"),
        ),
        memory_encoder=MemoryEncoder(
            mask_downsampler=MaskDownSampler(**_numbers(memory["mask_downsampler"])),
            fuser=Fuser(layer=CXBlock(**_numbers(fuser["layer"])), **_numbers(fuser, "layer")),
            position_encoding=PositionEmbeddingSine(**_numbers(memory["position_encoding"])),
            **_numbers(memory, "mask_downsampler", "fuser", "position_encoding"),
        ),
        **{**_numbers(numbers, "image_encoder", "memory_attention", "memory_encoder"), "image_size": image_size},
    )
