"""transformers' Trainer with what UniPixel needs: its loss, a rate a part, batches of one kind, small checkpoints."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unipixel.train.adapt import load_trained, trained_tensors
from unipixel.train.draws import Draws, KindSampler
from unipixel.train.joint import JointModel
from unipixel.train.recipes import Recipe

TRAINED = "trained.safetensors"
_STATE = "trainer_state.json"


class JointTrainer(Trainer):
    """Trains a `JointModel` as a recipe says."""

    def __init__(self, model: JointModel, recipe: Recipe, **how: Any) -> None:
        super().__init__(model=model, **how)
        self.recipe = recipe
        self._figures: dict[str, list[Tensor]] = defaultdict(list)

    def _get_train_sampler(self, train_dataset: Any = None) -> KindSampler:
        """All sequences of one step, over all processes, are of one kind."""
        draws, args = cast("Draws", self.train_dataset), self.args
        group = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return KindSampler(draws.kind, args.max_steps, group)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW without decay (weights that were pretrained should stay near where they are), a group for each rate."""
        if self.optimizer is None:
            groups: dict[float, list[Tensor]] = defaultdict(list)
            for name, parameter in cast("nn.Module", model or self.model).named_parameters():
                if parameter.requires_grad:
                    groups[self.recipe.rate(name.split("network.", 1)[-1])].append(parameter)
            self.optimizer = torch.optim.AdamW(
                [{"params": parameters, "lr": rate} for rate, parameters in groups.items()],
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                weight_decay=0.0,
            )
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        for name, value in outputs.items():
            if name != "loss":
                self._figures[name].append(value)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """One forward and backward pass.

        SDPA's flash kernel has a slow backward pass on CPUs for the small attention windows used here. Activations
        that are computed twice must take the same way both times, so the choice holds for both passes.
        """
        with sdpa_kernel(SDPBackend.MATH) if self.args.device.type == "cpu" else nullcontext():
            return super().training_step(model, inputs, num_items_in_batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's parts since the last report (of this process)."""
        if "loss" in logs:
            logs |= {name: round(float(torch.stack(v).mean()), 4) for name, v in self._figures.items()}
            self._figures.clear()
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save only what learns: the rest lies in the checkpoint that the run started from."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or cast("str", self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        network = cast("JointModel", self.accelerator.unwrap_model(self.model)).network
        own = trained_tensors(network)
        # Where parameters are spread over processes, the whole tensors come from outside.
        whole = {k.split("network.", 1)[-1]: v for k, v in state_dict.items()} if state_dict else own
        save_file({k: whole[k].cpu().clone().contiguous() for k in own}, folder / TRAINED)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        network = cast("JointModel", model or self.model).network
        load_trained(network, load_file(Path(resume_from_checkpoint) / TRAINED))


class StopInTime(TrainerCallback):
    """Saves and stops after so many hours; the same command goes on from there."""

    def __init__(self, hours: float | None) -> None:
        self.deadline = None if hours is None else time.monotonic() + hours * 3600

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            control.should_save = control.should_training_stop = True


def last_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run: one whose state, which is written last, can be read."""
    folders = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    return next((folder for folder in folders if _is_whole(folder)), None)


def _is_whole(folder: Path) -> bool:
    try:
        return isinstance(json.loads((folder / _STATE).read_text())["global_step"], int)
    except (OSError, ValueError, KeyError):
        return False
