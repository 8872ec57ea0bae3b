"""Training: a killed run goes on as if nothing had happened, and the whole nano run works end to end in small."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unipixel.data.world import draw_scene
from unipixel.engine import UniPixel, find_checkpoint
from unipixel.eval.world import scene_media
from unipixel.train import nano
from unipixel.train.loop import Schedule, train
from unipixel.train.sam import SamBatch, make_sam_batch
from unipixel.train.scenes import Draw, batches, square_scene


class Line(nn.Module):
    """A model that learns y = w x + b, and a matrix in a block that tries to be zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.frozen = nn.Linear(3, 1), nn.Linear(1, 1)
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])

    def forward(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = (self.line(batch).float() - batch.sum(-1, keepdim=True)).pow(2).mean()
        loss = loss + self.blocks[0](torch.ones(4)).float().pow(2).mean()
        return loss, {"loss": float(loss.detach())}


def numbers(step: int) -> Iterator[Tensor]:
    while True:
        yield torch.from_numpy(np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32))
        step += 1


def learns(name: str) -> float:
    return float(not name.startswith("frozen"))


def run(folder: Path, steps: int, save_every: int = 2, muon: bool = False) -> Line:
    model = Line()
    train(model, numbers, Schedule(steps, 1e-2, warmup=2, save_every=save_every, muon=muon), folder, learns)
    return model


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, muon: bool) -> None:
    whole = run(tmp_path / "whole", 8, muon=muon)
    model = Line()
    schedule = Schedule(8, 1e-2, warmup=2, save_every=2, muon=muon)
    train(model, numbers, schedule, tmp_path / "cut", learns, hours=0.0)  # stops after one step
    resumed = Line()
    assert train(resumed, numbers, schedule, tmp_path / "cut", learns)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_muon_moves_the_matrices_of_blocks_and_adamw_all_else(tmp_path: Path) -> None:
    start, (plain, muon) = Line(), (run(tmp_path / str(kind), 1, muon=kind) for kind in (False, True))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, muon.state_dict()[name]) == (name != "blocks.0.weight"), name
    moved = muon.blocks[0].weight - start.blocks[0].weight
    assert float(moved.detach().abs().max()) > 0


def test_frozen_parts_stay_as_they_are(tmp_path: Path) -> None:
    before = Line().frozen.weight.clone()
    after = run(tmp_path, 5)
    assert torch.equal(before, after.frozen.weight)
    assert not torch.equal(Line().line.weight, after.line.weight)


def test_a_resumed_run_leaves_frozen_parts_to_others(tmp_path: Path) -> None:
    """Stages run side by side: what another one has taught the frozen parts meanwhile is not taken back."""
    schedule = Schedule(4, 1e-2, warmup=2, save_every=2)
    train(Line(), numbers, schedule, tmp_path, learns, hours=0.0)  # stops after one step
    resumed = Line()
    nn.init.constant_(resumed.frozen.weight, 7.0)
    assert train(resumed, numbers, schedule, tmp_path, learns)
    assert float(resumed.frozen.weight.detach()) == 7.0


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 2)
    with pytest.raises(ValueError, match=r"another network: it has '\w+\.[\w.]+'"):
        train(nn.Linear(3, 1), numbers, Schedule(4, 1e-2), tmp_path)


def test_batch_n_depends_on_seed_and_n_alone() -> None:
    make = partial(make_sam_batch, Draw(1))
    first = batches(make, 3, 0, workers=0)
    next(first)
    second, again = next(first), next(batches(make, 3, 1, workers=0))
    assert torch.equal(second.frames, again.frames)
    assert torch.equal(second.coords, again.coords)


def test_moments_begin_anywhere_in_a_clip_and_last_as_long_as_asked() -> None:
    """What is marked there may be half hidden, which at the beginning of a clip nothing is."""
    whole, hidden = Draw(2, 8, (4, 5)), 0
    for seed in range(12):
        batch = make_sam_batch(whole, np.random.default_rng(seed), kept=3)
        assert batch.masks.shape[1] == len(batch.frames) // 2 == 3
        areas = batch.masks.flatten(2).sum(2)
        hidden += int((2 * areas[:, 0] < areas.max(1).values).sum())
        assert (areas[:, 0] >= 60).all()
    assert hidden


def test_batches_come_after_opencv_has_used_its_threads() -> None:
    """A forked worker that ends threads it does not have waits for ever."""
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)
    drawn = queue.Queue[SamBatch]()
    make = partial(make_sam_batch, Draw(1))
    threading.Thread(target=lambda: drawn.put(next(batches(make, 0))), daemon=True).start()
    assert len(drawn.get(timeout=60).frames)


def test_squashed_scenes_keep_their_masks_on_their_objects() -> None:
    for seed in range(12):
        scene = square_scene(np.random.default_rng(seed), Draw(1, objects=(1, 3)))
        assert scene.frames.shape[1:3] == scene.masks.shape[2:] == (256, 256)
        assert (scene.masks.sum((1, 2, 3)) > 0).all()


@pytest.mark.slow
def test_nano_trains_from_nothing_end_to_end(tmp_path: Path) -> None:
    """A run of a few steps a stage, stopped and continued; what comes out loads and answers."""
    out = tmp_path / "nano"
    assert not nano.train_nano(tmp_path / "runs", out, nano.Run(scale=0.001), hours=0.0)
    assert nano.train_nano(tmp_path / "runs", out, nano.Run(scale=0.001))
    scene = draw_scene(np.random.default_rng(0))
    answer = UniPixel.from_pretrained(str(out)).ask(scene_media(scene), "What is in the picture?", max_new_tokens=4)
    assert isinstance(answer.text, str)
    assert (out / "receipts.json").is_file()


@pytest.mark.slow
def test_stages_of_different_parts_may_run_apart(tmp_path: Path) -> None:
    """Seeing before pointing, or the other way round, gives the same network to the bit."""
    small = nano.Run(scale=0.0005)
    order = (("see", "discern"), ("point", "track"))
    for name, groups in (("there", order), ("back", order[::-1])):
        for stages in groups:
            assert nano.train_nano(tmp_path / name, tmp_path / f"{name}-out", small, stages=stages)
    there, back = (load_file(tmp_path / f"{name}-out" / "model.safetensors") for name in ("there", "back"))
    assert all(torch.equal(value, back[key]) for key, value in there.items())


def test_a_run_from_a_checkpoint_keeps_its_receipts(tmp_path: Path) -> None:
    nano.start_from(find_checkpoint("nano"), tmp_path / "runs")
    assert nano.train_nano(tmp_path / "runs", tmp_path / "out", nano.Run(scale=0.0005), stages=["see"])
    before = json.loads((find_checkpoint("nano") / "receipts.json").read_text())
    after = json.loads((tmp_path / "out" / "receipts.json").read_text())
    assert after[:-1] == before
    assert after[-1]["stage"] == "see"
    assert nano.train_nano(tmp_path / "runs", tmp_path / "again", nano.Run(scale=0.0005), stages=["see"])
    learnt, again = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert all(torch.equal(value, again[key]) for key, value in learnt.items())
