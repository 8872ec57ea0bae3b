"""One stage from start to checkpoint: the same command goes on where a stopped or killed run stood."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nncore
import torch
import transformers
from accelerate.utils import parse_flag_from_env
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainingArguments

from unipixel import __version__
from unipixel.checkpoints import weights_hash
from unipixel.data.drawn import DrawnScenes
from unipixel.data.own import find_list, read_folder
from unipixel.data.sample import Mixture, Task
from unipixel.data.samplers import FIND, PLAIN
from unipixel.data.world import REFER_KINDS, REGION_KINDS
from unipixel.model.weights import load_model
from unipixel.train.adapt import load_trained, merge_lora, prepare
from unipixel.train.draws import Draws, fitting
from unipixel.train.items import ItemMaker, collate
from unipixel.train.joint import JointModel
from unipixel.train.recipes import Recipe
from unipixel.train.starts import find_start, save_checkpoint
from unipixel.train.trainer import TRAINED, JointTrainer, StopInTime, last_checkpoint

WORLD = "world"  # the drawn world in place of a folder
_WORLD_SCENES = 100_000  # where there is nothing else
_SMALL = 1024  # hidden size under which a language model counts as small


@dataclass(frozen=True)
class Settings:
    """How a stage is run: `data` are folders (or "world"), `start` what `find_start` takes, `batch` media a process.

    `rate_scale` multiplies all learning rates (None: 1, and 25 for small networks, which take larger steps),
    `exchanges` is how many questions are asked about each media.
    """

    data: tuple[str, ...]
    start: str
    sam2: str | None = None
    steps: int = 400
    batch: int = 8
    accumulate: int = 1
    exchanges: int = 1
    max_frames: int = 8
    rate_scale: float | None = None
    seed: int = 0
    precision: str = "bf16"
    checkpointing: bool = False
    save_every: int = 100
    log_every: int = 10
    workers: int = 0


def read_data(names: tuple[str, ...], forms: Mapping[str, float], seed: int) -> list[Task]:
    """A task for each name, with the samples that fit `forms`; a folder that is named twice counts twice.

    The drawn world has as many scenes as all folders have samples, so that neither drowns the other.
    """
    folders = [fitting(read_folder(Path(name)), forms) for name in names if name != WORLD]
    scenes = sum(map(len, folders)) if folders else _WORLD_SCENES
    finding = tuple(kind for kind in REFER_KINDS if kind != "absent") if FIND in forms else ()
    world = Task(WORLD, DrawnScenes(scenes, seed, kinds=None if PLAIN in forms else (*REGION_KINDS, *finding)))
    return [*folders, *[world] * names.count(WORLD)]


def train_stage(recipe: Recipe, settings: Settings, out: Path, hours: float | None = None) -> bool:
    """Run a stage or go on with it; True once `out` holds the finished checkpoint and its receipt.

    ValueError if `out` holds a run with other settings or the data allows nothing of what the stage learns.
    """
    run = out / "run"
    args = training_arguments(settings, recipe, run)
    with args.main_process_first():
        _same_run(recipe, settings, run)
        start = find_start(settings.start, Path(settings.sam2) if settings.sam2 else None, out)
    tokenizer = AutoTokenizer.from_pretrained(start)
    # Spread parameters must be of one format, so only a plain GPU keeps what is frozen in 16 bits.
    spread = parse_flag_from_env("ACCELERATE_USE_FSDP")
    short = settings.precision == "bf16" and args.device.type == "cuda" and not spread
    network = load_model(start, torch.bfloat16 if short else torch.float32)
    recipe = scaled(recipe, settings.rate_scale or (25.0 if network.config.text.hidden_size < _SMALL else 1.0))
    torch.manual_seed(settings.seed)  # adapters start at random
    prepare(network, recipe)
    if settings.checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    trainer = JointTrainer(
        JointModel(network),
        recipe,
        args=args,
        train_dataset=draws_of(recipe, settings, ItemMaker(tokenizer, network.config, recipe.marks)),
        data_collator=BatchMaker(int(tokenizer.pad_token_id), network.config.seg_token_id),
        callbacks=[StopInTime(hours)],
    )
    started, last = time.time(), last_checkpoint(run)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if trainer.state.global_step < settings.steps:
        return False
    final = last_checkpoint(run)
    assert final is not None  # the last step is always saved
    if trainer.is_world_process_zero():
        export(start, recipe, final, out)
        write_receipt(out, recipe, settings, start, trainer, time.time() - started)
    return True


def scaled(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with all learning rates multiplied."""
    return replace(recipe, rates={part: rate * factor for part, rate in recipe.rates.items()})


