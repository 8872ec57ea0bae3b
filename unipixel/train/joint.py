"""UniPixel's loss of a batch (arXiv 2509.18094, section 3.4): words, and masks through time, in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unipixel.model.sam2 import FrameFeatures, MaskPrediction
from unipixel.model.tracker import FramePrompt, track
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.train.items import IGNORE, Batch
from unipixel.train.losses import WEIGHTS, mask_losses


@dataclass(frozen=True, eq=False)
class Drawn:
    """Objects of one length and first frame: their numbers in the batch, what SAM 2 says of them on each of T frames
    (by frame), and their true masks N x T x S x S."""

    objects: list[int]
    predictions: dict[int, MaskPrediction]
    targets: Tensor


@dataclass(frozen=True, eq=False)
class JointLosses:
    """The parts of the loss (scalars); `total` is what is minimised.

    `words` is the mean cross-entropy of the answers' tokens. `mask`, `dice`, `iou`, `object` are sums over frames of
    means over objects, before weighting; `masks` is their weighted sum divided by the number of frames.
    """

    words: Tensor
    masks: Tensor
    mask: Tensor
    dice: Tensor
    iou: Tensor
    object: Tensor

    @property
    def total(self) -> Tensor:
        return self.words + self.masks


class JointModel(nn.Module):
    """The network with its loss as `forward`: what a trainer wraps and steps.

    SAM 2's dropout is on only where SAM 2 itself is trained.
    """

    def __init__(self, network: UniPixelForConditionalGeneration) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> JointModel:
        super().train(mode)
        if not any(p.requires_grad for p in self.network.sam2.parameters()):
            self.network.sam2.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Each part of the loss by name, and `loss`, their sum. Only `loss` carries gradients."""
        hidden = read_batch(self.network, batch)
        losses = joint_losses(self.network, batch, hidden, list(draw_objects(self.network, batch, hidden)))
        parts = {field.name: getattr(losses, field.name).detach() for field in fields(losses)}
        loss = losses.total
        if torch.is_grad_enabled() and not loss.requires_grad:
            # The seg head alone learns nothing from words alone: a step then has a gradient of zero.
            loss = loss + sum(0 * p.sum() for p in self.network.parameters() if p.requires_grad)
        return {"loss": loss, **parts}


def read_batch(network: UniPixelForConditionalGeneration, batch: Batch) -> Tensor:
    """Encode media and marks and read all sequences: hidden states S x L x D before the final norm."""
    vision = network.encode_vision(batch.pixels, batch.grid_thw)
    refs = mems = None
    if batch.refs:
        coords, labels = zip(*batch.refs)
        refs = network.encode_prompts(coords, labels, batch.moments)
    if batch.regions:
        mems = torch.cat([network.encode_regions(vision[b], regions) for b, regions in batch.regions])
    tokens = torch.cat([vision[b].tokens for b in batch.media_of])
    embeds = network.embed(batch.input_ids, tokens, refs, mems)
    grids = batch.grid_thw[batch.media_of]
    positions, _ = network.positions(batch.input_ids, grids, attention_mask=batch.attention_mask)
    padded = None if bool(batch.attention_mask.all()) else batch.attention_mask
    return network.read(embeds, positions, attention_mask=padded)


def draw_objects(network: UniPixelForConditionalGeneration, batch: Batch, hidden: Tensor) -> Iterator[Drawn]:
    """Turn the states before the `<|seg|>` into masks on all frames; objects of one length move as one batch."""
    if not batch.targets:
        return
    sam2 = network.sam2
    rows, positions = zip(*batch.seg_places)
    tokens = network.point_out(hidden[list(rows), [p - 1 for p in positions]])
    features = sam2.encode_frames(torch.cat(batch.clips))
    starts = torch.tensor([0, *(len(clip) for clip in batch.clips)]).cumsum(0).tolist()
    groups: dict[tuple[int, int], list[int]] = {}
    for n, (target, frame) in enumerate(zip(batch.targets, batch.seg_frames)):
        groups.setdefault((len(target), frame), []).append(n)
    for (length, frame), objects in groups.items():
        first = [starts[batch.media_of[rows[n]]] for n in objects]
        none = sam2.no_points(len(objects))
        prompt = FramePrompt(sparse=torch.cat([none, tokens[objects].to(none.dtype)], 1))

        def at(t: int, first: list[int] = first) -> FrameFeatures:
            return features.at([start + t for start in first])

        predictions = dict(track(sam2, at, length, {frame: prompt}, hide_absent=False))
        yield Drawn(objects, predictions, torch.stack([batch.targets[n] for n in objects]))


def word_loss(network: UniPixelForConditionalGeneration, batch: Batch, hidden: Tensor) -> Tensor:
    """Mean cross-entropy of the tokens that carry a label."""
    learnt = batch.labels[:, 1:] != IGNORE
    logits = network.predict(hidden[:, :-1][learnt])
    return F.cross_entropy(logits.float(), batch.labels[:, 1:][learnt])


def joint_losses(
    network: UniPixelForConditionalGeneration, batch: Batch, hidden: Tensor, drawn: list[Drawn]
) -> JointLosses:
    """All parts of the loss; groups of objects count by their size."""
    count = sum(len(group.objects) for group in drawn)
    parts = dict.fromkeys(("masks", *WEIGHTS), hidden.new_zeros((), dtype=torch.float32))
    for group in drawn:
        share, frames = len(group.objects) / count, len(group.predictions)
        for t, prediction in group.predictions.items():
            candidates = network.sam2.full_size(prediction.all_logits)
            losses = mask_losses(candidates, prediction.ious, prediction.object_logits, group.targets[:, t])
            for name in WEIGHTS:
                parts[name] = parts[name] + share * getattr(losses, name)
            parts["masks"] = parts["masks"] + share * losses.total / frames
    return JointLosses(words=word_loss(network, batch, hidden), **parts)
