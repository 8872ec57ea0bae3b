"""The original's recorded runs, computed again; and the comparison itself, on a checkpoint made here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import TOKENIZER_FOLDER, clip, control_tokens, random_network, tiny_config, tiny_sam2_numbers, tiny_tokenizer
from torch import Tensor

from unipixel import cli, parity, replay
from unipixel.eval.metrics import iou
from unipixel.grammar import REF_TOKEN, SEG_TOKEN, render_conversation
from unipixel.media import write_png
from unipixel.model.weights import save_model

RECORDED = SHARED / "parity"


@cache
def reference() -> parity.Reference:
    return parity.load_reference(RECORDED)


def recorded_cases() -> list[Any]:
    """The recorded cases, by name."""
    if not RECORDED.is_dir():
        reason = "needs the recorded runs of the original beside the repository"
        return [pytest.param(Path("none"), marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=path.stem) for path in parity.case_files(RECORDED)]


@pytest.mark.parametrize("path", recorded_cases())
def test_the_original_is_reproduced(path: Path) -> None:
    checks = list(parity.compare_case(reference(), path))
    assert [c for c in checks if not c.passed] == []
    recorded = {name for name in load_file(path.with_suffix(".safetensors")) if name.startswith("out.")}
    assert recorded <= {check.tensor for check in checks}, "nothing recorded is left out"


@cache
def half_reference() -> parity.Reference:
    return parity.load_reference(RECORDED, torch.bfloat16)


@pytest.mark.parametrize("path", recorded_cases())
def test_16_bits_draw_the_same_masks(path: Path) -> None:
    """On a CPU bfloat16 stores the weights, which are exact in it; what is computed with them keeps every mask."""
    case, network = replay.load_case(path), half_reference().network
    assert network.model.language_model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    if case.about["kind"] == "train":
        pytest.skip("a training case has no masks")
    run = replay.run_forward if case.about["kind"] == "forward" else replay.run_uncached
    found, recorded = run(network, case), case.tensors.get("out.masks")
    assert recorded is None or min(map(iou, found["masks"].numpy(), recorded.numpy())) >= 0.99
    assert recorded is not None or "masks" not in found


# ------------------------------------------------------------------------------------------------ a folder made here


@dataclass(frozen=True)
class Made:
    """A case to record: a question, and an answer where the whole conversation is read."""

    name: str
    kind: str
    frames: int
    question: str
    answer: str = ""
    marks: Sequence[tuple[Tensor, Tensor]] = ()


POINT = (torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]], dtype=torch.int32))
BOX = (torch.tensor([[[5.0, 6.0], [40.0, 50.0]]]), torch.tensor([[2, 3]], dtype=torch.int32))
MADE = (
    Made("forward_marks", "forward", 3, f"Compare {REF_TOKEN} with {REF_TOKEN}.", f"It is {SEG_TOKEN}.", (POINT, BOX)),
    Made("generate_picture", "generate", 1, "What is there?"),
    Made("train_two", "train", 2, "Segment both.", f"{SEG_TOKEN} and {SEG_TOKEN}"),
)


@dataclass(frozen=True)
class Shape:
    """The numbers of a made checkpoint and the size of its pictures."""

    tied: bool = False
    sam_side: int = 64
    layers: int = 2
    frame_size: tuple[int, int] = (120, 160)
    mem_feature_order: str = "window"


SHAPES = {
    "untied": Shape(),
    "tied, deeper, wide pictures": Shape(True, 96, 3, (75, 133)),
    "tall pictures, right order": Shape(False, 128, 2, (140, 61), "raster"),
}


def write_checkpoint(folder: Path, shape: Shape) -> None:
    """A tiny checkpoint with other widths and depths than the recorded one, and SAM 2's numbers beside it."""
    tokenizer = tiny_tokenizer()
    ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in control_tokens()}
    config = tiny_config(
        len(tokenizer), ids, tied=shape.tied, square_side=None, mem_feature_order=shape.mem_feature_order
    )
    config.text.num_hidden_layers = shape.layers
    config.text.layer_types = ["full_attention"] * shape.layers
    config.sam2_image_size = shape.sam_side
    save_model(random_network(config, seed=3), folder / "tiny", torch.float32)
    values = json.loads((folder / "tiny" / "config.json").read_text())
    values["sam2_config"] = "configs/nobody_knows"
    (folder / "tiny" / "config.json").write_text(json.dumps(values))
    (folder / "sam2_tiny_config.json").write_text(json.dumps({"sam2": tiny_sam2_numbers()}))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER_FOLDER / file, folder / "tiny")


