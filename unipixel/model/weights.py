"""Checkpoints on disk <-> the network, loud on every mismatch. What we save works in the original's code too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unipixel.checkpoints import ADAPTER_FILE, PARTIAL_FILE, find_base, read_config, weight_files
from unipixel.config import UniPixelConfig
from unipixel.model.adapters import merge_adapter
from unipixel.model.tensors import check_tensors, memory_to_disk, read_file
from unipixel.model.unipixel import UniPixelForConditionalGeneration

# Small, and built on position encodings that half the digits would blur: they stay in float32 in every number format.
PRECISE = ("sam2.", "prompt_encoder.")

ATTENTION = ("sdpa", "eager", "flash_attention_2")


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint under their names in the network; those of an adapter's base without its LoRA."""
    base = find_base(folder)
    files = weight_files(folder if base is None else base)
    if base is not None and (folder / PARTIAL_FILE).is_file():
        files.append(folder / PARTIAL_FILE)  # what was trained replaces what the base had
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors |= read_file(path)
    return tensors


def load_model(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    config: UniPixelConfig | None = None,
    attn_implementation: str = "sdpa",
) -> UniPixelForConditionalGeneration:
    """Build the network of the checkpoint in `folder` with its weights, in evaluation mode, on the CPU.

    An adapter is merged into its base. SAM 2 and the prompt encoder are in float32 whatever `dtype` says. `config`
    replaces the checkpoint's own, where that names a SAM 2 that is not known. `attn_implementation` is one of
    `ATTENTION`, for the language model and the vision tower.
    """
    config = config or read_config(folder)
    if attn_implementation not in ATTENTION:
        raise ValueError(f"attn_implementation must be {', '.join(ATTENTION)}, not {attn_implementation!r}.")
    config._attn_implementation = attn_implementation
    tensors = read_tensors(folder)
    try:
        with torch.device("meta"):
            model = UniPixelForConditionalGeneration(config)
    except ImportError as error:
        raise ValueError(f"{attn_implementation} needs a package that is not installed here.") from error
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    check_tensors(model.state_dict(), tensors, tied)
    formats = {k: torch.float32 if k.startswith(PRECISE) else dtype for k in tensors}
    model.load_state_dict({k: v.to(formats[k]) for k, v in tensors.items()}, strict=False, assign=True)
    if tied:
        model.lm_head.weight = cast("nn.Embedding", model.get_input_embeddings()).weight
    restore_constants(model)
    model.eval().requires_grad_(False)
    if (folder / ADAPTER_FILE).is_file():
        merge_adapter(model, folder)
    return model


def restore_constants(model: UniPixelForConditionalGeneration) -> None:
    """Compute what no checkpoint stores (rotary frequencies) after building on the meta device."""
    rotary: tuple[Any, ...] = (model.model.visual.rotary_pos_emb, model.model.language_model.rotary_emb)
    for module in rotary:
        module.__init__(module.config)


def save_model(model: UniPixelForConditionalGeneration, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model.safetensors` and `config.json` in the released layout; ValueError for a quantised model."""
    if any(not p.is_floating_point() for p in model.parameters()):
        raise ValueError("A model in 8 or 4 bits cannot be saved; load it in another format.")
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    tensors = {memory_to_disk(k): v.detach().to("cpu", dtype).contiguous() for k, v in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2, default=str) + "\n")
