"""Prompts as language-model embeddings: points and boxes (`<|ref|>`), regions (`<|mem|>`).

UniPixel paper (arXiv 2509.18094), section 3.1: a sparse prompt is SAM's Fourier encoding of its corners joined with a
Fourier encoding of its frame; a region is the mean of the vision features under its mask, one a temporal patch.
"""

from __future__ import annotations

import math

import torch
from sam2.modeling.sam.prompt_encoder import PromptEncoder as SamPromptEncoder
from torch import Tensor, nn


class TimeEncoding(nn.Module):
    """Fourier features of a moment in 0..1: random frequencies, sines then cosines."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(1, width // 2))

    def forward(self, moments: Tensor) -> Tensor:
        """N moments -> N x width."""
        angles = 2 * math.pi * (2 * moments[:, None] - 1) @ self.positional_encoding_gaussian_matrix
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points and boxes with their frame -> one embedding each, in the language model's width.

    A point is two tokens (itself and a padding point), a box three (two corners and padding), so there is a
    projection for each. `width` is SAM's, `output_width` the language model's.
    """

    def __init__(self, width: int, output_width: int, image_size: int) -> None:
        super().__init__()
        grid = (image_size // 16, image_size // 16)
        self.space = SamPromptEncoder(width, grid, (image_size, image_size), mask_in_chans=16)
        self.project_point = nn.Linear(2 * width, 3 * width)
        self.project_box = nn.Linear(3 * width, 3 * width)
        self.time = TimeEncoding(width)
        self.time_embedding = nn.Embedding(1, width)
        self.project_time = nn.Linear(width, 3 * width)
        self.project = nn.Sequential(nn.GELU(), nn.Linear(6 * width, output_width))

    def forward(self, coords: Tensor, labels: Tensor, moments: Tensor) -> Tensor:
        """Embed N prompts of one kind: `coords` N x P x 2 in pixels of SAM's square input, `labels` N x P.

        P = 1 with label 1 (or 0) is a point; P = 2 with labels 2, 3 a box. `moments` N in 0..1 is the frame index
        divided by the last index of the padded clip.
        """
        corners = self.space._embed_points(coords, labels, pad=True)  # N x (P + 1) x width
        place = (self.project_point if coords.shape[1] == 1 else self.project_box)(corners.flatten(1))
        moment = self.project_time(self.time(moments) + self.time_embedding.weight)
        return self.project(torch.cat([place, moment], dim=-1))


class RegionEncoder(nn.Sequential):
    """Mean vision features under a mask (N x 4 D_v) -> `<|mem|>` embeddings (N x D)."""

    def __init__(self, width: int, output_width: int) -> None:
        super().__init__(nn.Linear(width, width), nn.GELU(), nn.Linear(width, output_width))


def pool_regions(patches: Tensor, masks: Tensor) -> Tensor:
    """Mean features of each visible region: `patches` (T' * h * w) x C, `masks` N x T' x h x w bool.

    Returns M x C: one row for every (object, temporal patch) with at least one token, objects first.
    """
    grid = masks.shape[1:]
    patches = patches.unflatten(0, grid)
    rows = [patches[t][masks[n, t]].mean(0) for n, t in masks.flatten(2).any(-1).nonzero().tolist()]
    return torch.stack(rows) if rows else patches.new_zeros(0, patches.shape[-1])
