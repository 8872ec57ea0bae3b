"""A plain, resumable training loop: one model, one optimiser, batches from a generator."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# Options of glibc's mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


@dataclass(frozen=True)
class Schedule:
    """`steps` in all, learning rate `peak` after `warmup` steps, then a cosine down to a fiftieth of it.

    With `muon`, the matrices of transformer blocks move by Muon (orthogonalised momentum, at AdamW's size of step).
    """

    steps: int
    peak: float
    warmup: int = 100
    save_every: int = 200
    muon: bool = False

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its state: the weights that learn and their moments as safetensors, the step beside them.

    Frozen weights are not the run's: another one may have changed them since the state was written.
    """

    folder: Path

    def save(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
        """Write all, then swap it in: a kill at any moment leaves the last whole state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        state = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items() if k in learning}
        for n, optimizer in enumerate(optimizers):
            for i, moments in optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{n}.{i}.{k}": torch.as_tensor(v).contiguous() for k, v in moments.items()}
        part = self.folder / "state.part"
        save_file({k: v.clone() for k, v in state.items()}, part, metadata={"step": str(step)})
        part.replace(self.folder / "state.safetensors")

    def load(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
        """Restore the last state, if there is one; returns the step to go on from."""
        path = self.folder / "state.safetensors"
        if not path.is_file():
            return 0
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        state = load_file(path)
        weights = {k[6:]: v for k, v in state.items() if k.startswith("model.")}
        if unknown := model.load_state_dict(weights, strict=False).unexpected_keys:
            raise ValueError(f"{path} is of another network: it has {unknown[0]!r}.")
        for n, optimizer in enumerate(optimizers):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in state.items():
                if key.startswith(f"optimizer.{n}."):
                    _, _, index, name = key.split(".", 3)
                    moments.setdefault(int(index), {})[name] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        return step


def make_optimizers(model: nn.Module, schedule: Schedule, rates: Callable[[str], float]) -> list[torch.optim.Optimizer]:
    """AdamW for the parameters that learn (`rates` above 0); with `schedule.muon`, Muon for the blocks' matrices.

    Every group of theirs has a `scale`, the share of the learning rate it gets. All other parameters are frozen.
    """
    groups: dict[bool, dict[float, list[nn.Parameter]]] = {False: {}, True: {}}
    for name, parameter in model.named_parameters():
        share = rates(name)
        parameter.requires_grad_(share > 0)
        matrix = parameter.ndim == 2 and bool({"blocks", "layers"} & set(name.split(".")))
        if share > 0:
            groups[schedule.muon and matrix].setdefault(share, []).append(parameter)
    plain, matrices = ([{"params": p, "scale": s} for s, p in groups[kind].items()] for kind in (False, True))
    decay = 0.01
    optimizers: list[torch.optim.Optimizer] = []
    if plain:
        optimizers.append(torch.optim.AdamW(plain, lr=schedule.peak, betas=(0.9, 0.98), weight_decay=decay))
    if matrices:
        how: dict[str, Any] = {"lr": schedule.peak, "weight_decay": decay, "adjust_lr_fn": "match_rms_adamw"}
        optimizers.append(torch.optim.Muon(matrices, **how))
    return optimizers


def train(
    model: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    schedule: Schedule,
    folder: Path,
    rates: Callable[[str], float] = lambda name: 1.0,
    hours: float | None = None,
) -> bool:
    """Train `model` (whose forward gives loss and figures) from its last state; True once all steps are done.

    `batches(step)` yields the batches from `step` on, `rates(name)` scales the learning rate of a parameter (0 freezes
    it). Stops early after `hours`. Figures are appended to `log.jsonl`.
    """
    optimizers = make_optimizers(model, schedule, rates)
    device = next(model.parameters()).device
    checkpoint = Checkpoint(folder)
    step = checkpoint.load(model, optimizers)
    model.train()
    started, source = time.monotonic(), batches(step)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as log:
        while step < schedule.steps:
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group["lr"] = schedule.rate(step) * group["scale"]
            batch = to_device(next(source), device)
            figures = _step(model, optimizers, batch)
            step += 1
            log.write(json.dumps({"step": step, "seconds": round(time.monotonic() - started, 1), **figures}) + "\n")
            log.flush()
            late = hours is not None and time.monotonic() - started > hours * 3600
            if step % schedule.save_every == 0 or step == schedule.steps or late:
                checkpoint.save(model, optimizers, step)
            if late:
                break
    return step >= schedule.steps


def keep_memory() -> None:
    """Let this process keep the memory it frees, where the C library is glibc.

    Otherwise large tensors come from the system at every step, page by page: up to a quarter of a step on CPUs.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in ((_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
            mallopt(option, value)


def to_device(value: Any, device: torch.device) -> Any:
    """The same batch with every tensor in it on `device`: in dataclasses, lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(v, device) for v in value)
    if isinstance(value, dict):
        return {k: to_device(v, device) for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return value


def _step(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], batch: Any) -> dict[str, float]:
    """One update in bfloat16 autocast (five times faster than float32 on recent CPUs); a non-finite one is skipped."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    for optimizer in optimizers:
        optimizer.zero_grad()
    # SDPA's flash kernel has a slow backward pass on CPUs for the small windows used here.
    with sdpa_kernel(SDPBackend.MATH):
        with torch.autocast(parameters[0].device.type, torch.bfloat16):
            loss, figures = model(batch)
        loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    if bool(norm.isfinite()):
        for optimizer in optimizers:
            optimizer.step()
    return {"norm": round(float(norm), 3), **{k: round(v, 4) for k, v in figures.items()}}
