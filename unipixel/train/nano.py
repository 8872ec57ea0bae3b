"""The run that makes the embedded nano checkpoint from nothing: `python -m unipixel train nano`.

The real model starts from Qwen2.5-VL and SAM 2.1, which can see, read and segment already. Nano gets a head start in
their place: SAM 2 learns to point and to track, the vision tower to name what it sees, the language model to answer.
Then everything learns UniPixel's joint loss. Every stage is resumable: run the command again and it goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from unipixel.data.world import FULL, SHADED_SHAPES, SHAPES_ONLY, STRANGE, Contents
from unipixel.engine import NANO, find_checkpoint, pick_device
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import load_model, save_model
from unipixel.train.dialogues import DialogueMaker, SceneMaker
from unipixel.train.loop import Schedule, keep_memory, train
from unipixel.train.presets import nano_config
from unipixel.train.sam import (
    SamTrainer,
    anything_maker,
    clip_maker,
    help_attention,
    long_clip_maker,
    moment_maker,
    picture_maker,
)
from unipixel.train.scenes import Draw, batches
from unipixel.train.stages import DialogueTrainer, VisionTrainer
from unipixel.train.tokenizer import CONTROL_TOKENS, save_tokenizer, train_tokenizer

# How often each kind of question comes up.
QUESTIONS = {
    "refer": 7.0,
    "absent": 4.0,
    "prefill": 2.0,
    "what": 3.0,
    "color": 1.0,
    "shape": 1.0,
    "is_it": 0.4,
    "refer_all": 0.8,
    "refer_two": 0.5,
    "count": 1.2,
    "presence": 0.5,
    "caption": 0.5,
    "what_two": 0.4,
    "texture": 0.2,
    "motion": 0.2,
    "similar": 0.2,
    "refer_rank": 0.4,
    "same_color": 0.1,
    "same_shape": 0.1,
    "compare_size": 0.1,
    "compare_place": 0.1,
    "size": 0.1,
}
# And of scenes of more than shapes.
RICH_QUESTIONS = QUESTIONS | {
    "refer_relation": 2.0,
    "nothing_known": 1.5,
    "refer_function": 1.0,
    "refer_not": 0.6,
    "refer_list": 0.6,
    "refer_except": 0.3,
    "count_masks": 0.3,
    "is_for": 0.4,
    "category_of": 0.4,
    "which_of": 0.2,
    "when_mark": 0.4,
    "when": 0.3,
    "like_mark": 0.4,
    "beside_mark": 0.4,
    "what_and_where": 0.3,
    "nearest_mark": 0.2,
    "compare_with_mark": 0.2,
    "plain_place": 0.2,
    "plain_measure": 0.2,
    "plain_color": 0.2,
}
# What a nano that finds and names things well is still bad at: how many there are, which fit, and whether any does.
HARD_QUESTIONS = RICH_QUESTIONS | {
    "refer": 6.0,
    "what": 3.5,
    "shape": 1.5,
    "count": 3.0,
    "refer_all": 1.8,
    "refer_two": 0.8,
    "similar": 1.0,
    "presence": 0.8,
}
# What is still hard after that: lists, and saying that there is no word for anything here.
LIST_QUESTIONS = HARD_QUESTIONS | {
    "what": 5.0,
    "color": 1.5,
    "count": 4.0,
    "refer_all": 3.0,
    "refer_two": 1.2,
    "similar": 2.5,
    "prefill": 1.5,
    "presence": 1.0,
    "nothing_known": 2.5,
}
# Lists again, now that each thing in them is looked up; and counts, which go wrong by one.
COUNT_QUESTIONS = LIST_QUESTIONS | {"refer": 5.0, "absent": 5.0, "count": 6.0, "refer_all": 5.0, "similar": 5.0}
_Draws = Sequence[tuple[float, Draw]]
_PICTURES_AND_CLIPS: _Draws = ((0.6, Draw(8)), (0.15, Draw(4, 4)), (0.25, Draw(3, 8)))
_MORE_CLIPS: _Draws = ((0.5, Draw(8)), (0.5, Draw(3, 8)))
_SHADED: _Draws = (
    *((0.35, Draw(8, 1, (1, 6), contents)) for contents in (SHAPES_ONLY, SHADED_SHAPES)),
    *((0.15, Draw(3, 8, contents=contents)) for contents in (SHAPES_ONLY, SHADED_SHAPES)),
)
_TOLD_OF = ((0.45, SHAPES_ONLY), (0.4, SHADED_SHAPES), (0.15, STRANGE))
_TOLD: _Draws = (
    *((odds, Draw(8, 1, (1, 6), what)) for odds, what in ((0.3, SHAPES_ONLY), (0.25, SHADED_SHAPES), (0.12, STRANGE))),
    *(
        (odds, Draw(3, 8, contents=what))
        for odds, what in ((0.18, SHAPES_ONLY), (0.12, SHADED_SHAPES), (0.03, STRANGE))
    ),
)
_EVERYTHING: _Draws = tuple(
    (odds, replace(draw, contents=contents)) for odds, draw in _MORE_CLIPS for contents in (SHAPES_ONLY, FULL)
)

HELPERS = "helpers.safetensors"
RECEIPT, RECEIPTS = "receipt.json", "receipts.json"
NETWORK, START = "network.safetensors", "start.safetensors"

Network = UniPixelForConditionalGeneration
Maker = Callable[[np.random.Generator], Any]


@dataclass(frozen=True)
class Stage:
    """One stage as a value: what is trained on what, how long and how fast.

    `trains` names the parts that learn (prefixes of parameter names) and the share of the learning rate each gets.
    """

    name: str
    steps: int
    rate: float
    trains: dict[str, float]
    trainer: Callable[[Network], nn.Module]
    maker: Callable[[Tokenizer, int], Maker]  # the number multiplies the batch
    muon: bool = False  # see Schedule

    def share(self, parameter: str) -> float:
        """The share of the learning rate of the parameter with this name; 0 freezes it."""
        return next((share for prefix, share in self.trains.items() if parameter.startswith(prefix)), 0.0)


def _questions(
    draws: _Draws, dialogues: int, earlier: float = 0.0, kinds: Mapping[str, float] = RICH_QUESTIONS
) -> Callable[[Tokenizer, int], Maker]:
    def maker(tokenizer: Tokenizer, times: int) -> Maker:
        more = [(odds, draw.times(times)) for odds, draw in draws]
        return DialogueMaker(tokenizer, more, dialogues, kinds, extras=0.4, earlier=earlier)

    return maker


def _words(
    name: str,
    steps: int,
    rate: float,
    draws: _Draws,
    kinds: Mapping[str, float],
    dialogues: int = 5,
    muon: bool = False,
) -> Stage:
    return Stage(
        name,
        steps,
        rate,
        {"network.sam2": 0.0, "network.model.visual": 0.5, "": 1.0},
        lambda n: DialogueTrainer(n, masks=True, dense=0.8, echo=0.15),
        _questions(draws, dialogues, earlier=0.25, kinds=kinds),
        muon,
    )


def _sights(objects: tuple[int, int], *contents: Contents) -> Callable[[Tokenizer, int], Maker]:
    def maker(_: Tokenizer, times: int) -> Maker:
        kinds = [(odds, frames, what) for odds, frames in ((0.6, 1), (0.4, 2)) for what in contents]
        return SceneMaker([(odds, Draw(8 * times, frames, objects, what)) for odds, frames, what in kinds])

    return maker


_NOUNS = Contents(nouns=0.8, nameless=0.15, surfaces=0.4, camera=0.2)
_SAM2 = {"sam2.sam_prompt_encoder": 0.0, "": 1.0}
_MEMORY = {
    "sam2.image_encoder": 0.0,
    "sam2.sam_prompt_encoder": 0.0,
    "sam2.no_mem_embed": 0.0,
    "sam2.sam_mask_decoder.pred_obj_score_head": 1.0,
    "sam2.sam_mask_decoder": 0.0,
    "sam2": 1.0,
}
_LOOKS = (SHAPES_ONLY, SHADED_SHAPES, SHADED_SHAPES, STRANGE)
_EYES = {"network.model.visual": 1.0, "vision_": 1.0, "outline_head": 1.0}

STAGES = (
    Stage("point", 1400, 1e-3, {"": 1.0}, lambda n: SamTrainer(n.sam2), lambda _, n: picture_maker(n)),
    # From here on the embedding of places stays: the language model's seg tokens are pulled towards it.
    Stage("track", 1000, 1e-3, _SAM2, lambda n: SamTrainer(n.sam2), lambda _, n: clip_maker(n)),
    # Shapes are learnt from many examples: crowded pictures show more of them in the same time, and in pairs of frames
    # they move, as every patch of a clip shows them.
    Stage("see", 2500, 1e-3, _EYES, VisionTrainer, _sights((5, 8), SHAPES_ONLY)),
    Stage("discern", 2600, 8e-4, _EYES, VisionTrainer, _sights((3, 8), SHAPES_ONLY)),
    # What people click need have no name: SAM 2 learns it once it follows shapes, beside the vision tower.
    Stage("anything", 1200, 8e-4, _SAM2, lambda n: SamTrainer(n.sam2), lambda _, n: anything_maker(n)),
    Stage(
        "talk",
        2000,
        1e-3,
        # A fast learning vision tower forgets more than it learns from the few objects of a dialogue.
        {"network.sam2": 0.0, "network.model.visual": 0.3, "": 1.0},
        lambda n: DialogueTrainer(n, echo=0.1),
        _questions(_PICTURES_AND_CLIPS, 6),
    ),
    Stage(
        "join",
        2400,
        # Gently: at twice the rate, places and shapes are lost first. SAM 2's memory was made for its image encoder,
        # and nothing is tracked here: so the encoder stays.
        4e-4,
        {"network.sam2.sam_mask_decoder": 0.3, "network.sam2": 0.0, "network.model.visual": 0.3, "": 1.0},
        lambda n: DialogueTrainer(n, masks=True, dense=0.5, echo=0.15),
        _questions(_MORE_CLIPS, 5, earlier=0.35),
    ),
    # What join asks for is there on the frame it is found on: it forgets that objects leave. Pictures stay as they are.
    Stage("follow", 600, 6e-4, _MEMORY, lambda n: SamTrainer(n.sam2), lambda _, n: long_clip_maker(n)),
    # A tower that has seen each shape in some of ten colours takes the colour for a part of the shape, and is lost at a
    # pair it never saw. Shades between those colours teach it to tell the two apart.
    Stage("tint", 1200, 6e-4, _EYES, VisionTrainer, _sights((3, 8), SHAPES_ONLY, SHADED_SHAPES)),
    # Then the words for what the tower tells apart now. SAM 2 stays.
    _words("settle", 2400, 5e-4, _SHADED, HARD_QUESTIONS),
    # Asked what a thing is, nano has learnt to leave its colour out when in doubt: no more of that.
    _words("say", 1300, 4e-4, _SHADED, HARD_QUESTIONS | {"what": 5.0, "color": 1.5, "similar": 1.5}),
    # Shapes in several colours at once, which cannot be taken for a part of the form; and what is no shape at all.
    Stage("fade", 3000, 4e-4, _EYES, VisionTrainer, _sights((3, 8), *_LOOKS), muon=True),
    # People mark what they see on any frame, also what is half hidden there. Beside the vision tower.
    Stage("sharpen", 1200, 5e-4, _SAM2, lambda n: SamTrainer(n.sam2), lambda _, n: moment_maker(n)),
    # Words for what both see now.
    _words("tell", 2200, 5e-4, _TOLD, LIST_QUESTIONS, 6, muon=True),
    # In lists, which thing comes next is chosen late, among all that fit; so is whether there is another one.
    _words("list", 2500, 5e-4, _TOLD, COUNT_QUESTIONS, 6, muon=True),
    # Beside it: keep hold of what leaves, comes late or is covered for a while.
    Stage("hold", 2400, 4e-4, _SAM2, lambda n: SamTrainer(n.sam2), lambda _, n: moment_maker(n), muon=True),
    # The rest of the world: first its looks, then what is said of it.
    Stage("name", 1500, 8e-4, _EYES, VisionTrainer, _sights((3, 8), SHAPES_ONLY, _NOUNS, _NOUNS)),
    Stage(
        "meet",
        1500,
        6e-4,
        {"network.sam2": 0.15, "network.model.visual": 0.5, "": 1.0},
        lambda n: DialogueTrainer(n, masks=True, dense=0.5, echo=0.3),
        _questions(_EVERYTHING, 5, earlier=0.35),
    ),
)

# What is run unless others are named: "name" and "meet" go on to the rest of the world.
SHAPES_ALONE = tuple(stage.name for stage in STAGES if stage.name not in ("name", "meet"))


def new_network(tokenizer: Tokenizer) -> Network:
    """Nano with random weights; its prompt encoder starts with the place encoding of its SAM 2."""
    token_ids = {token: cast("int", tokenizer.token_to_id(token)) for token in CONTROL_TOKENS}
    network = UniPixelForConditionalGeneration(nano_config(tokenizer.get_vocab_size(), token_ids))
    help_attention(network.sam2)
    network.prompt_encoder.space.load_state_dict(network.sam2.sam_prompt_encoder.state_dict())
    return network


@dataclass(frozen=True)
class Run:
    """How the stages are run on this machine: `scale` is the share of the steps, `batch` multiplies every batch."""

    scale: float = 1.0
    seed: int = 0
    batch: int = 1
    workers: int = 1
    device: str = "cpu"


def run_stage(
    stage: Stage, network: Network, tokenizer: Tokenizer, folder: Path, run: Run, hours: float | None
) -> bool:
    """Run a stage or go on with it; True (and a receipt) once it is complete."""
    seed = run.seed + STAGES.index(stage)
    torch.manual_seed(seed)
    trainer, maker = stage.trainer(network).to(run.device), stage.maker(tokenizer, run.batch)
    trainer.load_state_dict(grown(known_helpers(folder.parent), trainer.state_dict()), strict=False)
    schedule = Schedule(max(1, round(stage.steps * run.scale)), stage.rate, muon=stage.muon)
    started = time.time()

    def source(step: int) -> Iterator[Any]:
        return batches(maker, seed, step, run.workers)

    done = train(trainer, source, schedule, folder, stage.share, hours)
    if done:
        helpers = {k: v for k, v in trainer.state_dict().items() if not k.startswith(("network.", "sam2."))}
        save_file(helpers, folder / HELPERS)
        asked = dict(maker.kinds or {}) if isinstance(maker, DialogueMaker) else {}
        write_receipt(folder, stage, schedule, run, time.time() - started, asked)
    return done


def known_helpers(runs: Path) -> dict[str, torch.Tensor]:
    """What the helper heads have learnt in the stages that are complete."""
    helpers: dict[str, torch.Tensor] = {}
    for folder in (runs, *(runs / stage.name for stage in STAGES)):
        if (folder / HELPERS).is_file():
            helpers |= load_file(folder / HELPERS)
    return helpers


def grown(helpers: dict[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Helper heads for as many words as `fresh` has: what they have learnt, then new rows."""
    return {k: torch.cat([v, fresh[k][len(v) :]]) if k in fresh else v for k, v in helpers.items()}


