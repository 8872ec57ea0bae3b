"""The loss of UniPixel (arXiv 2509.18094, section 3.4): SAM 2's mask losses beside the language model's.

Mask terms follow SAM 2 (arXiv 2408.00714, appendix D): focal and dice on the best of the candidate masks, L1 on every
candidate's predicted IoU, cross-entropy on "is the object in the frame". All are sums over objects divided by
their number; frames without the object count only in the last term.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = {"mask": 100.0, "dice": 5.0, "iou": 5.0, "object": 5.0}


@dataclass(frozen=True, eq=False)
class MaskLosses:
    """The four terms before weighting (scalars); `total` is their weighted sum."""

    mask: Tensor
    dice: Tensor
    iou: Tensor
    object: Tensor

    @property
    def total(self) -> Tensor:
        return sum((WEIGHTS[name] * getattr(self, name) for name in WEIGHTS), torch.zeros_like(self.mask))


def focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss a pixel (arXiv 1708.02002, equation 5), averaged over the last two dimensions."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())
    balance = torch.where(targets > 0, alpha, 1 - alpha)
    return (balance * (1 - right) ** gamma * entropy).mean((-2, -1))


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the soft Dice coefficient (with SAM 2's smoothing of 1) over the last two dimensions."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * targets).sum((-2, -1))
    return 1 - (overlap + 1) / (chance.sum((-2, -1)) + targets.sum((-2, -1)) + 1)


def mask_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of thresholded logits and binary targets over the last two dimensions."""
    found, true = logits > 0, targets > 0
    return (found & true).sum((-2, -1)) / (found | true).sum((-2, -1)).clamp(min=1)


def _shared(losses: Tensor, best: Tensor, spread: float) -> Tensor:
    """N x M losses of candidates -> N: the best one's, and a share of the mean."""
    chosen = losses.gather(1, best[:, None])[:, 0]
    return (1 - spread) * chosen + spread * losses.mean(1)


def mask_losses(
    logits: Tensor, ious: Tensor, object_logits: Tensor, targets: Tensor, spread: float = 0.0
) -> MaskLosses:
    """Losses of N objects on one frame.

    `logits` N x M x H x W candidates, `ious` N x M their predicted IoUs, `object_logits` N x 1, `targets`
    N x H x W bool or 0/1. `spread` is the share of the mask loss that all candidates bear instead of the best one:
    above 0 early in training, while the predicted IoUs cannot tell the best one yet.
    """
    count = len(targets)
    wide = targets[:, None].to(logits.dtype).expand_as(logits)
    present = targets.flatten(1).any(1).to(logits.dtype)
    mask, overlap = focal(logits, wide), dice(logits, wide)
    best = (WEIGHTS["mask"] * mask + WEIGHTS["dice"] * overlap).argmin(1)
    iou = (ious.float() - mask_iou(logits, wide)).abs().mean(1)
    there = F.binary_cross_entropy_with_logits(object_logits[:, 0].float(), present, reduction="sum")
    return MaskLosses(
        mask=(_shared(mask, best, spread) * present).sum() / count,
        dice=(_shared(overlap, best, spread) * present).sum() / count,
        iou=(iou * present).sum() / count,
        object=there / count,
    )
