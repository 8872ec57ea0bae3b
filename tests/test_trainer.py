"""Training on own data: sequences as the engine reads them, stages that move only their parts, runs that survive."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from fakes import draw_clip
from safetensors.torch import load_file, save_file
from tiny import (
    clip,
    picture,
    random_network,
    saying,
    tiny_config,
    tiny_engine,
    tiny_network,
    tiny_sam2_numbers,
    tiny_tokenizer,
)
from torch import Tensor

from unipixel import cli, grammar
from unipixel.data import MaskArray, Mixture, Sample, Task, write_folder
from unipixel.data.samplers import DIRECT, MEMORY, PLAIN, POINT, PREFILL, Exchange
from unipixel.engine import UniPixel
from unipixel.memory import ObjectMemoryBank
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import load_model, memory_to_disk
from unipixel.train.adapt import load_trained, merge_lora, prepare, trained_tensors
from unipixel.train.draws import Draws, KindSampler
from unipixel.train.items import IGNORE, ItemMaker, MediaItem, collate, renumbered, write_exchange
from unipixel.train.joint import JointModel, draw_objects, joint_losses, read_batch
from unipixel.train.recipes import PARTS, RECIPES, Lora, Recipe, part_of
from unipixel.train.run import Settings, draws_of, train_stage
from unipixel.train.starts import join_start, read_sam2, save_checkpoint
from unipixel.train.trainer import last_checkpoint
from unipixel.types import Masklet, Media, Turn

ROOT = Path(__file__).resolve().parents[1]
KINDS = {POINT: 1.0}


# ----------------------------------------------------------------------------------------------------- what is learnt


def masks_of(media: Media) -> dict[int, np.ndarray]:
    """Two objects: a moving square, and one that leaves."""
    masks = np.zeros((2, *media.frames.shape[:3]), bool)
    for t in range(media.num_frames):
        masks[0, t, 10:40, 10 + 4 * t : 40 + 4 * t] = True
    masks[1, 0, 50:70, 50:80] = True
    return dict(enumerate(masks, 1))


def maker(kinds: Mapping[str, float] = KINDS) -> ItemMaker:
    return ItemMaker(tiny_tokenizer(), tiny_network().config, kinds)


def item(media: Media, *exchanges: Exchange, seed: int = 0) -> MediaItem:
    return maker()(np.random.default_rng(seed), media, masks_of(media), exchanges)


SEGMENT = Exchange("Segment both.", "They are @1 and @2.")
REMEMBERED = Exchange("Is @1 larger than @2?", "Yes, @1 is larger.", MEMORY)
LATER = Exchange("And the other one?", "It is @2.", PLAIN, (Turn("Segment the square.", "It is @1."),))


def conversations(engine: UniPixel) -> Any:
    """Record every conversation that the engine turns into token ids."""
    return mock.patch.object(engine, "_suffix_ids", wraps=engine._suffix_ids)


@pytest.mark.parametrize("media", [picture(), clip(3)], ids=["picture", "clip"])
@pytest.mark.parametrize("exchange", [SEGMENT, REMEMBERED, LATER], ids=["plain", "memory", "later"])
def test_what_is_learnt_is_what_the_engine_reads(media: Media, exchange: Exchange) -> None:
    """The prompt, and the regions behind its `<|mem|>`, are those of a real turn with the same objects in memory."""
    engine, bank, masks = tiny_engine(), ObjectMemoryBank(), masks_of(media)
    for i in exchange.shown:
        bank = bank.with_object(Masklet(i, masks[i]), origin="region")
    regions: list[Tensor] = []
    encode = engine.network.encode_regions

    def record(vision: Any, wanted: Tensor) -> Tensor:
        regions.append(wanted)
        return encode(vision, wanted)

    with (
        conversations(engine) as spoken,
        saying(engine, "Yes."),
        mock.patch.object(engine.network, "encode_regions", record),
    ):
        engine.ask(media, exchange.question, memory=bank, history=exchange.history)
    config = engine.network.config
    written = write_exchange(np.random.default_rng(0), exchange, masks, config, KINDS)
    assert written.prompt == spoken.call_args.args[0]
    (sequence,) = item(media, exchange).sequences
    assert len(regions) == bool(exchange.shown)
    for wanted in regions:
        assert torch.equal(sequence.regions, wanted)


def test_the_prefill_pass_is_learnt_as_the_engine_runs_it() -> None:
    engine, media = tiny_engine(), clip(4)
    exchange = Exchange("Is @1 larger than @2?", "Yes.", PREFILL)
    written = write_exchange(np.random.default_rng(3), exchange, masks_of(media), engine.network.config, KINDS)
    with conversations(engine) as spoken, saying(engine, "Yes."):
        engine.ask(media, exchange.question, prompts=written.marks)
    assert spoken.call_args_list[0].args[0] == written.prompt + written.answer
    assert written.found == tuple((m.object_id, m.frame) for m in written.marks)


def test_answers_read_back_as_they_were_written() -> None:
    exchange, numbers = renumbered(Exchange("Segment @7 and what it eats.", "@7 eats @30, and @30 is a star like @9."))
    assert numbers == {7: 1, 30: 2, 9: 3}
    raw = grammar.render_answer(exchange.answer, exchange.found)
    assert raw.count(grammar.SEG_TOKEN) == 2
    parsed = grammar.parse_answer(raw, used_ids=[1])
    assert parsed.text == "@1 eats @2, and @2 is a star like @3."
    assert parsed.seg_ids == (2, 3)


def test_only_answers_are_learnt_and_their_targets_fit() -> None:
    (sequence,) = item(clip(3), SEGMENT).sequences
    learnt = sequence.labels[sequence.labels != IGNORE]
    assert tiny_tokenizer().decode(learnt) == "They are <|seg|> and <|seg|>.<|im_end|>"
    assert sequence.targets.shape == (2, 3, 64, 64)
    assert sequence.targets[1].any((1, 2)).tolist() == [True, False, False]


def test_an_object_that_is_not_to_be_seen_is_not_marked() -> None:
    media = picture()
    masks = {1: np.zeros(media.frames.shape[:3], bool)}
    for form in (DIRECT, PREFILL, MEMORY):
        exchange = Exchange("What is @1?", "Nothing.", form)
        (sequence,) = maker()(np.random.default_rng(0), media, masks, [exchange]).sequences
        assert (len(sequence.refs), len(sequence.regions), len(sequence.targets)) == (0, 0, 0)


def batch_of(*items: MediaItem) -> Any:
    return collate(items, 0, tiny_network().config.seg_token_id)


def test_sequences_in_a_batch_do_not_see_each_other() -> None:
    """Padding, other media and other objects change nothing: neither states nor masks."""
    items = [item(picture(), SEGMENT, REMEMBERED), item(clip(3), LATER), item(clip(2), Exchange("@1?", "", PREFILL))]
    network = tiny_network()
    with torch.no_grad():
        together = batch_of(*items)
        hidden = read_batch(network, together)
        masks = {n: g for g in draw_objects(network, together, hidden) for n in g.objects}
        row = number = 0
        for single in items:
            alone = batch_of(single)
            states = read_batch(network, alone)
            for own, real in zip(states, alone.attention_mask.bool()):
                torch.testing.assert_close(hidden[row, : int(real.sum())], own[real], atol=1e-4, rtol=1e-4)
                row += 1
            groups = list(draw_objects(network, alone, states))
            for group in groups:
                for k, n in enumerate(group.objects):
                    other = masks[number + n]
                    place = other.objects.index(number + n)
                    assert torch.equal(group.targets[k], other.targets[place])
                    for t, prediction in group.predictions.items():
                        torch.testing.assert_close(
                            prediction.logits[k], other.predictions[t].logits[place], atol=5e-3, rtol=1e-3
                        )
            number += sum(len(group.objects) for group in groups)
    assert number == 4


def test_the_parts_of_the_loss_add_up_and_are_what_forward_gives() -> None:
    network, batch = tiny_network(), batch_of(item(clip(3), SEGMENT), item(picture(), SEGMENT))
    with torch.no_grad():
        hidden = read_batch(network, batch)
        losses = joint_losses(network, batch, hidden, list(draw_objects(network, batch, hidden)))
        found = JointModel(network).eval()(batch)
    assert float(found["loss"]) == pytest.approx(float(losses.words + losses.masks), rel=1e-4)
    assert float(losses.masks) > 0


# ------------------------------------------------------------------------------------------------------------- stages


def test_every_parameter_belongs_to_one_part() -> None:
    names = [name for name, _ in tiny_network().named_parameters()]
    assert {part_of(name) for name in names} == set(PARTS) - {"head"}  # the head is tied to the embeddings


def test_a_recipe_knows_its_parts() -> None:
    with pytest.raises(ValueError, match="no part 'eyes'"):
        Recipe("x", {"eyes": 1.0}, {PLAIN: 1.0})
    with pytest.raises(ValueError, match="LoRA"):
        Recipe("x", {"lora": 1.0}, {PLAIN: 1.0})


def fresh_network() -> UniPixelForConditionalGeneration:
    return random_network(tiny_network().config, seed=1)


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_stage_moves_its_parts_and_nothing_else(name: str) -> None:
    recipe = replace(RECIPES[name], lora=Lora(4, 8, 0.0)) if RECIPES[name].lora else RECIPES[name]
    network = fresh_network()
    prepare(network, recipe)
    before = {k: p.detach().clone() for k, p in network.named_parameters()}
    optimizer = torch.optim.SGD(
        [{"params": [p], "lr": recipe.rate(k)} for k, p in network.named_parameters() if p.requires_grad]
    )
    shown = Exchange("@1?", "It is @2.", DIRECT) if name == "prompts" else SEGMENT
    model = JointModel(network).train()
    for exchange in (shown, REMEMBERED) if name == "joint" else (shown,):
        model(batch_of(item(clip(3), exchange)))["loss"].backward()
    if name == "joint":
        model(batch_of(item(clip(3), Exchange("@1?", "", PREFILL))))["loss"].backward()
    optimizer.step()
    moved = {part_of(k) for k, p in network.named_parameters() if not torch.equal(p, before[k])}
    assert moved == set(recipe.rates) - {"head"}


def test_a_batch_that_teaches_a_stage_nothing_has_a_gradient_of_zero() -> None:
    network = fresh_network()
    prepare(network, RECIPES["seg"])
    batch = batch_of(item(picture(), Exchange("How many?", "One.")))
    losses = JointModel(network).train()(batch)
    losses["loss"].backward()
    assert float(losses["loss"].detach()) == pytest.approx(float(losses["words"]))
    learning = [p for p in network.parameters() if p.requires_grad]
    assert learning
    assert all(p.grad is not None and not p.grad.any() for p in learning)


def test_lora_sits_on_every_attention_of_both_towers_and_on_nothing_else() -> None:
    network = fresh_network()
    prepare(network, replace(RECIPES["joint"], lora=Lora(2, 4, 0.0)))
    adapted = {name.split(".lora_A")[0] for name, _ in network.named_parameters() if ".lora_A" in name}
    wanted = {f"model.visual.blocks.{i}.attn.{m}" for i in range(2) for m in ("qkv", "proj")}
    wanted |= {f"model.language_model.layers.{i}.self_attn.{m}_proj" for i in range(2) for m in "qkvo"}
    assert adapted == wanted


def test_merging_lora_changes_nothing_that_the_network_computes() -> None:
    network, recipe = fresh_network(), replace(RECIPES["joint"], lora=Lora(4, 8, 0.1))
    prepare(network, recipe)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if ".lora_B" in name:
            parameter.data.normal_(0, 0.2, generator=generator)
    network.eval()
    batch = batch_of(item(picture(), REMEMBERED))
    with torch.no_grad():
        before = read_batch(network, batch)
        assert not torch.allclose(before, read_batch(fresh_network(), batch), atol=1e-2), "the adapters do something"
        merge_lora(network)
        torch.testing.assert_close(read_batch(network, batch), before, atol=1e-4, rtol=1e-4)
    assert set(network.state_dict()) == set(fresh_network().state_dict())


def test_computing_activations_twice_changes_no_gradient() -> None:
    def gradients(twice: bool) -> dict[str, Tensor]:
        network = fresh_network()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # adapters start at random
            prepare(network, replace(RECIPES["joint"], lora=Lora(4, 8, 0.0)))
        if twice:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        model = JointModel(network).train()
        network.sam2.eval()  # its dropout would differ
        model(batch_of(item(clip(3), SEGMENT)))["loss"].backward()
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    once, twice = gradients(False), gradients(True)
    assert set(once) == set(twice)
    for name, gradient in once.items():
        torch.testing.assert_close(twice[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_trained_tensors_fit_only_the_same_settings() -> None:
    network, other = fresh_network(), fresh_network()
    prepare(network, replace(RECIPES["joint"], lora=Lora(4, 8, 0.0)))
    prepare(other, RECIPES["seg"])
    with pytest.raises(ValueError, match="other settings"):
        load_trained(other, trained_tensors(network))


# -------------------------------------------------------------------------------------------------------------- draws


def turns(question: str, answer: str) -> Sample:
    masks = {i: {0: MaskArray(m[0])} for i, m in masks_of(picture()).items()}
    return Sample(picture(), masks, (Turn(question, answer),))


def some_draws(seed: int = 0) -> Draws:
    samples = [turns("Segment it.", "It is @1."), turns("Is @1 red?", "Yes."), turns("How many?", "Two.")]
    forms = {PLAIN: 0.5, MEMORY: 0.5}
    return Draws(Mixture((Task("t", samples),), seed), maker(), forms, length=100, seed=seed)


def test_batches_are_of_one_kind_and_no_draw_comes_twice() -> None:
    draws = some_draws()
    order = list(KindSampler(draws.kind, steps=12, group=4))
    assert len(order) == 48
    assert max(Counter(order).values()) == 1
    groups = [order[i : i + 4] for i in range(0, 48, 4)]
    assert all(len({draws.kind(n) for n in group}) == 1 for group in groups)
    assert len({draws.kind(group[0]) for group in groups}) == 3


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    first, second = some_draws(), some_draws()
    _ = [second[n] for n in (9, 1)]
    for n in (0, 7, 40):
        assert torch.equal(first[n].sequences[0].input_ids, second[n].sequences[0].input_ids)


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_drawn_world_fits_every_stage(name: str) -> None:
    draws = draws_of(RECIPES[name], Settings(("world",), "nano"), maker())
    forms = {exchange.form for n in range(40) for exchange in draws.plan(n).exchanges}
    assert forms == set(RECIPES[name].forms)


# --------------------------------------------------------------------------------------------------------------- runs


@cache
def two_squares() -> list[Sample]:
    """Pictures and a clip of the fake engine's shapes, with words and masks."""
    frames = draw_clip(4)[:, ::2, ::2]
    red = np.abs(frames.astype(int) - (220, 40, 40)).sum(-1) < 60
    samples = []
    for t in (0, 2):
        masks = {1: {0: MaskArray(red[t])}}
        media = Media(frames[t : t + 1], (0,))
        samples += [
            Sample(media, masks, (Turn("Segment the red one.", "It is @1."), Turn("What colour is @1?", "Red."))),
            Sample(media, masks, (), {1: "red thing"}),
        ]
    masks = {1: {t: MaskArray(red[t]) for t in range(4)}}
    return [*samples, Sample(Media(frames, (0, 1, 2, 3), 8.0), masks, (Turn("Segment the red one.", "It is @1."),))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(random_network(tiny_network().config), tiny_tokenizer(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_folder(two_squares(), path)
    return path


SMALL = replace(RECIPES["joint"], lora=Lora(4, 8, 0.1))


def settings(checkpoint: Path, folder: Path, **changes: Any) -> Settings:
    values = {"steps": 4, "batch": 2, "log_every": 1, "max_frames": 3, "precision": "fp32", "rate_scale": 10.0}
    return Settings((str(folder),), str(checkpoint), **(values | changes))


def test_a_stage_gives_a_checkpoint_that_loads_and_a_receipt(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train_stage(SMALL, settings(checkpoint, folder), out)
    engine = UniPixel.from_pretrained(str(out))
    assert isinstance(engine.ask(picture(), "Segment the red one.", max_new_tokens=4).text, str)
    before, after = load_model(checkpoint).state_dict(), engine.network.state_dict()
    changed = {
        part_of(name)
        for name, value in after.items()
        if not torch.equal(value, before[name]) and "inv_freq" not in name
    }
    assert {"seg_head", "sam2", "vision", "language", "embeddings"} <= changed
    receipt = json.loads((out / "receipt.json").read_text())
    assert receipt["data"][0]["samples"] == 5
    assert receipt["weights"] == engine.weights != receipt["start"]["weights"]
    assert receipt["recipe"]["lora"]["rank"] == 4
    assert receipt["metrics"]["last"]["step"] == 4
    assert {"words", "masks", "mask", "dice", "iou", "object"} <= set(receipt["metrics"]["last"])
    assert list((out / "run").rglob("events.out.tfevents*"))
    assert str(tmp_path) not in (out / "receipt.json").read_text()


def test_bfloat16_and_accumulation_work(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    changes = {"precision": "bf16", "accumulate": 2, "batch": 1, "checkpointing": True, "exchanges": 2, "steps": 2}
    assert train_stage(SMALL, settings(checkpoint, folder, **changes), tmp_path / "out")


def test_a_run_with_other_settings_is_not_mixed_up(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not train_stage(RECIPES["seg"], settings(checkpoint, folder), out, hours=0.0)
    with pytest.raises(ValueError, match="other settings"):
        train_stage(RECIPES["seg"], settings(checkpoint, folder, batch=3), out)


def test_data_that_teaches_a_stage_nothing_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    write_folder([Sample(picture(), turns=(Turn("Hm?", "Yes."),))], tmp_path / "data")
    with pytest.raises(ValueError, match="Nothing in the data fits the stage prompts"):
        train_stage(RECIPES["prompts"], settings(checkpoint, tmp_path / "data"), tmp_path / "out")


def curve(run: Path) -> dict[int, float]:
    """The loss at each step, as the last whole checkpoint tells it."""
    last = last_checkpoint(run)
    assert last is not None
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry["loss"] for entry in history if "loss" in entry}


def command(checkpoint: Path, folder: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "--data", str(folder), "--from", str(checkpoint), "--output_dir", str(out), "--steps", "8"),
        *("--batch", "2", "--log_every", "1", "--save_every", "2", "--precision", "fp32", "--lora_rank", "4"),
        *("--lora_alpha", "8", "--lora_dropout", "0.1", "--max_frames", "3", *more),
    ]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    return subprocess.Popen([sys.executable, "-m", "unipixel", *arguments], env=environment, cwd=ROOT)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(command(checkpoint, folder, whole)).wait() == 0
    process = start(command(checkpoint, folder, cut))
    deadline = time.monotonic() + 300
    while not (cut / "run" / "checkpoint-4" / "trainer_state.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (cut / "receipt.json").exists(), "it was killed under way"
    assert start(command(checkpoint, folder, cut)).wait() == 0
    uninterrupted, resumed = curve(whole / "run"), curve(cut / "run")
    assert set(resumed) == set(range(1, 9))
    assert resumed == uninterrupted
    ours, theirs = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def torchrun(*program: str) -> int:
    """Run a program in two processes on the CPU; its exit code. (accelerate's launcher wants MPI for that.)"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *program]
    return subprocess.run(launch, env=environment, cwd=ROOT, check=False).returncode


@pytest.mark.slow
def test_a_network_spread_over_processes_has_the_same_gradients() -> None:
    assert torchrun(str(ROOT / "tests" / "spread.py")) == 0


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(checkpoint: Path, tmp_path: Path) -> None:
    """Two processes with batch 1 against one with batch 2."""
    folder, one, two = tmp_path / "data", tmp_path / "one", tmp_path / "two"
    # Answers of one length: then a mean over tokens is a mean over samples, as processes compute it.
    write_folder([s for s in two_squares() if s.turns and not s.is_clip], folder)
    assert cli.main(command(checkpoint, folder, one, "--stage", "seg")) == 0
    assert torchrun("-m", "unipixel", *command(checkpoint, folder, two, "--stage", "seg", "--batch", "1")) == 0
    assert json.loads((two / "receipt.json").read_text())["processes"] == 2
    assert curve(two / "run") == pytest.approx(curve(one / "run"), rel=1e-3)


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_'), (4, '{"global_step": 4}')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-12").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-4"
    assert last_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data", "nowhere"], "no folder nowhere"),
        (["--data", "world", "--steps", "0"], "--steps must be at least 1"),
        (["--data", "world", "--from", "nobody"], "no model 'nobody'"),
        (["--data", "world", "--lora_dropout", "1"], "--lora_dropout"),
    ],
)
def test_bad_arguments_end_with_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *arguments, "--output_dir", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- starts


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen2.5-VL as it lies on the hub: without UniPixel's tokens and parts."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("qwen")
    source = json.loads((ROOT / "assets" / "nano" / "tokenizer.json").read_text())
    gone = {token["id"] for token in source["added_tokens"] if token["content"] in grammar.UNIPIXEL_TOKENS}
    source["added_tokens"] = [token for token in source["added_tokens"] if token["id"] not in gone]
    last = max(source["model"]["vocab"].values())
    free = iter(range(last + 1, last + 10))
    source["model"]["vocab"] = {k: (next(free) if v in gone else v) for k, v in source["model"]["vocab"].items()}
    for token in list(source["model"]["vocab"]):
        if token in grammar.UNIPIXEL_TOKENS:
            del source["model"]["vocab"][token]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(source)), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(path)
    network = random_network(tiny_network().config, seed=5)
    values = {
        k: v
        for k, v in network.config.to_dict().items()
        if not k.startswith(("sam2", "ref_", "seg_", "mem_", "min_", "max_", "square", "prefill"))
    }
    (path / "config.json").write_text(json.dumps({**values, "model_type": "qwen2_5_vl"}, default=str))
    tensors = {memory_to_disk(k): v.contiguous() for k, v in network.state_dict().items() if k.startswith("model.")}
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_qwen_and_sam_become_one_checkpoint(qwen: Path, tmp_path: Path, suffix: str) -> None:
    sam = random_network(tiny_config(), seed=7).sam2.state_dict()
    path = tmp_path / f"sam{suffix}"
    if suffix == ".pt":
        torch.save({"model": sam}, path)
    else:
        save_file(sam, path)
    out = join_start(qwen, path, tmp_path / "start", tiny_sam2_numbers(), side=64)
    engine = UniPixel.from_pretrained(str(out))
    network = engine.network
    for name, tensor in sam.items():
        assert torch.equal(network.sam2.state_dict()[name], tensor), name
    theirs = load_file(qwen / "model.safetensors")["visual.patch_embed.proj.weight"]
    assert torch.equal(network.model.visual.patch_embed.proj.weight, theirs.bfloat16().float())
    places = network.prompt_encoder.space.pe_layer.positional_encoding_gaussian_matrix
    assert torch.equal(places, sam["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"])
    ids = [engine.tokenizer.convert_tokens_to_ids(token) for token in grammar.UNIPIXEL_TOKENS]
    assert ids == [network.config.ref_token_id, network.config.seg_token_id, network.config.mem_token_id]
    assert len(set(ids)) == 3
    assert network.config.mem_feature_order == "raster"
    assert isinstance(engine.ask(picture(), "Segment it.", max_new_tokens=3).text, str)


class Trap:
    """Would run a command if it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch trapped",)


def test_weights_that_would_run_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": Trap()}))
    with pytest.raises(ValueError, match=r"evil\.pt holds no SAM 2\.1 weights"):
        read_sam2(tmp_path / "evil.pt")
    assert not (tmp_path / "trapped").exists()


def test_weights_of_another_model_are_named(qwen: Path, tmp_path: Path) -> None:
    torch.save({"model": {"image_encoder.x": torch.zeros(1)}}, tmp_path / "sam.pt")
    with pytest.raises(ValueError, match="no official size"):
        join_start(qwen, tmp_path / "sam.pt", tmp_path / "start")
    with pytest.raises(ValueError, match=r"The weights of SAM 2\.1 do not fit"):
        join_start(qwen, tmp_path / "sam.pt", tmp_path / "start", tiny_sam2_numbers(), side=64)


def test_qwen_alone_is_not_enough(qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--data", "world", "--from", str(qwen), "--output_dir", str(tmp_path / "out")]) == 2
    assert "--sam2" in capsys.readouterr().err