def describe(made: Made, frame_size: tuple[int, int]) -> dict[str, Any]:
    """The JSON side of a case."""
    text = render_conversation(made.question) + made.answer
    video = {"type": "video", "video": [f"media/{t}.png" for t in range(made.frames)]}
    limits = {"min_pixels": 4 * 28 * 28, "max_pixels": 30 * 28 * 28}
    user = {"role": "user", "content": [{**video, **limits}, {"type": "text", "text": made.question}]}
    messages = [user, {"role": "assistant", "content": made.answer}] if made.answer else [user]
    return {
        "name": made.name,
        "kind": made.kind,
        "frame_size": list(frame_size),
        "text": text,
        "messages": messages,
    }


def made_inputs(reference: parity.Reference, made: Made, about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The `in.*` tensors of a case."""
    inputs = parity.prepare(reference, replay.Case(about, {}, {}))
    for i, (coords, labels) in enumerate(made.marks):
        inputs |= {f"point_coords.{i}": coords, f"point_labels.{i}": labels}
    if made.marks:
        inputs["point_frames.0"] = torch.arange(len(made.marks))
    if made.kind == "train":
        side = reference.network.config.sam2_image_size
        truth = torch.zeros(made.frames, 2, side, side, dtype=torch.bool)
        truth[:, 0, 10:40, 10:40] = truth[:, 1, 30:50, 5:30] = True
        inputs |= {"labels": inputs["input_ids"].clone(), "label_mask": truth}
    return {f"in.{name}": tensor for name, tensor in inputs.items()}


def record(reference: parity.Reference, made: Made, frame_size: tuple[int, int]) -> None:
    """Write a case whose outputs are what this code says today."""
    about = describe(made, frame_size)
    tensors = made_inputs(reference, made, about)
    if made.kind == "generate":
        tensors["out.new_ids"] = torch.zeros(8, dtype=torch.long)
    runs = {"forward": replay.run_forward, "generate": replay.run_generate, "train": replay.run_train}
    found = runs[made.kind](reference.network.requires_grad_(made.kind == "train"), replay.Case(about, tensors, {}))
    reference.network.requires_grad_(False)
    tensors |= {f"out.{name}": tensor.detach().clone() for name, tensor in found.items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, reference.folder / "cases" / f"{made.name}.safetensors")
    (reference.folder / "cases" / f"{made.name}.json").write_text(json.dumps(about))


def make_folder(folder: Path, shape: Shape) -> Path:
    (folder / "media").mkdir()
    (folder / "cases").mkdir()
    height, width = shape.frame_size
    for t, frame in enumerate(clip(3).frames):
        write_png(np.asarray(Image.fromarray(frame).resize((width, height))), folder / "media" / f"{t}.png")
    write_checkpoint(folder, shape)
    reference = parity.load_reference(folder)
    for made in MADE:
        record(reference, made, shape.frame_size)
    return folder


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("parity"), SHAPES["untied"])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_folder_of_another_checkpoint_passes(
    shape: Shape, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path, shape)
    assert cli.main(["parity", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert {check["case"] for check in report["checks"]} == {made.name for made in MADE}
    names = {check["tensor"] for check in report["checks"]}
    assert {"cached answer.text", "streamed answer.text", "uncached.new_ids"} <= names


@pytest.mark.parametrize(
    "name, tensor, change",
    [
        ("forward_marks", "out.logits_last", 0.01),
        ("forward_marks", "out.seg_tokens", 0.001),
        ("forward_marks", "in.frames", 0.001),
        ("generate_picture", "out.new_ids", 1),
        ("train_two", "out.loss_dice", 0.01),
    ],
)
def test_a_difference_is_found_and_named(
    made_folder: Path, tmp_path: Path, name: str, tensor: str, change: float, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(made_folder, folder)
    for case in (folder / "cases").glob("*.json"):
        if case.stem != name:
            case.unlink()
    file = folder / "cases" / f"{name}.safetensors"
    tensors = load_file(file)
    tensors[tensor] = tensors[tensor] + change
    save_file(tensors, file)
    assert cli.main(["parity", str(folder)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert any(tensor in line for line in failed)


def test_tensors_of_another_shape_or_not_numbers_fail() -> None:
    right = torch.ones(2, 3)
    assert parity.compare("case", "out.ious", right, right).passed
    assert not parity.compare("case", "out.ious", right[:1], right).passed
    assert not parity.compare("case", "out.ious", right * float("nan"), right).passed


def test_a_folder_without_cases_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["parity", str(tmp_path)]) == 2
    assert "cases" in capsys.readouterr().err


def test_gradients_flow_through_the_rotary_encoding(made_folder: Path) -> None:
    """The original cuts them by accident; only the comparison does."""
    network = parity.load_reference(made_folder).network.requires_grad_(True)
    case = replay.load_case(made_folder / "cases" / "train_two.json")
    weight = network.sam2.memory_attention.layers[0].cross_attn_image.q_proj.weight
    with replay.without_rotary_gradients():
        replay.run_train(network, case)
    assert weight.grad is None
    replay.run_train(network, case)
    assert weight.grad is not None
    assert weight.grad.norm() > 0
