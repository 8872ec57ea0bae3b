"""Head start 1: SAM 2 learns clicks, boxes and tracking on the drawn world, as the real one did on SA-V."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unipixel.data.world import COLORS, SHAPES_ONLY, Contents
from unipixel.model.sam2 import SAM2, FrameFeatures, MaskPrediction
from unipixel.processing import normalize_for_sam
from unipixel.train.losses import mask_iou, mask_losses
from unipixel.train.scenes import Draw, square_scene

COLOR_NAMES = tuple(COLORS)
POINTS, BOX, TOKENS = "points", "box", "tokens"
SPREAD = 0.3
IGNORE = -100  # a label that teaches nothing (PyTorch's own number for that)
# What people click is no drawn shape: emoji, cut-outs of photographs and patterns, on photographs and patterns.
_ANYTHING = Contents(nouns=0.4, nameless=0.4, surfaces=0.5, camera=0.2)


@dataclass(frozen=True, eq=False)
class SamBatch:
    """B clips of T frames with N objects in all: `frames` (B*T) x 3 x S x S uint8, `masks` N x T x S x S bool.

    `clip` N says which clip an object is in, `colors` N its colour's number (from 1; `IGNORE` for things without one),
    `coords` N x P x 2 and `labels` N x P its marks on frame 0, all of one `kind`.
    """

    frames: Tensor
    masks: Tensor
    clip: Tensor
    colors: Tensor
    coords: Tensor
    labels: Tensor
    kind: str


def click(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[float, float]:
    """A pixel of `mask` as (x, y): mostly anywhere, sometimes the innermost."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 0.0, 0.0
    i = rng.integers(len(rows))
    return float(columns[i]), float(rows[i])


def mask_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The tight box xyxy of a mask, x2 and y2 its last pixel's; zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def _marks(rng: np.random.Generator, kind: str, mask: NDArray[np.bool_], points: int) -> tuple[list, list]:
    if kind == POINTS:
        outside = ~mask
        signs = [1] + [int(rng.random() < 0.6) for _ in range(points - 1)]
        return [click(rng, mask if sign else outside) for sign in signs], signs
    jitter = rng.normal(0, 0.03 if kind == BOX else 0.015, 4)
    x1, y1, x2, y2 = mask_box(mask)
    w, h = x2 - x1, y2 - y1
    box = np.clip(np.array([x1, y1, x2, y2]) + jitter * np.array([w, h, w, h]), 0, mask.shape[-1] - 1)
    return [tuple(box[:2]), tuple(box[2:])], [2, 3]


