"""Checkpoints on disk <-> the network, loud on every mismatch.

On disk we keep the released layout, so that a checkpoint of ours works in the original's code too: Qwen's older
key names (`visual.*`, `model.layers.*`), `gamma` of SAM 2's fuser as `weight`, the prompt encoder as separate modules.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unipixel.config import UniPixelConfig
from unipixel.model.unipixel import UniPixelForConditionalGeneration

# (name on disk, name in memory), both directions; the first match counts. Newer layouts already start with "model.".
_RENAMES = (
    (r"^visual\.", "model.visual."),
    (r"^model\.(layers|embed_tokens|norm)\b", r"model.language_model.\1"),
    (r"^(sam2\.memory_encoder\.fuser\.layers\.\d+)\.weight$", r"\1.gamma"),
    (r"^ref_encoder\.", "prompt_encoder.space."),
    (r"^ref_proj_single\.", "prompt_encoder.project_point."),
    (r"^ref_proj_double\.", "prompt_encoder.project_box."),
    (r"^ref_proj\.", "prompt_encoder.project."),
    (r"^tem_pe\.", "prompt_encoder.time."),
    (r"^tem_emb\.", "prompt_encoder.time_embedding."),
    (r"^tem_proj\.", "prompt_encoder.project_time."),
    (r"^msk_proj\.", "region_encoder."),
)
# Small, and built on position encodings that half the digits would blur: they stay in float32 in every number format.
_PRECISE = ("sam2.", "prompt_encoder.")
_RENAMES_BACK = (
    (r"^model\.visual\.", "visual."),
    (r"^model\.language_model\.", "model."),
    (r"^(sam2\.memory_encoder\.fuser\.layers\.\d+)\.gamma$", r"\1.weight"),
    *((f"^{re.escape(memory)}", disk.strip("^").replace("\\", "")) for disk, memory in _RENAMES[3:]),
)


def _rename(key: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in table:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


def disk_to_memory(key: str) -> str:
    """A tensor's name in a checkpoint (older or newer layout) -> its name in the network."""
    return _rename(key, _RENAMES)


def memory_to_disk(key: str) -> str:
    """A tensor's name in the network -> its name in the released layout."""
    return _rename(key, _RENAMES_BACK)


def read_config(folder: Path) -> UniPixelConfig:
    """The checkpoint's configuration; fields it does not have get the released model's values."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder.name} holds no config.json, so it is not a checkpoint.")
    try:
        values = json.loads(path.read_text())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} is damaged; download it again.")
    kind = values.pop("model_type", None)
    if kind != UniPixelConfig.model_type:
        raise ValueError(f"{path.name} describes a {kind!r} model, not {UniPixelConfig.model_type!r}.")
    return UniPixelConfig(**values)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, single or sharded."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [folder / name for name in names]
    return [folder / "model.safetensors"]


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint under their names in the network."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise ValueError(f"The checkpoint lacks {path.name}.")
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({disk_to_memory(key): file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        except Exception as error:
            raise ValueError(f"{path.name} is damaged or incomplete; download it again.") from error
    return tensors


def check_tensors(model: nn.Module, tensors: Mapping[str, Tensor], tied: set[str]) -> None:
    """ValueError naming every missing, unexpected, wrongly shaped or non-finite tensor."""
    expected = model.state_dict()
    missing = sorted(set(expected) - set(tensors) - tied)
    unexpected = sorted(set(tensors) - set(expected))
    shaped = [k for k in expected if k in tensors and expected[k].shape != tensors[k].shape]
    broken = [
        k for k, v in tensors.items() if v.is_floating_point() and not bool(v.sum(dtype=torch.float32).isfinite())
    ]
    problems = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for what, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shaped),
            ("not finite", broken),
        )
        if names
    ]
    if problems:
        raise ValueError(f"The checkpoint's tensors do not fit the model: {'; '.join(problems)}.")


def load_model(
    folder: Path, dtype: torch.dtype = torch.float32, config: UniPixelConfig | None = None
) -> UniPixelForConditionalGeneration:
    """Build the network of a merged checkpoint in `folder` with its weights, in evaluation mode, on the CPU.

    SAM 2 and the prompt encoder are in float32 whatever `dtype` says. `config` replaces the checkpoint's own, where
    that names a SAM 2 that is not known.
    """
    config = config or read_config(folder)
    tensors = read_tensors(folder)
    with torch.device("meta"):
        model = UniPixelForConditionalGeneration(config)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    check_tensors(model, tensors, tied)
    formats = {k: torch.float32 if k.startswith(_PRECISE) else dtype for k in tensors}
    model.load_state_dict({k: v.to(formats[k]) for k, v in tensors.items()}, strict=False, assign=True)
    if tied:
        model.lm_head.weight = cast("nn.Embedding", model.get_input_embeddings()).weight
    restore_constants(model)
    return model.eval().requires_grad_(False)


def restore_constants(model: UniPixelForConditionalGeneration) -> None:
    """Compute what no checkpoint stores (rotary frequencies) after building on the meta device."""
    rotary: tuple[Any, ...] = (model.model.visual.rotary_pos_emb, model.model.language_model.rotary_emb)
    for module in rotary:
        module.__init__(module.config)


def save_model(model: UniPixelForConditionalGeneration, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model.safetensors` and `config.json` in the released layout."""
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    tensors = {memory_to_disk(k): v.detach().to("cpu", dtype).contiguous() for k, v in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2, default=str) + "\n")


def weights_hash(folder: Path) -> str:
    """SHA-256 over the checkpoint's weight files: what a receipt names the weights by."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
