"""A recorded run of the original, run again: its inputs through the network's verbs, to every recorded tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sam2.modeling.sam import transformer as sam_attention
from torch import Tensor
from transformers.cache_utils import DynamicCache

from unipixel.model.tracker import FramePrompt, track
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.vision import VisionFeatures
from unipixel.train.items import Batch
from unipixel.train.joint import draw_objects, joint_losses, read_batch


@dataclass(frozen=True, eq=False)
class Case:
    """One recorded run of the original: its description, and its tensors by name (`in.*` and `out.*`)."""

    about: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    gradients: Mapping[str, float | None]

    @property
    def name(self) -> str:
        return self.about["name"]

    @property
    def picture(self) -> Mapping[str, Any]:
        """What the first message shows: files, and the pixel limits of the vision tower."""
        content = self.about["messages"][0]["content"]
        return next(part for part in content if part["type"] in ("image", "video"))

    def get(self, *names: str) -> Tensor:
        """The first of these inputs that is there."""
        return next(self.tensors[f"in.{name}"] for name in names if f"in.{name}" in self.tensors)

    def marks(self) -> list[tuple[Tensor, Tensor]]:
        """Coordinates and labels of each point or box, in SAM's input."""
        count = sum(name.startswith("in.point_coords.") for name in self.tensors)
        return [(self.get(f"point_coords.{i}")[0], self.get(f"point_labels.{i}")[0]) for i in range(count)]

    def moments(self, temporal_patches: int) -> Tensor:
        """When each mark was made, in 0..1."""
        return self.get("point_frames.0").float() / max(2 * temporal_patches - 1, 1)


def load_case(path: Path) -> Case:
    """Read the case that the JSON file `path` describes."""
    about = json.loads(path.read_text())
    tensors = load_file(path.with_suffix(".safetensors"))
    if shared := about.get("shared_inputs"):
        tensors |= load_file(path.parent / shared)
    recorded = path.with_suffix(".grads.json")
    gradients = json.loads(recorded.read_text())["grad_norms"] if recorded.is_file() else {}
    return Case(about, tensors, gradients)


@dataclass(frozen=True, eq=False)
class Reading:
    """What the language model makes of a case's prompt: L token ids, embeddings and hidden states (1 x L x D each),
    rotary positions."""

    ids: Tensor
    embeds: Tensor
    hidden: Tensor
    positions: Tensor
    offsets: Tensor
    vision: VisionFeatures
    refs: Tensor | None
    mems: Tensor | None


def read_case(network: UniPixelForConditionalGeneration, case: Case, cache: DynamicCache | None = None) -> Reading:
    """Encode the case's clip and marks and read its tokens."""
    ids, grid = case.get("input_ids"), case.get("video_grid_thw", "image_grid_thw")
    # A picture reads the same as a clip of one frame.
    ids = torch.where(ids == network.config.image_token_id, network.config.video_token_id, ids)
    (vision,) = network.encode_vision(case.get("pixel_values_videos", "pixel_values"), grid)
    refs = mems = None
    if marks := case.marks():
        coords, labels = zip(*marks)
        refs = network.encode_prompts(coords, labels, case.moments(int(grid[0, 0])))
    if "in.refer_mask" in case.tensors:
        mems = network.encode_regions(vision, case.get("refer_mask").transpose(0, 1))
    positions, offsets = network.positions(ids, grid, case.tensors.get("in.second_per_grid_ts"))
    embeds = network.embed(ids, vision.tokens, refs, mems)
    hidden = network.read(embeds, positions, cache)
    return Reading(ids[0], embeds, hidden, positions, offsets, vision, refs, mems)


def draw(network: UniPixelForConditionalGeneration, case: Case, tokens: Tensor) -> dict[str, Tensor]:
    """Masks of N objects with prompt tokens N x K x C, through the whole clip."""
    sam2, count = network.sam2, len(tokens)
    features = sam2.encode_frames(case.get("frames"))
    prompt = FramePrompt(sparse=torch.cat([sam2.no_points(count), tokens], 1))
    found = [p for _, p in track(sam2, lambda t: features.at([t]), len(features), {0: prompt})]
    low = torch.cat([p.logits for p in found], 1)
    full = F.interpolate(low, tuple(case.about["frame_size"]), mode="bilinear", align_corners=False)
    return {
        "lowres_logits": low,
        "mask_logits": full,
        "masks": full > 0,
        "ious": torch.stack([p.ious for p in found], 1),
        "object_score_logits": torch.cat([p.object_logits for p in found], 1),
    }


def seg_places(network: UniPixelForConditionalGeneration, ids: Tensor) -> Tensor:
    """Where the `<|seg|>` tokens stand."""
    return torch.where(ids == network.config.seg_token_id)[0]