def make_sam_batch(draw: Draw, rng: np.random.Generator, kept: int | None = None) -> SamBatch:
    """Draw scenes and mark every object of theirs (that is visible on frame 0) with one kind of prompt.

    With `kept`, only so many frames of each stay, from anywhere in it: objects may be half hidden on the first.
    """
    kind = str(rng.choice([POINTS, BOX, TOKENS], p=[0.4, 0.2, 0.4]))
    points = int(rng.choice([1, 1, 2, 3, 4])) if kind == POINTS else 2
    first = 0 if kept is None else int(rng.integers(draw.frames - kept + 1))
    frames, masks, clip, colors, coords, labels = [], [], [], [], [], []
    for b in range(draw.batch):
        scene = square_scene(rng, draw)
        flip = rng.random() < 0.5  # time backwards is as good a clip
        order = np.arange(draw.frames)[:: -1 if flip else 1][first:][:kept]
        frames.append(scene.frames[order])
        for spec, mask in zip(scene.objects, scene.masks[:, order]):
            if mask[0].sum() < 60:
                continue
            where, signs = _marks(rng, kind, mask[0], points)
            coords.append(where)
            labels.append(signs)
            masks.append(mask)
            clip.append(b)
            colors.append(COLOR_NAMES.index(spec.color) + 1 if spec.color else IGNORE)
    if not masks:  # all that there is comes later
        return make_sam_batch(draw, rng, kept)
    return SamBatch(
        torch.from_numpy(np.concatenate(frames).transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(np.stack(masks)),
        torch.tensor(clip),
        torch.tensor(colors),
        torch.tensor(coords, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int32),
        kind,
    )


def help_attention(sam2: SAM2) -> None:
    """Let the decoder's tokens look where their position encoding says, before anything is learnt.

    With q_proj = k_proj the attention between a click and the picture starts as a similarity of position encodings,
    and with small type embeddings nothing drowns the click's. Otherwise a small decoder ignores clicks for
    thousands of steps and predicts all objects at once.
    """
    encoder: Any = sam2.sam_prompt_encoder
    with torch.no_grad():
        for embedding in (*encoder.point_embeddings, encoder.not_a_point_embed):
            embedding.weight.mul_(0.1)
    transformer: Any = sam2.sam_mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        nn.init.orthogonal_(attention.q_proj.weight, gain=2.0)
        with torch.no_grad():
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.q_proj.bias.zero_()
            attention.k_proj.bias.zero_()


class SamTrainer(nn.Module):
    """SAM 2 with a helper that names the colour under every cell of its features (dropped after training)."""

    def __init__(self, sam2: SAM2) -> None:
        super().__init__()
        self.sam2 = sam2
        self.color_head = nn.Conv2d(sam2.hidden_dim, len(COLOR_NAMES) + 1, 1)

    def forward(self, batch: SamBatch) -> tuple[Tensor, dict[str, float]]:
        features = self.sam2.encode_frames(normalize_for_sam(batch.frames))
        total, iou = self.track(batch, features)
        color = self.color_loss(batch, features)
        return total + color, {"mask": float(total.detach()), "color": float(color.detach()), "iou": iou}

    def color_loss(self, batch: SamBatch, features: FrameFeatures) -> Tensor:
        """Cross-entropy of the colour at every cell of the low-resolution features (0 = background)."""
        n, t = batch.masks.shape[:2]
        cells = batch.masks[..., 8::16, 8::16]
        colors = batch.colors.new_zeros(len(batch.frames) // t, t, *cells.shape[-2:])
        for i in range(n):
            colors[batch.clip[i]][cells[i]] = batch.colors[i]
        return F.cross_entropy(self.color_head(features.low).float(), colors.flatten(0, 1), ignore_index=IGNORE)

    def sparse(self, batch: SamBatch) -> Tensor:
        """Prompt embeddings of frame 0: as clicks and boxes, or as the two tokens a language model would send."""
        embedded = self.sam2.embed_points(batch.coords, batch.labels)
        if batch.kind != TOKENS:
            return embedded
        return torch.cat([self.sam2.no_points(len(embedded)), embedded[:, :2]], 1)

    def track(self, batch: SamBatch, features: FrameFeatures) -> tuple[Tensor, float]:
        """Mask loss over all frames, each decoded with the memory of those before; mean IoU beside it."""
        frames = batch.masks.shape[1]
        loss, ious = torch.zeros((), device=batch.frames.device), []
        prompted, tracked = {}, {}
        for t in range(frames):
            here = features.at(batch.clip * frames + t)
            prediction = self._decode(batch, here, t, prompted, tracked, frames)
            candidates = self.sam2.full_size(prediction.all_logits)
            losses = mask_losses(candidates, prediction.ious, prediction.object_logits, batch.masks[:, t], SPREAD)
            loss = loss + losses.total
            present = batch.masks[:, t].flatten(1).any(1)
            overlap = mask_iou(self.sam2.full_size(prediction.logits)[:, 0], batch.masks[:, t])
            ious.append(overlap[present])
            if frames > 1:
                (prompted if t == 0 else tracked)[t] = self.sam2.remember(here, prediction)
        return loss / frames, float(torch.cat(ious).mean())

    def _decode(self, batch, here: FrameFeatures, t: int, prompted, tracked, frames: int) -> MaskPrediction:
        if t == 0:
            multimask = batch.kind == TOKENS or batch.labels.shape[1] == 1
            fresh = self.sam2.condition_fresh(here)
            return self.sam2.decode(fresh, here, self.sparse(batch), multimask=multimask, hide_absent=False)
        conditioned = self.sam2.condition(here, t, prompted, tracked, frames)
        return self.sam2.decode(conditioned, here, self.sam2.no_points(len(here)), hide_absent=False)


def picture_maker(times: int = 1) -> Callable[[np.random.Generator], SamBatch]:
    """Batches of pictures alone: tracking is learnt only once pointing works."""
    return partial(make_sam_batch, Draw(8 * times))


def anything_maker(times: int = 1) -> Callable[[np.random.Generator], SamBatch]:
    """Batches of pictures and short clips of things that need not have a name."""

    def make(rng: np.random.Generator) -> SamBatch:
        clips = rng.random() < 0.4
        draw = Draw(3, int(rng.choice([3, 4, 5])), (1, 4), _ANYTHING) if clips else Draw(8, contents=_ANYTHING)
        return make_sam_batch(draw.times(times), rng)

    return make


def long_clip_maker(times: int = 1) -> Callable[[np.random.Generator], SamBatch]:
    """Batches of clips as long as those that people ask about: objects leave them, and memories are many."""

    def make(rng: np.random.Generator) -> SamBatch:
        contents = _ANYTHING if rng.random() < 0.25 else SHAPES_ONLY
        return make_sam_batch(Draw(2, 8, (1, 4), contents).times(times), rng)

    return make


def moment_maker(times: int = 1) -> Callable[[np.random.Generator], SamBatch]:
    """Batches of moments from clips, and of clips that begin at one: what is marked there may be half hidden."""

    def make(rng: np.random.Generator) -> SamBatch:
        contents = _ANYTHING if rng.random() < 0.2 else SHAPES_ONLY
        if rng.random() < 0.5:
            return make_sam_batch(Draw(8, 5, contents=contents).times(times), rng, 1)
        return make_sam_batch(Draw(2, 8, contents=contents).times(times), rng, int(rng.integers(3, 9)))

    return make


def clip_maker(times: int = 1) -> Callable[[np.random.Generator], SamBatch]:
    """Batches of short clips, and of pictures now and then."""

    def make(rng: np.random.Generator) -> SamBatch:
        clips = rng.random() < 0.7
        draw = Draw(3, int(rng.choice([3, 4, 5])), (1, 4)) if clips else Draw(8)
        return make_sam_batch(draw.times(times), rng)

    return make
