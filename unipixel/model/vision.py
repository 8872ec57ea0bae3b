"""Qwen2.5-VL's vision tower, and a faster way through it.

The library attends to windows one by one in a Python loop. Nearly all windows of a picture have one length, so they
fit into one batched call. And it embeds patches that do not overlap by a convolution, which on CPUs takes three times
as long as the matrix product it amounts to. The results are the same up to rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionPatchEmbed,
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    Qwen2_5_VLVisionBlock,
    apply_rotary_pos_emb_vision,
)
from transformers.vision_utils import get_vision_window_index


@dataclass(frozen=True, eq=False)
class VisionFeatures:
    """What the vision tower says of one clip.

    `tokens` L x D (one a merged patch, in raster order, in the language model's width), `patches` L x 4 D_v: the input
    of the merger's MLP in the order that `mem_feature_order` asks for; `grid` = (T', h, w) tokens.
    """

    tokens: Tensor
    patches: Tensor
    grid: tuple[int, int, int]


class FlatPatchEmbed(Qwen2_5_VisionPatchEmbed):
    """The library's embedding of patches as one matrix product."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight = self.proj.weight.flatten(1)
        return F.linear(hidden_states.to(weight.dtype).reshape(-1, weight.shape[1]), weight)


class PackedVisionAttention(Qwen2_5_VLVisionAttention):
    """The library's attention with windows of equal length computed as one batch (SDPA only)."""

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        max_seqlen: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if self.config._attn_implementation != "sdpa" or position_embeddings is None:
            return super().forward(hidden_states, cu_seqlens, position_embeddings, max_seqlen, **kwargs)
        length = len(hidden_states)
        q, k, v = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1).unbind(1)  # each L x heads x d
        q, k = apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        out = torch.cat([_attend(*part) for part in _equal_windows((q, k, v), cu_seqlens.tolist())])
        return self.proj(out.reshape(length, -1))


def _equal_windows(qkv: tuple[Tensor, Tensor, Tensor], ends: list[int]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Split L x heads x d at `ends`, neighbours of one length together: windows x length x heads x d."""
    runs: list[tuple[int, int, int]] = []  # (start, end, window length)
    for start, end in itertools.pairwise(ends):
        if runs and runs[-1][2] == end - start:
            runs[-1] = (runs[-1][0], end, end - start)
        else:
            runs.append((start, end, end - start))
    return [tuple(x[a:b].unflatten(0, (-1, n)) for x in qkv) for a, b, n in runs]  # pyright: ignore[reportReturnType]


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention inside each window: windows x length x heads x d -> (windows * length) x heads x d."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)


def speed_up(tower: Qwen2_5_VisionTransformerPretrainedModel) -> None:
    """Let `tower` embed patches as a matrix product and every block attend to equal windows in one batch."""
    tower.patch_embed.__class__ = FlatPatchEmbed
    for block in cast("Iterable[Qwen2_5_VLVisionBlock]", tower.blocks):
        block.attn.__class__ = PackedVisionAttention


def encode_vision(
    tower: Qwen2_5_VisionTransformerPretrainedModel, pixels: Tensor, grid_thw: Tensor, order: str
) -> list[VisionFeatures]:
    """Encode the patches of B clips (P x 3*2*14*14, from `processing`) with their grids `grid_thw` (B x 3)."""
    output = tower(pixels.to(tower.dtype), grid_thw=grid_thw)
    merge = tower.spatial_merge_size
    patches = tower.merger.ln_q(output.last_hidden_state).reshape(-1, tower.merger.hidden_size)
    if order == "raster":
        window_index, _ = get_vision_window_index(
            grid_thw, spatial_merge_size=merge, window_size=tower.window_size, patch_size=cast("int", tower.patch_size)
        )
        patches = patches[torch.argsort(window_index).to(patches.device)]
    grids = [(t, h // merge, w // merge) for t, h, w in grid_thw.tolist()]
    lengths = [t * h * w for t, h, w in grids]
    clips = zip(output.pooler_output.split(lengths), patches.split(lengths), grids)
    return [VisionFeatures(tokens, rows, grid) for tokens, rows, grid in clips]
