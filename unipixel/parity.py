"""Compare this code with recorded inputs and outputs of the original: `python -m unipixel parity DIR [--json]`.

DIR holds a checkpoint (`tiny/`), the source pictures (`media/`) and `cases/`: for each case a JSON file (text and
messages) and a safetensors file (`in.*`, `out.*`). Where the checkpoint names a SAM 2 that is not known, its numbers
stand in `sam2_tiny_config.json`. Every recorded tensor is computed again and compared, and plain questions are asked
once more through the engine. Nothing here knows the checkpoint's sizes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sam2.modeling.sam import transformer as sam_attention
from torch import Tensor
from transformers import AutoTokenizer
from transformers.cache_utils import DynamicCache

from unipixel.checkpoints import read_config
from unipixel.engine import UniPixel
from unipixel.grammar import CONTROL_PATTERN, IMAGE_PAD, VIDEO_PAD, parse_answer
from unipixel.media import load_media
from unipixel.model.tensors import memory_to_disk
from unipixel.model.tracker import FramePrompt, track
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.vision import VisionFeatures
from unipixel.model.weights import load_model
from unipixel.processing import clip_inputs
from unipixel.train.items import Batch
from unipixel.train.joint import draw_objects, joint_losses, read_batch
from unipixel.types import Media

# Largest allowed difference of each recorded tensor; masks are compared by the share of pixels that differ.
TOLERANCES = {
    "logits_last": 2e-3,
    "first_step_logits": 2e-3,
    "step_logits_top2": 2e-3,
    "visual_embeds": 1e-4,
    "ref_embeds": 1e-4,
    "mem_embeds": 1e-4,
    "seg_tokens": 1e-4,
    "prenorm_hidden_at_seg": 1e-3,
    "lowres_logits": 5e-3,
    "mask_logits": 5e-3,
    "pred_masks": 5e-3,
    "ious": 1e-3,
    "object_score_logits": 5e-3,
    "masks": 5e-4,
    "pixel_values": 1e-5,
    "pixel_values_videos": 1e-5,
    "frames": 1e-5,
}
# These are compared relative to the recorded value.
RELATIVE = {
    **dict.fromkeys(("loss_mask", "loss_dice", "loss_iou", "loss_class", "core_loss", "seg_loss"), 1e-4),
    **dict.fromkeys(("lm_loss", "lm_loss_direct", "total_loss"), 1e-4),
}
GRADIENT_TOLERANCE = 5e-3  # of norms: float32 sums in another order


@dataclass(frozen=True)
class Check:
    """One compared tensor: `difference` is the largest absolute one, relative one, or share of unequal values."""

    case: str
    tensor: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed


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


@dataclass(frozen=True, eq=False)
class Reference:
    """The checkpoint behind the cases, and the folder that everything lies in."""

    folder: Path
    network: UniPixelForConditionalGeneration

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder / "tiny")


def load_reference(folder: Path) -> Reference:
    """Load the checkpoint of a parity folder; ValueError if there is none."""
    config = read_config(folder / "tiny")
    numbers = folder / "sam2_tiny_config.json"
    if numbers.is_file():
        config.sam2_config = json.loads(numbers.read_text())["sam2"]
    return Reference(folder, load_model(folder / "tiny", config=config))


def load_case(path: Path) -> Case:
    """Read the case that the JSON file `path` describes."""
    about = json.loads(path.read_text())
    tensors = load_file(path.with_suffix(".safetensors"))
    if shared := about.get("shared_inputs"):
        tensors |= load_file(path.parent / shared)
    recorded = path.with_suffix(".grads.json")
    gradients = json.loads(recorded.read_text())["grad_norms"] if recorded.is_file() else {}
    return Case(about, tensors, gradients)


def case_files(folder: Path) -> list[Path]:
    """The description of each case, in order of names; ValueError if there are none."""
    files = sorted(p for p in (folder / "cases").glob("*.json") if not p.name.endswith(".grads.json"))
    if not files:
        raise ValueError(f"{folder.name} holds no cases/*.json to compare with.")
    return files


# --------------------------------------------------------------------------------------------- running a case again


@dataclass(frozen=True, eq=False)
class Reading:
    """What the language model makes of a case's prompt: L token ids, L hidden states (1 x L x D), rotary positions."""

    ids: Tensor
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
    hidden = network.read(network.embed(ids, vision.tokens, refs, mems), positions, cache)
    return Reading(ids[0], hidden, positions, offsets, vision, refs, mems)


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
        state = network.read(network.embed(token), torch.full((3, 1, 1), position), cache)[:, -1]
    found = {
        "new_ids": torch.tensor(new),
        "output_ids": torch.cat([case.get("input_ids")[0], torch.tensor(new)])[None],
        "first_step_logits": steps[0],
        "step_logits_top2": torch.stack(steps).topk(2).values,
    }
    return found | (draw(network, case, network.point_out(torch.cat(states))) if states else {})


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


