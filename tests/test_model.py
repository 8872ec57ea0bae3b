"""Properties of the network, its inputs, its losses and its checkpoints, on a tiny random one (see `tiny.py`)."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tiny import SAM_SIDE, clip, tiny_config, tiny_network, tiny_sam2_numbers
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed, Qwen2_5_VLVisionAttention

from unipixel.config import UniPixelConfig
from unipixel.eval.metrics import boundary_f, cumulative_iou, iou, j_and_f
from unipixel.model.prompt_encoder import pool_regions
from unipixel.model.sam2 import FrameFeatures, build_sam2, read_sam2_numbers
from unipixel.model.tracker import FramePrompt, track
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.vision import FlatPatchEmbed, PackedVisionAttention
from unipixel.processing import (
    clip_inputs,
    patchify,
    pool_to_token_grid,
    resize_for_vision,
    to_tensor,
    vision_inputs,
    vision_size,
)
from unipixel.train.losses import WEIGHTS, dice, focal, mask_iou, mask_losses

MEDIA = clip()


@pytest.fixture(scope="module")
def network() -> UniPixelForConditionalGeneration:
    return tiny_network()


@pytest.fixture(scope="module")
def frames(network: UniPixelForConditionalGeneration) -> FrameFeatures:
    """SAM 2's features of the clip."""
    with torch.inference_mode():
        return network.sam2.encode_frames(clip_inputs(MEDIA, network.config).frames)


# ------------------------------------------------------------------------------------------------------- the inputs


def library_patches(frames: np.ndarray, config: UniPixelConfig) -> tuple[Tensor, Tensor]:
    """What transformers' own processor makes of pictures T x H x W x 3 that already have the right size."""
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    vision = config.vision
    processor = module.Qwen2VLImageProcessorPil(
        do_resize=False, patch_size=vision.patch_size, merge_size=vision.spatial_merge_size
    )
    out = processor(list(frames), return_tensors="pt")
    return out["pixel_values"], out["image_grid_thw"]


def test_patches_are_those_of_the_library(network: UniPixelForConditionalGeneration) -> None:
    size = network.config.square_side
    assert size is not None
    still = resize_for_vision(to_tensor(MEDIA.frames[:1]), size, size).permute(0, 2, 3, 1).numpy()
    ours, grid = vision_inputs(to_tensor(still), network.config)
    theirs, their_grid = library_patches(still, network.config)
    assert grid.tolist() == their_grid.tolist()
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_patches_hold_every_pixel_once() -> None:
    pictures = torch.arange(3 * 3 * 56 * 84).float().view(3, 3, 56, 84)
    patches, grid = patchify(pictures)
    assert grid.tolist() == [[2, 4, 6]]
    assert patches.shape == (48, 3 * 2 * 14 * 14)
    counts = torch.bincount(patches.flatten().long(), minlength=pictures.numel())
    assert (counts[: 2 * 3 * 56 * 84] == 1).all()
    assert (counts[2 * 3 * 56 * 84 :] == 2).all(), "the odd last frame is doubled"
    first = patches[0].view(3, 2, 14, 14)
    assert torch.equal(first, pictures[:2, :, :14, :14].transpose(0, 1))


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_pictures_fit_the_pixel_limits(height: int, width: int) -> None:
    config = UniPixelConfig(sam2_config=tiny_sam2_numbers())
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(ValueError, match="too long and thin"):
            vision_size(height, width, config)
        return
    h, w = vision_size(height, width, config)
    assert h % 28 == w % 28 == 0
    assert h >= 28
    assert w >= 28
    # One side of 28 pixels can be forced by a very long picture, which then is over the limit.
    assert min(h, w) == 28 or config.min_pixels * 0.5 <= h * w <= config.max_pixels