@torch.inference_mode()
def run_forward(network: UniPixelForConditionalGeneration, case: Case) -> dict[str, Tensor]:
    """One pass over a whole conversation, and the masks of its `<|seg|>` tokens."""
    reading = read_case(network, case)
    logits = network.predict(reading.hidden)[0]
    places = seg_places(network, reading.ids) - 1  # the positions that predict the token
    states = reading.hidden[0, places]
    tokens = network.point_out(states)
    found = {
        "visual_embeds": reading.vision.tokens,
        "position_ids": reading.positions,
        "rope_deltas": reading.offsets,
        "logits_last": logits[-1],
        "logits_argmax_all": logits.argmax(-1),
        "seg_pos": places,
        "prenorm_hidden_at_seg": states,
        "seg_tokens": tokens,
        **draw(network, case, tokens),
    }
    for name, rows, token_id in (
        ("ref", reading.refs, network.config.ref_token_id),
        ("mem", reading.mems, network.config.mem_token_id),
    ):
        if rows is not None:
            found |= {f"{name}_embeds": rows, f"{name}_pos": torch.where(reading.ids == token_id)[0]}
    return found


@torch.inference_mode()
def run_generate(network: UniPixelForConditionalGeneration, case: Case) -> dict[str, Tensor]:
    """Greedy decoding of as many tokens as were recorded; masks of the prompt's `<|seg|>`, then of the new ones."""
    cache = DynamicCache()
    reading = read_case(network, case, cache)
    states = [reading.hidden[:, place - 1] for place in seg_places(network, reading.ids)]
    state, position = reading.hidden[:, -1], int(reading.positions.max())
    new: list[int] = []
    steps: list[Tensor] = []
    for _ in range(len(case.tensors["out.new_ids"])):
        steps.append(network.predict(state)[0])
        new.append(int(steps[-1].argmax()))
        if new[-1] == network.config.seg_token_id:
            states.append(state)
        position += 1
        token = torch.tensor([new[-1:]])
        state = network.read(network.embed_words(token), torch.full((3, 1, 1), position), cache)[:, -1]
    found = {
        "new_ids": torch.tensor(new),
        "output_ids": torch.cat([case.get("input_ids")[0], torch.tensor(new)])[None],
        "first_step_logits": steps[0],
        "step_logits_top2": torch.stack(steps).topk(2).values,
    }
    return found | (draw(network, case, network.point_out(torch.cat(states))) if states else {})


@torch.inference_mode()
def run_uncached(network: UniPixelForConditionalGeneration, case: Case) -> dict[str, Tensor]:
    """The recorded answer read in one pass and without a cache: the tokens that are wanted at its places, its masks."""
    reading, new = read_case(network, case), case.tensors["out.new_ids"]
    later = int(reading.positions.max()) + torch.arange(1, len(new))
    positions = torch.cat([reading.positions, later.expand(3, 1, -1)], -1)
    hidden = network.read(torch.cat([reading.embeds, network.embed_words(new[None, :-1])], 1), positions)[0]
    found = {"new_ids": network.predict(hidden[len(reading.ids) - 1 :]).argmax(-1)}
    places = seg_places(network, torch.cat([reading.ids, new])) - 1
    return found | (draw(network, case, network.point_out(hidden[places])) if len(places) else {})


def training_batch(network: UniPixelForConditionalGeneration, case: Case) -> Batch:
    """The case as training sees it: one media, one sequence."""
    ids, grid = case.get("input_ids"), case.get("video_grid_thw", "image_grid_thw")
    ids = torch.where(ids == network.config.image_token_id, network.config.video_token_id, ids)
    objects = case.get("label_mask").transpose(0, 1)
    marks = case.marks()
    regions = [(0, case.get("refer_mask").transpose(0, 1))] if "in.refer_mask" in case.tensors else []
    return Batch(
        pixels=case.get("pixel_values_videos", "pixel_values"),
        grid_thw=grid,
        clips=[case.get("frames")],
        media_of=[0],
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=case.get("labels"),
        refs=marks,
        moments=case.moments(int(grid[0, 0])) if marks else torch.zeros(0),
        regions=regions,
        seg_places=[(0, int(place)) for place in seg_places(network, ids[0])],
        seg_frames=[0] * len(objects),
        targets=list(objects),
    )


def run_train(network: UniPixelForConditionalGeneration, case: Case) -> dict[str, Tensor]:
    """The training loss with its parts, as training computes it; gradients are left on the parameters."""
    batch = training_batch(network, case)
    hidden = read_batch(network, batch)
    drawn = list(draw_objects(network, batch, hidden))
    losses = joint_losses(network, batch, hidden, drawn)
    losses.total.backward()
    predictions = [prediction for group in drawn for _, prediction in sorted(group.predictions.items())]
    return {
        "loss_mask": losses.mask,
        "loss_dice": losses.dice,
        "loss_iou": losses.iou,
        "loss_class": losses.object,
        "core_loss": losses.masks * len(predictions),
        "seg_loss": losses.masks,
        "lm_loss": losses.words,
        "lm_loss_direct": losses.words,
        "total_loss": losses.total,
        "logits_last": network.predict(hidden)[0, -1],
        "pred_masks": torch.stack([p.logits for p in predictions]),
        "ious": torch.stack([p.ious for p in predictions]),
        "object_score_logits": torch.stack([p.object_logits for p in predictions]),
    }


@contextmanager
def without_rotary_gradients() -> Iterator[None]:
    """Cut gradients inside SAM 2's rotary encoding, as the original does by accident (ours lets them through)."""
    encode = sam_attention.apply_rotary_enc

    def cut(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return encode(*args, **kwargs)

    sam_attention.apply_rotary_enc = cut
    try:
        yield
    finally:
        sam_attention.apply_rotary_enc = encode
