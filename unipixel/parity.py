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
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from unipixel.checkpoints import read_config, read_json
from unipixel.engine import UniPixel
from unipixel.grammar import CONTROL_PATTERN, IMAGE_PAD, VIDEO_PAD, parse_answer, segment_request
from unipixel.media import load_media
from unipixel.model.storage import compute_in_float32
from unipixel.model.tensors import memory_to_disk
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import load_model
from unipixel.processing import clip_inputs
from unipixel.replay import (
    Case,
    load_case,
    run_forward,
    run_generate,
    run_train,
    run_uncached,
    without_rotary_gradients,
)
from unipixel.types import Masklet, Masklets, Media, TextDelta

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
class Reference:
    """The checkpoint behind the cases, and the folder that everything lies in."""

    folder: Path
    network: UniPixelForConditionalGeneration

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.folder / "tiny")


def load_reference(folder: Path, dtype: torch.dtype = torch.float32) -> Reference:
    """Load the checkpoint of a parity folder, stored as `dtype`; ValueError if there is none."""
    config = read_config(folder / "tiny")
    numbers = folder / "sam2_tiny_config.json"
    if numbers.is_file():
        config.sam2_config = read_json(numbers)["sam2"]
    network = load_model(folder / "tiny", dtype, config)
    compute_in_float32(network)
    return Reference(folder, network)


def case_files(folder: Path) -> list[Path]:
    """The description of each case, in order of names; ValueError if there are none."""
    files = sorted(p for p in (folder / "cases").glob("*.json") if not p.name.endswith(".grads.json"))
    if not files:
        raise ValueError(f"{folder.name} holds no cases/*.json to compare with.")
    return files


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
    """Ask a plain question of the case through the engine: afresh, from its cache, streamed, and as a segmentation."""
    messages = case.about["messages"]
    question = messages[0]["content"][-1]["text"]
    if len(messages) > 1 or CONTROL_PATTERN.search(question):
        return
    engine, media = UniPixel(reference.network, reference.tokenizer, case.name), load_source(reference, case)
    limit = len(case.tensors["out.new_ids"])
    said = parse_answer(reference.tokenizer.decode(case.tensors["out.new_ids"])).text
    drawn = case.tensors.get("out.masks", torch.zeros(0, dtype=torch.bool))
    answers = {name: engine.ask(media, question, max_new_tokens=limit) for name in ("answer", "cached answer")}
    for name, answer in answers.items():
        yield from _compare_answer(case.name, name, answer.text, answer.masklets, said, drawn)
    events = list(engine.stream(media, question, max_new_tokens=limit))
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    masklets = {i: m for event in events if isinstance(event, Masklets) for i, m in event.masklets.items()}
    yield from _compare_answer(case.name, "streamed answer", text, masklets, said, drawn)
    if segment_request(question, media.is_image) == question:
        answer = engine.segment(media, question)  # may be longer than what was recorded
        masks = {i: answer.masklets[i] for i in list(answer.masklets)[: len(drawn)]}
        yield from _compare_answer(case.name, "segmented answer", answer.text[: len(said)], masks, said, drawn)


def _compare_answer(
    case: str, name: str, text: str, masklets: Mapping[int, Masklet], said: str, drawn: Tensor
) -> Iterator[Check]:
    yield Check(case, f"{name}.text", float(text != said), 0.0)
    masks = [torch.from_numpy(masklet.masks.copy()) for masklet in masklets.values()]
    yield compare(case, f"{name}.masks", torch.stack(masks) if masks else torch.zeros(0, dtype=torch.bool), drawn)


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
        again = run_uncached(network, case)
        for name in again.keys() & {"new_ids", "masks"}:
            yield compare(case.name, f"uncached.{name}", again[name], case.tensors[f"out.{name}"])
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