def load_source(reference: Reference, case: Case) -> Media:
    """The case's media; the network is told the pixel limits that its vision tower saw it with."""
    picture = case.picture
    config = reference.network.config
    config.min_pixels, config.max_pixels = picture["min_pixels"], picture["max_pixels"]
    sources = picture["video"] if picture["type"] == "video" else [picture["image"]]
    return load_media([reference.folder / source for source in sources])


def prepare(reference: Reference, case: Case) -> dict[str, Tensor]:
    """From the source pictures and the conversation's text to the network's inputs."""
    media, config = load_source(reference, case), reference.network.config
    inputs = clip_inputs(media, config)
    text, count = case.about["text"], inputs.num_tokens(config.vision.spatial_merge_size)
    for pad in (IMAGE_PAD, VIDEO_PAD):
        text = text.replace(pad, pad * count)
    name, grid = ("pixel_values_videos", "video") if case.picture["type"] == "video" else ("pixel_values", "image")
    return {
        "input_ids": torch.tensor([reference.tokenizer.encode(text, add_special_tokens=False)]),
        f"{grid}_grid_thw": inputs.grid_thw,
        name: inputs.pixels,
        "frames": inputs.frames,
    }


def ask_again(reference: Reference, case: Case) -> Iterator[Check]:
    """Ask a plain question of the case through the engine, twice: the second answer comes from its cache."""
    messages = case.about["messages"]
    question = messages[0]["content"][-1]["text"]
    if len(messages) > 1 or CONTROL_PATTERN.search(question):
        return
    engine, media = UniPixel(reference.network, reference.tokenizer, case.name), load_source(reference, case)
    limit = len(case.tensors["out.new_ids"])
    said = parse_answer(reference.tokenizer.decode(case.tensors["out.new_ids"])).text
    for name in ("answer", "cached answer"):
        answer = engine.ask(media, question, max_new_tokens=limit)
        yield Check(case.name, f"{name}.text", float(answer.text != said), 0.0)
        masks = [torch.from_numpy(masklet.masks.copy()) for masklet in answer.masklets.values()]
        if "out.masks" in case.tensors:
            ours = torch.stack(masks) if masks else torch.zeros(0)
            yield compare(case.name, f"{name}.masks", ours, case.tensors["out.masks"])


# -------------------------------------------------------------------------------------------------------- comparing


def compare(case: str, name: str, ours: Tensor, theirs: Tensor) -> Check:
    """Compare one tensor by its rule: ids exactly, masks by share, losses relatively, the rest absolutely."""
    tensor = name.split(".", 1)[1]
    allowed = TOLERANCES.get(tensor, RELATIVE.get(tensor, 0.0))
    if ours.shape != theirs.shape:
        return Check(case, name, float("inf"), allowed)
    if theirs.numel() == 0:
        return Check(case, name, 0.0, allowed)
    if not theirs.is_floating_point():
        share = (ours != theirs).double().mean()
        return Check(case, name, float(share), allowed)
    difference = (ours.double() - theirs.double()).abs()
    if tensor in RELATIVE:
        difference = difference / theirs.double().abs()
    worst = float(difference.max())
    return Check(case, name, worst if worst == worst else float("inf"), allowed)


