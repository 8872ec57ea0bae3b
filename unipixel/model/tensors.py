"""Tensors of a checkpoint: their names on disk and in the network, reading them, comparing them with what is wanted.

On disk we keep the released layout: Qwen's older key names (`visual.*`, `model.layers.*`), `gamma` of SAM 2's fuser as
`weight`, the prompt encoder as separate modules. Files in the newer layout (`model.visual.*`) are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

# Before every name that peft's wrapper saves.
PEFT_PREFIX = "base_model.model."

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


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file under their names in the network."""
    if not path.is_file():
        raise ValueError(f"The checkpoint lacks {path.name}.")
    try:
        with safe_open(path, framework="pt") as file:
            # Parts that were trained beside an adapter carry the prefix of peft's wrapper.
            names = {key: disk_to_memory(key.removeprefix(PEFT_PREFIX)) for key in file.keys()}  # noqa: SIM118
            return {name: file.get_tensor(key) for key, name in names.items()}
    except Exception as error:
        raise ValueError(f"{path.name} is damaged or incomplete; download it again.") from error


def check_tensors(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], optional: Set[str] = frozenset()
) -> None:
    """ValueError naming every missing, unexpected, wrongly shaped or non-finite tensor."""
    missing = sorted(set(expected) - set(tensors) - optional)
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
