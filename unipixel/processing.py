"""Frames, masks and marks as the network wants them: resized, normalised, cut into patches.

Without torchvision transformers has no video processor for Qwen2.5-VL, so the patches are cut here; a test holds
them equal to transformers' image processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unipixel.config import UniPixelConfig
from unipixel.types import Box, Media, Point

# ImageNet's statistics (SAM 2) and CLIP's (Qwen2.5-VL).
_SAM_MEAN, _SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_VISION_MEAN, _VISION_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, eq=False)
class ClipInputs:
    """One clip for the network.

    `pixels` P x (3 * 2 * 14 * 14) and `grid_thw` 1 x 3 go to the vision tower, `frames` T x 3 x S x S to SAM 2.
    """

    pixels: Tensor
    grid_thw: Tensor
    frames: Tensor

    def num_tokens(self, merge: int = 2) -> int:
        """How many tokens of the language model the clip takes."""
        return int(self.grid_thw.prod()) // merge**2


def _normalize(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    scale = torch.tensor(std, device=frames.device).view(3, 1, 1) * 255
    return (frames.float() - torch.tensor(mean, device=frames.device).view(3, 1, 1) * 255) / scale


def normalize_for_sam(frames: Tensor) -> Tensor:
    """B x 3 x S x S in 0..255 -> SAM 2's input."""
    return _normalize(frames, _SAM_MEAN, _SAM_STD)


def resize_for_sam(frames: Tensor, side: int) -> Tensor:
    """B x 3 x H x W in 0..255 -> B x 3 x side x side, not rounded; the aspect ratio is not kept, as in SAM 2."""
    return F.interpolate(frames.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)


def resize_for_vision(frames: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of uint8 B x 3 x H x W pictures.

    Pillow's, as in the released model's training; torch's differs by up to a grey level.
    """
    if frames.shape[-2:] == (height, width):
        return frames
    pictures = [Image.fromarray(frame) for frame in frames.permute(0, 2, 3, 1).cpu().numpy()]
    small = [np.asarray(p.resize((width, height), Image.Resampling.BICUBIC)) for p in pictures]
    return to_tensor(np.stack(small)).to(frames.device)


def vision_size(height: int, width: int, config: UniPixelConfig) -> tuple[int, int]:
    """The (height, width) at which the vision tower sees a frame: multiples of 28 within the pixel limits."""
    if config.square_side:
        return config.square_side, config.square_side
    factor = config.patching.side * config.patching.merge
    if max(height, width) > 200 * min(height, width):
        raise ValueError(f"A picture of {width} x {height} pixels is too long and thin; at most 200 to 1 is allowed.")
    h, w = (max(factor, round(side / factor) * factor) for side in (height, width))
    if h * w > config.max_pixels:
        scale = math.sqrt(height * width / config.max_pixels)
        h, w = (max(factor, math.floor(side / scale / factor) * factor) for side in (height, width))
    elif h * w < config.min_pixels:
        scale = math.sqrt(config.min_pixels / (height * width))
        h, w = (math.ceil(side * scale / factor) * factor for side in (height, width))
    return h, w


def patchify(frames: Tensor, patch: int = 14, merge: int = 2, temporal: int = 2) -> tuple[Tensor, Tensor]:
    """T x 3 x H x W normalised frames -> patches P x (3 * temporal * patch * patch) and grid_thw 1 x 3.

    An odd last frame is doubled. Patches that merge into one token lie next to each other (Qwen2-VL's order).
    """
    if len(frames) % temporal:
        frames = torch.cat([frames, frames[-1:].expand(temporal - len(frames) % temporal, -1, -1, -1)])
    t, h, w = len(frames) // temporal, frames.shape[2] // patch, frames.shape[3] // patch
    x = frames.reshape(t, temporal, 3, h // merge, merge, patch, w // merge, merge, patch)
    # (t, h', w', merge, merge, channel, temporal, patch, patch)
    x = x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return x.reshape(t * h * w, 3 * temporal * patch * patch), torch.tensor([[t, h, w]])


def vision_inputs(frames: Tensor, config: UniPixelConfig) -> tuple[Tensor, Tensor]:
    """uint8 T x 3 x H x W frames -> patches and grid for the vision tower."""
    h, w = vision_size(frames.shape[2], frames.shape[3], config)
    pixels = _normalize(resize_for_vision(frames, h, w), _VISION_MEAN, _VISION_STD)
    return patchify(pixels, *config.patching)


def sam_inputs(frames: Tensor, config: UniPixelConfig) -> Tensor:
    """T x 3 x H x W frames in 0..255 -> T x 3 x S x S for SAM 2."""
    return normalize_for_sam(resize_for_sam(frames, config.sam2_image_size))


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 T x H x W x 3 -> T x 3 x H x W (a copy)."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def clip_inputs(media: Media, config: UniPixelConfig) -> ClipInputs:
    """Everything the network needs to see of `media`."""
    frames = to_tensor(media.frames)
    pixels, grid = vision_inputs(frames, config)
    return ClipInputs(pixels, grid, sam_inputs(frames, config))


def mark_coordinates(mark: Point | Box, media: Media, side: int) -> tuple[Tensor, Tensor]:
    """A mark in SAM's input: coordinates P x 2 and labels P (a box is its two corners, labels 2 and 3)."""
    scale = torch.tensor([side / media.width, side / media.height])
    if isinstance(mark, Box):
        return torch.tensor(mark.xyxy).view(2, 2) * scale, torch.tensor([2, 3], dtype=torch.int32)
    return torch.tensor([mark.xy]) * scale, torch.tensor([mark.label], dtype=torch.int32)


def pool_to_token_grid(masks: NDArray[np.bool_], grid_thw: Tensor, merge: int = 2, temporal: int = 2) -> Tensor:
    """Masks N x T x H x W -> N x T' x h x w bool: the tokens that `<|mem|>` averages over.

    A token belongs to the object when the mask, resized to the token grid, covers at least half of it in one of the
    patch's frames; an object too small for that keeps its best-covered token.
    """
    t, h, w = (int(v) for v in grid_thw[0])
    h, w = h // merge, w // merge
    x = torch.from_numpy(np.ascontiguousarray(masks)).float()
    share = F.adaptive_avg_pool2d(x.flatten(0, 1)[:, None], (h, w))[:, 0].unflatten(0, x.shape[:2])
    if x.shape[1] % temporal:
        share = torch.cat([share, share[:, -1:].expand(-1, temporal - x.shape[1] % temporal, -1, -1)], 1)
    share = share.unflatten(1, (t, temporal)).amax(2)
    best = share.flatten(2).amax(-1)[..., None, None]
    return (share >= 0.5) | ((share == best) & (best > 0))
