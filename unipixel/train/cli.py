"""`python -m unipixel train`: a stage on own data, or `train nano` for the embedded checkpoint."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unipixel.engine import NANO
from unipixel.train.recipes import RECIPES, Recipe

ABOUT = """\
Train one stage of UniPixel: prompts (the prompt encoder), seg (the seg head) or joint (everything, the towers through
LoRA). `train nano` makes the embedded checkpoint instead (see `train nano --help`). Run the same command again to go on
with a run that was stopped; start it with `accelerate launch -m unipixel train ...` for several GPUs."""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `train`."""
    parser = argparse.ArgumentParser(
        "unipixel train", description=ABOUT, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, help="data folders (docs/own_data.md), or world for the drawn world")
    add(
        "--from",
        dest="start",
        default=NANO,
        help="nano, a UniPixel or Qwen2.5-VL checkpoint (folder or hub id), or new",
    )
    add("--sam2", type=Path, help="SAM 2.1 weights (.pt or .safetensors), to start from Qwen2.5-VL")
    add("--stage", choices=list(RECIPES), default="joint", help="what learns")
    add("--output_dir", type=Path, default=Path("runs/train"), help="where run and checkpoint go")
    add("--steps", type=int, default=400, help="optimiser steps")
    add("--hours", type=float, help="stop after so long; run again to go on")
    add("--batch", type=int, default=8, help="pictures or clips a process and step")
    add("--accumulate", type=int, default=1, help="batches an optimiser step")
    add("--exchanges", type=int, default=1, help="questions asked about each picture or clip")
    add("--max_frames", type=int, default=8, help="frames sampled from a clip")
    add("--rate_scale", type=float, help="factor for all learning rates (1, and 25 for networks of nano's size)")
    add("--lora_rank", type=int, default=128)
    add("--lora_alpha", type=int, default=256)
    add("--lora_dropout", type=float, default=0.05)
    add("--precision", choices=["bf16", "fp32"], default="bf16")
    add("--checkpointing", action="store_true", help="compute activations twice, to save memory")
    add("--save_every", type=int, default=100, help="steps between checkpoints")
    add("--log_every", type=int, default=10, help="steps between reports")
    add("--workers", type=int, default=0, help="processes that load data")
    add("--seed", type=int, default=0)
    return parser


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """The stage with LoRA's numbers as given."""
    recipe = RECIPES[options.stage]
    if recipe.lora is None:
        return recipe
    lora = replace(recipe.lora, rank=options.lora_rank, alpha=options.lora_alpha, dropout=options.lora_dropout)
    return replace(recipe, lora=lora)


def check(options: argparse.Namespace) -> None:
    """ValueError for numbers that no run can be made with."""
    for name in ("steps", "batch", "accumulate", "exchanges", "max_frames", "lora_rank", "save_every", "log_every"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(options, name)}.")
    if not 0 <= options.lora_dropout < 1:
        raise ValueError(f"--lora_dropout must be from 0 to below 1, not {options.lora_dropout:g}.")
    if importlib.util.find_spec("accelerate") is None:
        raise ValueError("Training needs accelerate; install it with `pip install accelerate tensorboard`.")


def main(argv: Sequence[str]) -> int:
    """`python -m unipixel train`: exit code 0 when the stage is complete or stopped in time."""
    if argv and argv[0] == NANO:
        from unipixel.train import nano

        return nano.main(argv)
    options = build_parser().parse_args(argv)
    check(options)
    from unipixel.train.run import Settings, train_stage  # needs accelerate

    settings = Settings(
        data=tuple(options.data),
        start=options.start,
        sam2=str(options.sam2) if options.sam2 else None,
        steps=options.steps,
        batch=options.batch,
        accumulate=options.accumulate,
        exchanges=options.exchanges,
        max_frames=options.max_frames,
        rate_scale=options.rate_scale,
        seed=options.seed,
        precision=options.precision,
        checkpointing=options.checkpointing,
        save_every=options.save_every,
        log_every=options.log_every,
        workers=options.workers,
    )
    if train_stage(chosen_recipe(options), settings, options.output_dir, options.hours):
        print(f"The checkpoint is complete: python app.py --model {options.output_dir}")
    else:
        print("Stopped in time; run the same command again to go on.")
    return 0