def masks_and_grid(seed: int, frames: int) -> tuple[np.ndarray, Tensor]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, frames, 60, 100), bool)
    for n in range(2):
        y, x, size = rng.integers(0, 40), rng.integers(0, 70), rng.integers(1, 30)
        masks[n, : rng.integers(1, frames + 1), y : y + size, x : x + size] = True
    return masks, torch.tensor([[(frames + 1) // 2, 10, 14]])


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_regions_pool_to_tokens_where_they_are_visible(seed: int, frames: int) -> None:
    masks, grid = masks_and_grid(seed, frames)
    tokens = pool_to_token_grid(masks, grid)
    assert tokens.shape == (3, (frames + 1) // 2, 5, 7)
    padded = np.concatenate([masks, masks[:, -1:]], 1)[:, : 2 * tokens.shape[1]]
    visible = padded.reshape(3, -1, 2, 60, 100).any((2, 3, 4))
    assert np.array_equal(tokens.flatten(2).any(-1).numpy(), visible), "one <|mem|> a visible patch, none elsewhere"


def test_regions_pool_the_tokens_they_cover() -> None:
    grid = torch.tensor([[1, 10, 14]])
    whole = np.ones((1, 2, 60, 100), bool)
    assert pool_to_token_grid(whole, grid).all()
    cell = np.zeros((1, 1, 60, 70), bool)
    cell[..., 12:24, 20:30] = True
    assert pool_to_token_grid(cell, grid).nonzero().tolist() == [[0, 0, 1, 2]]
    dot = np.zeros((1, 1, 60, 70), bool)
    dot[..., 59, 69] = True
    assert pool_to_token_grid(dot, grid).nonzero().tolist() == [[0, 0, 4, 6]]


def test_pooled_regions_are_means() -> None:
    patches = torch.arange(2 * 2 * 3 * 4.0).view(12, 4)
    masks = torch.zeros(2, 2, 2, 3, dtype=torch.bool)
    masks[0, 1, 0, :2] = True
    masks[1, 0, 1, 2] = True
    masks[1, 1, 0, 0] = True
    pooled = pool_regions(patches, masks)
    assert torch.equal(pooled, torch.stack([patches[6:8].mean(0), patches[5], patches[6]]))
    assert pool_regions(patches, masks[:0]).shape == (0, 4)


# ----------------------------------------------------------------------------------------------------- vision tower


@pytest.mark.parametrize("grid", [[[1, 10, 10]], [[2, 10, 6]], [[1, 8, 8]], [[3, 4, 18], [1, 10, 2]]], ids=str)
def test_the_faster_vision_tower_equals_the_librarys(
    network: UniPixelForConditionalGeneration, monkeypatch: pytest.MonkeyPatch, grid: list[list[int]]
) -> None:
    sizes = torch.tensor(grid)
    pixels = torch.randn(int(sizes.prod(1).sum()), 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        packed = network.encode_vision(pixels, sizes)
        monkeypatch.setattr(PackedVisionAttention, "forward", Qwen2_5_VLVisionAttention.forward)
        monkeypatch.setattr(FlatPatchEmbed, "forward", Qwen2_5_VisionPatchEmbed.forward)
        plain = network.encode_vision(pixels, sizes)
    for ours, theirs in zip(packed, plain, strict=True):
        assert torch.allclose(ours.tokens, theirs.tokens, atol=1e-5)
        assert torch.allclose(ours.patches, theirs.patches, atol=1e-5)


def test_region_features_keep_the_order_of_the_picture(network: UniPixelForConditionalGeneration) -> None:
    """In raster order the merger maps each region feature to the token at its place; in window order it does not."""
    pixels, grid = vision_inputs(to_tensor(MEDIA.frames), network.config)
    with torch.inference_mode():
        (raster,) = network.encode_vision(pixels, grid)
        assert torch.allclose(network.model.visual.merger.mlp(raster.patches), raster.tokens, atol=1e-5)
        network.config.mem_feature_order = "window"
        try:
            (window,) = network.encode_vision(pixels, grid)
        finally:
            network.config.mem_feature_order = "raster"
    assert not torch.allclose(window.patches, raster.patches)
    assert torch.allclose(window.patches.sum(0), raster.patches.sum(0), atol=1e-3)


# --------------------------------------------------------------------------------------------------- language model


def test_embed_refuses_counts_that_do_not_match(network: UniPixelForConditionalGeneration) -> None:
    config = network.config
    rows = torch.zeros(2, config.text.hidden_size)
    ids = torch.tensor([[5, config.ref_token_id, config.mem_token_id, config.mem_token_id]])
    assert network.embed(ids, None, rows[:1], rows).shape == (1, 4, 64)
    with pytest.raises(ValueError, match="1 places for 2 point and box prompts"):
        network.embed(ids, None, rows, rows)
    with pytest.raises(ValueError, match="2 places for 0 region embeddings"):
        network.embed(ids, None, rows[:1])
    with pytest.raises(ValueError, match="0 places for 2 vision tokens"):
        network.embed(ids, rows, rows[:1], rows)


def test_prompts_tell_place_kind_and_moment_apart(network: UniPixelForConditionalGeneration) -> None:
    point, label = torch.tensor([[10.0, 20.0]]), torch.tensor([1])
    box, corners = torch.tensor([[10.0, 20.0], [30.0, 40.0]]), torch.tensor([2, 3])
    coords = [point, point + 5, point, box, point]
    labels = [label, label, label, corners, label]
    moments = torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0])
    rows = network.encode_prompts(coords, labels, moments)
    distance = torch.cdist(rows, rows)
    assert distance[0, 4] == 0
    assert (distance[0, 1:4] > 1e-3).all()


def test_reading_in_two_pieces_is_reading_at_once(network: UniPixelForConditionalGeneration) -> None:
    from transformers.cache_utils import DynamicCache

    ids = torch.randint(20, 900, (1, 12), generator=torch.Generator().manual_seed(0))
    positions, _ = network.positions(ids, None)
    with torch.inference_mode():
        whole = network.read(network.embed(ids), positions)
        cache = DynamicCache()
        parts = [
            network.read(network.embed(ids[:, a:b]), positions[..., a:b], cache) for a, b in [(0, 5), (5, 11), (11, 12)]
        ]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------- tracker


def run(network: UniPixelForConditionalGeneration, frames: FrameFeatures, prompts: dict[int, FramePrompt]) -> Tensor:
    """Low-resolution logits N x T x h x w of tracked objects."""
    with torch.inference_mode():
        found = dict(track(network.sam2, lambda t: frames.at([t]), len(frames), prompts))
    assert sorted(found) == list(range(len(frames)))
    return torch.cat([found[t].logits for t in range(len(frames))], 1)


def click(network: UniPixelForConditionalGeneration, *xy: tuple[float, float]) -> FramePrompt:
    """One click for each of some objects."""
    coords = torch.tensor(xy)[:, None]
    with torch.inference_mode():
        return FramePrompt(network.sam2.embed_points(coords, torch.ones(len(xy), 1)))


PLACES = ((12.0, 20.0), (40.0, 50.0), (30.0, 5.0))


@pytest.mark.parametrize("t", [0, 2, 4])
def test_objects_in_one_batch_go_as_they_go_alone(
    network: UniPixelForConditionalGeneration, frames: FrameFeatures, t: int
) -> None:
    together = run(network, frames, {t: click(network, *PLACES)})
    alone = torch.cat([run(network, frames, {t: click(network, place)}) for place in PLACES])
    assert torch.allclose(together, alone, atol=1e-3)


def test_a_clip_played_backwards_is_tracked_backwards(
    network: UniPixelForConditionalGeneration, frames: FrameFeatures
) -> None:
    last = len(frames) - 1
    backwards = run(network, frames, {last: click(network, *PLACES)})
    reversed_clip = run(network, frames.at(list(range(last, -1, -1))), {0: click(network, *PLACES)})
    assert torch.allclose(backwards, reversed_clip.flip(1), atol=1e-3)


def test_a_prompt_in_the_middle_reaches_both_ends(
    network: UniPixelForConditionalGeneration, frames: FrameFeatures
) -> None:
    here, there = (run(network, frames, {2: click(network, place)}) for place in PLACES[:2])
    assert all(not torch.equal(here[:, t], there[:, t]) for t in (0, 4))
    half = run(network, frames.at([2, 3, 4]), {0: click(network, PLACES[0])})
    assert torch.allclose(here[:, 2], half[:, 0], atol=1e-4), "the prompted frame does not depend on others"


def test_a_correction_changes_frames_around_it(
    network: UniPixelForConditionalGeneration, frames: FrameFeatures
) -> None:
    once = run(network, frames, {0: click(network, PLACES[0])})
    corrected = run(network, frames, {0: click(network, PLACES[0]), 4: click(network, PLACES[1])})
    assert torch.equal(once[:, 0], corrected[:, 0])
    assert not torch.equal(once[:, 3], corrected[:, 3])


def test_long_clips_are_tracked_in_bounded_memory(
    network: UniPixelForConditionalGeneration, frames: FrameFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[int, int]] = []
    condition = network.sam2.condition

    def watching(features: Any, t: int, prompted: Any, tracked: dict[int, dict], *rest: Any) -> Tensor:
        kept.append((len(tracked), sum("maskmem_features" in memory for memory in tracked.values())))
        return condition(features, t, prompted, tracked, *rest)

    monkeypatch.setattr(network.sam2, "condition", watching)
    run(network, frames.at([t % 5 for t in range(40)]), {0: click(network, PLACES[0])})
    assert max(total for total, _ in kept) <= 16
    assert max(spatial for _, spatial in kept) <= network.sam2.num_maskmem


def test_a_given_mask_is_taken_as_it_is(network: UniPixelForConditionalGeneration, frames: FrameFeatures) -> None:
    mask = torch.zeros(1, 1, SAM_SIDE, SAM_SIDE)
    mask[..., 16:48, 16:48] = 1
    logits = run(network, frames, {1: FramePrompt(masks=mask)})[0, 1]
    assert torch.equal(logits > 0, F.interpolate(mask, logits.shape, mode="area")[0, 0] > 0.5)


def test_official_sizes_are_found_by_name() -> None:
    large = read_sam2_numbers("configs/sam2.1_hiera_l")
    assert large["image_encoder"]["trunk"]["embed_dim"] == 144
    assert read_sam2_numbers("configs/sam2.1/sam2.1_hiera_l.yaml") == large
    with pytest.raises(ValueError, match=r"sam2\.1_hiera_b\+"):
        build_sam2("configs/sam2.1_hiera_xxl", 1024)


# ----------------------------------------------------------------------------------------------------------- losses


def truth(n: int = 2) -> Tensor:
    masks = torch.zeros(n, 32, 32)
    masks[:, 8:20, 4:24] = 1
    return masks


def logits_of(masks: Tensor, candidates: int = 3) -> Tensor:
    """Very sure and right logits N x M x H x W."""
    return (masks * 2 - 1)[:, None].expand(-1, candidates, -1, -1) * 30


def test_a_perfect_prediction_costs_nothing() -> None:
    losses = mask_losses(logits_of(truth()), torch.ones(2, 3), torch.full((2, 1), 30.0), truth())
    assert float(losses.total) < 1e-3


def test_every_mistake_costs() -> None:
    right = {
        "logits": logits_of(truth()),
        "ious": torch.ones(2, 3),
        "object_logits": torch.full((2, 1), 30.0),
        "targets": truth(),
    }
    perfect = mask_losses(**right)
    wrong_mask = mask_losses(**{**right, "logits": -right["logits"]})
    assert wrong_mask.mask > perfect.mask + 1
    assert wrong_mask.dice > perfect.dice + 0.9
    assert mask_losses(**{**right, "ious": torch.zeros(2, 3)}).iou == 1
    assert mask_losses(**{**right, "object_logits": torch.full((2, 1), -30.0)}).object > 20


def test_one_good_candidate_is_enough() -> None:
    logits = logits_of(truth())
    logits = torch.cat([-logits[:, :2], logits[:, 2:]], 1)
    losses = mask_losses(logits, torch.tensor([[0.0, 0.0, 1.0]]).expand(2, -1), torch.full((2, 1), 30.0), truth())
    assert float(losses.total) < 1e-3
    shared_out = mask_losses(logits, torch.ones(2, 3), torch.full((2, 1), 30.0), truth(), spread=0.3)
    assert shared_out.dice > 0.1


def test_frames_without_the_object_count_only_as_absent() -> None:
    targets = torch.cat([truth(1), torch.zeros(1, 32, 32)])
    logits = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = mask_losses(logits, torch.rand(2, 3), torch.tensor([[30.0], [-30.0]]), targets)
    alone = mask_losses(logits[:1], torch.zeros(1, 3), torch.full((1, 1), 30.0), targets[:1])
    assert torch.allclose(losses.mask, alone.mask / 2)
    assert torch.allclose(losses.dice, alone.dice / 2)
    assert float(losses.object) < 1e-6


def test_losses_are_those_of_the_papers() -> None:
    """The formulas written out for one pixel and one tiny mask."""
    logits, targets = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    chance = torch.sigmoid(torch.tensor(2.0))
    assert torch.allclose(focal(logits, targets), -0.25 * (1 - chance) ** 2 * chance.log())
    assert torch.allclose(focal(logits, 1 - targets), -0.75 * chance**2 * (1 - chance).log())
    assert torch.allclose(dice(logits, targets), 1 - (2 * chance + 1) / (chance + 2))
    assert mask_iou(truth() * 2 - 1, truth()).tolist() == [1, 1]
    losses = mask_losses(torch.randn(2, 3, 8, 8), torch.rand(2, 3), torch.randn(2, 1), torch.ones(2, 8, 8))
    total = sum(WEIGHTS[name] * getattr(losses, name) for name in ("mask", "dice", "iou", "object"))
    assert torch.allclose(losses.total, torch.as_tensor(total))


def test_gradients_reach_what_is_to_be_learnt() -> None:
    logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    ious, there = torch.full((2, 3), 0.5, requires_grad=True), torch.zeros(2, 1, requires_grad=True)
    mask_losses(logits, ious, there, torch.ones(2, 8, 8)).total.backward()
    assert all(
        t.grad is not None and bool(t.grad.any()) and bool(t.grad.isfinite().all()) for t in (logits, ious, there)
    )


# ---------------------------------------------------------------------------------------------------------- metrics


def square(y: int, x: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def test_measures_of_equal_empty_and_disjoint_masks() -> None:
    nothing, here, there = np.zeros((60, 80), bool), square(5, 5), square(35, 50)
    assert [iou(a, b) for a, b in ((here, here), (nothing, nothing), (here, there), (here, nothing))] == [1, 1, 0, 0]
    assert [boundary_f(a, b) for a, b in ((here, here), (nothing, nothing), (here, there), (here, nothing))] == [
        1,
        1,
        0,
        0,
    ]
    assert j_and_f(np.stack([here, here]), np.stack([here, there])) == 0.5


def test_measures_agree_with_counting() -> None:
    a, b = square(5, 5), square(5, 15)
    assert iou(a, b) == pytest.approx(200 / 600)
    assert cumulative_iou([(a, b), (a, a)]) == pytest.approx((200 + 400) / (600 + 400))
    assert boundary_f(a, square(6, 5)) == 1, "one pixel aside is within the tolerance"
    assert boundary_f(a, b) == boundary_f(b, a) < 0.8


def test_configurations_refuse_unknown_choices() -> None:
    with pytest.raises(ValueError, match="mem_feature_order"):
        tiny_config(mem_feature_order="spiral")
    with pytest.raises(ValueError, match="prefill_frame"):
        tiny_config(prefill_frame="last")
    with pytest.raises(ValueError, match="no SAM 2"):
        UniPixelForConditionalGeneration(tiny_config(sam2_config=None))


def test_frames_without_copying(frames: FrameFeatures) -> None:
    many = replace(frames).expand(1, 3)
    assert len(many) == 3
    assert many.low.data_ptr() == frames.low[1].data_ptr()
    assert torch.equal(many.high[0][2], frames.high[0][1])


def test_training_sees_masks_of_objects_that_seem_absent(network: Any, frames: FrameFeatures) -> None:
    sam2, here = network.sam2, frames.at([0, 1, 2])
    sparse = click(network, *PLACES).sparse
    assert sparse is not None
    with torch.inference_mode():
        conditioned = sam2.condition_fresh(here)
        shown, hidden = (sam2.decode(conditioned, here, sparse, hide_absent=hide) for hide in (False, True))
    absent = shown.object_logits[:, 0] <= 0
    assert shown.all_logits.min() > -1000
    assert torch.equal(hidden.all_logits[~absent], shown.all_logits[~absent])
    assert (hidden.all_logits[absent] == -1024).all()


@pytest.mark.slow
def test_transformers_may_be_imported_first() -> None:
    """A torchvision that cannot load must not come back through what transformers remembers."""
    code = "import transformers; transformers.AutoTokenizer; import unipixel; unipixel.UniPixel"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], capture_output=True)


def test_conversations_in_one_batch_are_read_as_alone(network: UniPixelForConditionalGeneration) -> None:
    """Two clips and texts of different lengths, the shorter padded on the left: states and seg tokens stay in step."""
    config, generator = network.config, torch.Generator().manual_seed(0)
    grids = torch.tensor([[1, 4, 4], [2, 4, 4]])
    words = [torch.randint(20, 900, (n,), generator=generator) for n in (7, 4)]
    rows = [torch.cat([w[:2], torch.full((4 * t,), config.video_token_id), w[2:]]) for w, t in zip(words, (1, 2))]
    pixels = torch.randn(int(grids.prod(1).sum()), 3 * 2 * 14 * 14, generator=generator)
    longest = max(len(row) for row in rows)
    ids = torch.stack([F.pad(row, (longest - len(row), 0)) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), (longest - len(row), 0)) for row in rows])
    with torch.inference_mode():
        clips = network.encode_vision(pixels, grids)
        positions, _ = network.positions(ids, grids, attention_mask=mask)
        embeds = network.embed(ids, torch.cat([clip.tokens for clip in clips]))
        together = network.read(embeds, positions, attention_mask=mask)
        for i, row in enumerate(rows):
            places, _ = network.positions(row[None], grids[i : i + 1])
            alone = network.read(network.embed(row[None], clips[i].tokens), places)[0]
            assert torch.allclose(together[i, longest - len(row) :], alone, atol=1e-4)
            assert torch.allclose(network.point_out(together[i, -1:]), network.point_out(alone[-1:]), atol=1e-4)