def compare_case(reference: Reference, path: Path) -> Iterator[Check]:
    """Run one case again and compare every recorded tensor."""
    case, network = load_case(path), reference.network
    for name, ours in prepare(reference, case).items():
        yield compare(case.name, f"in.{name}", ours, case.get(name))
    kind = case.about["kind"]
    if kind == "forward":
        yield from _compare_outputs(case, run_forward(network, case))
    elif kind == "generate":
        yield from _compare_outputs(case, run_generate(network, case))
        yield from ask_again(reference, case)
    elif kind == "train":
        yield from compare_training(network, case)
    else:
        raise ValueError(f"{path.name} is a case of an unknown kind ({kind!r}).")


def _compare_outputs(case: Case, ours: Mapping[str, Tensor]) -> Iterator[Check]:
    for name, theirs in case.tensors.items():
        if name.startswith("out."):
            missing = theirs.new_zeros(0)
            yield compare(case.name, name, ours.get(name.removeprefix("out."), missing).detach(), theirs)


def compare_training(network: UniPixelForConditionalGeneration, case: Case) -> Iterator[Check]:
    """Losses, and the norm of every parameter's gradient (under the name that the original had in memory)."""
    network.requires_grad_(True)
    try:
        with without_rotary_gradients():
            found = run_train(network, case)
        yield from _compare_outputs(case, found)
        norms = {k: p.grad.norm() for k, p in network.named_parameters() if p.grad is not None}
    finally:
        network.requires_grad_(False)
        network.zero_grad(set_to_none=True)
    ours = {original_name(name): float(norm) for name, norm in norms.items()}
    for name, norm in case.gradients.items():
        if norm:
            # Where a gradient is zero but for rounding, its norm tells nothing.
            difference = abs(ours.get(name, float("inf")) - norm) / max(norm, 1e-2)
            yield Check(case.name, f"gradient of {name}", difference, GRADIENT_TOLERANCE)


def original_name(name: str) -> str:
    """A parameter's name in the original's memory: on disk but for the parts of Qwen2.5-VL."""
    return name if name.startswith("model.") else memory_to_disk(name)


def run(folder: Path) -> Iterator[Check]:
    """Compare all cases under `folder`."""
    files = case_files(folder)
    reference = load_reference(folder)
    for path in files:
        yield from compare_case(reference, path)


# ------------------------------------------------------------------------------------------------------ command line


def _report(check: Check) -> dict[str, Any]:
    difference = check.difference if check.difference != float("inf") else None
    return {**vars(check), "difference": difference, "passed": check.passed}


def main(argv: Sequence[str]) -> int:
    """`python -m unipixel parity DIR`: exit code 0 only if everything passes."""
    parser = argparse.ArgumentParser("unipixel parity", description="Compare with recorded runs of the original.")
    parser.add_argument("folder", type=Path, help="folder with tiny/, cases/ and media/")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    checks: list[Check] = []
    for check in run(args.folder):
        checks.append(check)
        if not args.json:
            print(_line(check), flush=True)
    failed = sum(not check.passed for check in checks)
    if args.json:
        print(json.dumps({"passed": not failed, "checks": [_report(check) for check in checks]}, indent=2))
    else:
        print(f"{len(checks) - failed} of {len(checks)} pass.")
    return 1 if failed else 0


def _line(check: Check) -> str:
    verdict = "pass" if check.passed else "FAIL"
    return f"{verdict}  {check.case:32} {check.tensor:60} {check.difference:9.2e}  (allowed {check.allowed:.0e})"