def training_arguments(settings: Settings, recipe: Recipe, run: Path) -> TrainingArguments:
    """What transformers' Trainer is told; devices and processes are accelerate's business."""
    return TrainingArguments(
        output_dir=str(run),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=max(recipe.rates.values()),
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(recipe.warmup * settings.steps)),
        max_grad_norm=1.0,
        bf16=settings.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_steps=settings.log_every,
        logging_first_step=True,
        report_to=["tensorboard"] if importlib.util.find_spec("tensorboard") else [],
        dataloader_num_workers=settings.workers,
        remove_unused_columns=False,
        ddp_find_unused_parameters=True,  # a batch without masks leaves SAM 2 alone
    )


def draws_of(recipe: Recipe, settings: Settings, make: ItemMaker) -> Draws:
    """The data of a stage as draws; ValueError if it allows nothing of what the stage learns."""
    tasks = tuple(read_data(settings.data, recipe.forms, settings.seed))
    if not sum(map(len, tasks)):
        raise ValueError(
            f"Nothing in the data fits the stage {recipe.name}: it learns from {' and '.join(recipe.forms)} questions."
        )
    return Draws(
        Mixture(tasks, settings.seed),
        make,
        recipe.forms,
        length=settings.steps * settings.batch * settings.accumulate,
        max_frames=settings.max_frames,
        exchanges=settings.exchanges,
        seed=settings.seed,
    )


@dataclass(frozen=True)
class BatchMaker:
    """The collate function of a loader (a value, so that worker processes can have it)."""

    pad_id: int
    seg_id: int

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        return {"batch": collate(items, self.pad_id, self.seg_id)}


def export(start: Path, recipe: Recipe, checkpoint: Path, out: Path) -> None:
    """Merge what a run learnt into the checkpoint it started from: a checkpoint that loads without any flag."""
    network = load_model(start)
    prepare(network, recipe)
    load_trained(network, load_file(checkpoint / TRAINED))
    merge_lora(network)
    save_checkpoint(network, AutoTokenizer.from_pretrained(start), out)


# -------------------------------------------------------------------------------------------------- settings, receipt


def _same_run(recipe: Recipe, settings: Settings, run: Path) -> None:
    """Note what a run is made with, or compare: a run cannot change under way."""
    # What is learnt does not depend on how often is saved or reported, nor on how many processes load data.
    free = dict.fromkeys(("save_every", "log_every", "workers"), None)
    wanted = nncore.loads(nncore.dumps({"recipe": asdict(recipe), "settings": asdict(settings) | free}, "json"), "json")
    path = run / "settings.json"
    if path.is_file():
        if nncore.load(str(path)) != wanted:
            raise ValueError(f"{run.parent.name} holds a run with other settings; choose another --output_dir.")
        return
    nncore.dump(wanted, str(path), indent=2)


def write_receipt(
    out: Path, recipe: Recipe, settings: Settings, start: Path, trainer: JointTrainer, seconds: float
) -> None:
    """What was trained from what, on what, and what it reached."""
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    folder = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    receipt = {
        "recipe": asdict(recipe),
        "settings": asdict(settings) | {"data": [Path(name).name for name in settings.data]},
        "data": [_describe_data(name) for name in settings.data],
        "start": {"name": start.name, "weights": weights_hash(start)},
        "weights": weights_hash(out),
        "processes": trainer.args.world_size,
        "seconds_of_last_run": round(seconds),
        "versions": {"unipixel": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "commit": commit.stdout.strip(),
        "metrics": {"first": history[0], "last": history[-1]},
    }
    nncore.dump(receipt, str(out / "receipt.json"), indent=2)


def _describe_data(name: str) -> dict[str, Any]:
    if name == WORLD:
        return {"name": WORLD}
    path = find_list(Path(name))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": Path(name).name, "samples": len(read_folder(Path(name))), "sha256": digest}