def write_receipt(
    folder: Path, stage: Stage, schedule: Schedule, run: Run, seconds: float, questions: Mapping[str, float]
) -> None:
    """What was trained, on what, for how long, and what it reached."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    tail = [json.loads(line) for line in lines[-100:]]
    names = {name for figures in tail for name in figures} - {"step", "seconds"}
    means = {n: round(float(np.mean([f[n] for f in tail if n in f])), 4) for n in sorted(names)}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    receipt = {
        "stage": stage.name,
        "schedule": asdict(schedule),
        "trains": stage.trains,
        "questions": dict(questions),
        "run": asdict(run),
        "seconds_of_last_run": round(seconds),
        "torch": torch.__version__,
        "commit": commit,
        "last_100_steps": means,
    }
    (folder / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n")


def start_from(checkpoint: Path, runs: Path) -> None:
    """Let a run in `runs` begin where `checkpoint` stands: with its tokenizer, weights and helper heads."""
    runs.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", HELPERS, RECEIPTS):
        if (checkpoint / name).is_file():
            shutil.copy(checkpoint / name, runs)
    save_file({k: v.clone() for k, v in load_model(checkpoint).state_dict().items()}, runs / START)


def train_nano(
    runs: Path,
    out: Path,
    run: Run = Run(),
    hours: float | None = None,
    stages: Sequence[str] = SHAPES_ALONE,
) -> bool:
    """The stages named in `stages`, in order; after each the checkpoint goes to `out`. True once all are complete.

    A stage starts from all complete ones and keeps what it has changed. So stages that change different parts can run
    side by side in two processes, and the result is the same: point, then track, beside see. Called once more, it puts
    them together.
    """
    runs.mkdir(parents=True, exist_ok=True)
    if not (runs / "tokenizer.json").is_file():
        save_tokenizer(train_tokenizer(texts=max(2000, round(30_000 * min(run.scale, 1.0)))), runs)
    tokenizer = Tokenizer.from_file(str(runs / "tokenizer.json"))
    torch.manual_seed(run.seed)
    network = new_network(tokenizer)
    cast("nn.Module", network).to(run.device)  # in place
    # What no stage changes, such as SAM 2's random place encoding, must be the same in all of them.
    if not (runs / START).is_file():
        save_file({k: v.clone() for k, v in network.state_dict().items()}, runs / START)
    network.load_state_dict(load_file(runs / START))
    deadline = None if hours is None else time.monotonic() + hours * 3600
    complete = [stage for stage in STAGES if (runs / stage.name / NETWORK).is_file()]
    for stage in complete:
        network.load_state_dict(load_file(runs / stage.name / NETWORK), strict=False)
    wanted = [stage for stage in STAGES if stage.name in stages and stage not in complete]
    if not wanted:  # all of it was learnt before, maybe in several processes
        write_checkpoint(network, runs, out)
    for stage in wanted:
        folder = runs / stage.name
        before = {k: v.clone() for k, v in network.state_dict().items()}
        left = None if deadline is None else (deadline - time.monotonic()) / 3600
        if not run_stage(stage, network, tokenizer, folder, run, left):
            return False
        # Tied weights are one tensor: safetensors keeps each only once.
        learnt = {k: v.clone() for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
        save_file(learnt, folder / NETWORK)
        write_checkpoint(network, runs, out)
    return True


def write_checkpoint(network: Network, runs: Path, out: Path) -> None:
    """The checkpoint as `UniPixel.from_pretrained` loads it: 16-bit weights, tokenizer, receipts of all stages."""
    out.mkdir(parents=True, exist_ok=True)
    network.requires_grad_(False)
    save_model(network, out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(runs / name, out)
    save_file(known_helpers(runs), out / HELPERS)
    done = sorted(runs.glob(f"*/{RECEIPT}"), key=lambda path: path.stat().st_mtime)
    receipts = [json.loads(path.read_text()) for path in done]
    if (runs / RECEIPTS).is_file():  # those of the checkpoint this run went on from
        receipts = [*json.loads((runs / RECEIPTS).read_text()), *receipts]
    (out / RECEIPTS).write_text(json.dumps(receipts, indent=2) + "\n")


def main(argv: Sequence[str]) -> int:
    """`python -m unipixel train nano`."""
    parser = argparse.ArgumentParser("unipixel train", description="Train the embedded nano checkpoint from nothing.")
    parser.add_argument("what", choices=[NANO])
    parser.add_argument("--runs", type=Path, default=Path("runs/nano"), help="where stages keep their state")
    parser.add_argument(
        "--output_dir", type=Path, default=None, help="where the checkpoint goes (default: assets/nano)"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps of every stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=None, help="stop after so long; run again to go on")
    parser.add_argument("--from", dest="start", type=Path, default=None, help="go on from this checkpoint")
    names = ",".join(stage.name for stage in STAGES)
    usual = ",".join(SHAPES_ALONE)
    parser.add_argument("--stages", default=usual, help=f"which of {names} to run (default: {usual})")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: the best there is)")
    parser.add_argument("--batch", type=int, default=1, help="multiplies every batch, for a GPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw scenes")
    options = parser.parse_args(argv)
    keep_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    stages = options.stages.split(",")
    if unknown := set(stages) - {stage.name for stage in STAGES}:
        raise ValueError(f"There is no stage {min(unknown)!r}; the stages are {names}.")
    if options.start is not None and not (options.runs / START).is_file():
        start_from(options.start, options.runs)
    out = options.output_dir or find_checkpoint(NANO)
    device = str(pick_device(options.device))
    run = Run(options.scale, options.seed, options.batch, options.workers, device)
    done = train_nano(options.runs, out, run, options.hours, stages)
    print("The checkpoint is complete." if done else "Stopped in time; run the same command again to go on.")
    return 0
