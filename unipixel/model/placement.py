"""Where and in which numbers the network lies: on one device, or its layers spread over several (accelerate)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_max_memory
from torch import nn

from unipixel.model.quantize import BITS
from unipixel.model.unipixel import UniPixelForConditionalGeneration

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYERS = "model.language_model.layers"
Device = int | str | torch.device


def pick_device(name: str | None) -> torch.device:
    """The device called `name`, or the best one of this machine."""
    if name is not None:
        try:
            return torch.device(name)
        except RuntimeError:
            raise ValueError(f"There is no device called {name!r}; use cpu, cuda, cuda:0 or mps.") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format called `name`; "auto" is float32 on a CPU and bfloat16 elsewhere.

    For int8 and int4 it is that of everything that is not quantised.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name in BITS:
        return torch.bfloat16
    if name not in _DTYPES:
        raise ValueError(f"dtype must be auto, {', '.join([*_DTYPES, *BITS])}, not {name!r}.")
    return _DTYPES[name]


def spread(model: UniPixelForConditionalGeneration, device_map: str | Mapping[str, Device], main: torch.device) -> None:
    """Spread the layers of the language model, in place; everything else lies on `main`.

    `device_map` is "auto" (devices in order, as far as their free memory goes, then the CPU, then the disk) or names
    layers ("model.language_model.layers.0") and their devices. ValueError for a name that is no layer.
    """
    wanted = _fill_devices(model, main) if isinstance(device_map, str) else dict(device_map)
    if isinstance(device_map, str) and device_map != "auto":
        raise ValueError(f'device_map must be "auto" or name layers and their devices, not {device_map!r}.')
    layers = [f"{LAYERS}.{i}" for i in range(len(model.model.language_model.layers))]
    for name in wanted:
        if name not in layers:
            raise ValueError(f"device_map names {name!r}, which is none of {layers[0]} to {layers[-1]}.")
    places: dict[str, Device] = dict.fromkeys(_other_parts(model), main)
    places |= {name: wanted.get(name, main) for name in layers}
    on_disk = "disk" in wanted.values()
    folder = tempfile.mkdtemp(prefix="unipixel-") if on_disk else None
    dispatch_model(model, places, main_device=main, offload_dir=folder, skip_keys="past_key_values")


def _other_parts(model: nn.Module) -> list[str]:
    """The largest modules that hold no layer of the language model."""
    names = [name for name, _ in model.named_children() if name != "model"]
    inside = model.get_submodule("model.language_model").named_children()
    return [*names, "model.visual", *(f"model.language_model.{n}" for n, _ in inside if n != "layers")]


def _fill_devices(model: UniPixelForConditionalGeneration, main: torch.device) -> dict[str, Device]:
    """Layers on accelerators in order, then on the CPU, as far as free memory goes."""
    if main.type == "cpu":
        return {}
    layers = model.model.language_model.layers
    held = {id(p) for p in layers.parameters()}
    others = sum(p.numel() * p.element_size() for p in model.parameters() if id(p) not in held)
    free = get_max_memory()
    first = main.index or 0
    # A quarter stays free for what is computed there.
    free = {place: int(0.75 * size) for place, size in free.items() if place == "cpu" or place >= first}
    free[first] = max(free[first] - others, 0)
    limits: dict[int | str, int | str] = {**free}
    found = infer_auto_device_map(layers, max_memory=limits, no_split_module_classes=[type(layers[0]).__name__])
    return {f"{LAYERS}.{name}": place for name, place in found.items()}
