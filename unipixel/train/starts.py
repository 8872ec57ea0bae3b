"""Where training starts: a UniPixel checkpoint, Qwen2.5-VL with SAM 2.1, or nothing; and how it is saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoTokenizer

from unipixel.config import SAM2_SIZES, UniPixelConfig
from unipixel.engine import NANO, find_checkpoint
from unipixel.grammar import UNIPIXEL_TOKENS
from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.model.weights import memory_to_disk, read_tensors
from unipixel.train.nano import new_network

NEW = "new"
QWEN = "qwen2_5_vl"
# (width of the first layer, number of blocks) of SAM 2.1's image encoder -> its size.
_SAM2_SHAPES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
_PRECISE = ("sam2.", "prompt_encoder.")


def find_start(name: str, sam2: Path | None, work: Path) -> Path:
    """The folder of the UniPixel checkpoint that training starts from.

    `name` is a UniPixel checkpoint ("nano", folder or hub id), a Qwen2.5-VL checkpoint (with the SAM 2.1 weights `sam2`
    it is put together in `work`), or "new": a small network with random weights, put there too.
    """
    ready = work / "start"
    if name == NEW:
        return ready if (ready / "config.json").is_file() else new_start(ready)
    folder = find_checkpoint(name)
    path = folder / "config.json"
    kind = json.loads(path.read_text()).get("model_type") if path.is_file() else None
    if kind == UniPixelConfig.model_type:
        return folder
    if kind != QWEN:
        raise ValueError(f"{name} is neither a UniPixel nor a Qwen2.5-VL checkpoint.")
    if sam2 is None:
        raise ValueError(
            f"{name} is Qwen2.5-VL without SAM 2.1; name its weights with --sam2 FILE (.pt or .safetensors)."
        )
    return ready if (ready / "config.json").is_file() else join_start(folder, sam2, ready)


def new_start(out: Path, seed: int = 0) -> Path:
    """A network of nano's size with random weights and nano's tokenizer, written to `out`."""
    folder = find_checkpoint(NANO)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = new_network(Tokenizer.from_file(str(folder / "tokenizer.json")))
    return save_checkpoint(network, AutoTokenizer.from_pretrained(folder), out)


def join_start(
    qwen: Path, sam2: Path, out: Path, numbers: Mapping[str, Any] | None = None, side: int = 768, seed: int = 0
) -> Path:
    """Put Qwen2.5-VL (a folder) and SAM 2.1 (a file) together in `out`; what neither has is random.

    `numbers` describe a SAM 2 of no official size, `side` is its input's. UniPixel's three tokens are added, and the
    prompt encoder starts with SAM 2's own encoding of places.
    """
    tensors = read_sam2(sam2)
    values: dict[str, Any] = json.loads((qwen / "config.json").read_text())
    values.pop("model_type")
    tokenizer = AutoTokenizer.from_pretrained(qwen)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(UNIPIXEL_TOKENS)}, replace_extra_special_tokens=False
    )
    ids = {f"{t.strip('<|>')}_token_id": int(tokenizer.convert_tokens_to_ids(t)) for t in UNIPIXEL_TOKENS}
    sam2_config = dict(numbers) if numbers else f"configs/sam2.1_hiera_{sam2_size(tensors)}"
    values |= {**ids, "sam2_config": sam2_config, "sam2_image_size": side}
    config = UniPixelConfig(**values, mem_feature_order="raster", prefill_frame="prompt")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UniPixelForConditionalGeneration(config)
    _load_part(network, read_tensors(qwen), "Qwen2.5-VL", ("model.", "lm_head."))
    _load_part(network.sam2, tensors, "SAM 2.1", ("",))
    network.prompt_encoder.space.load_state_dict(network.sam2.sam_prompt_encoder.state_dict())
    _add_tokens(network, list(ids.values()), len(tokenizer))
    return save_checkpoint(network, tokenizer, out)


def read_sam2(path: Path) -> dict[str, Tensor]:
    """SAM 2.1's tensors from Meta's `.pt` (read as weights only) or safetensors; ValueError if it is neither."""
    if not path.is_file():
        raise ValueError(f"There is no file {path.name} with SAM 2.1's weights.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state["model"]
    except Exception as error:
        raise ValueError(f"{path.name} holds no SAM 2.1 weights, or is damaged.") from error


def sam2_size(tensors: Mapping[str, Tensor]) -> str:
    """The official size ("t", "s", "b+" or "l") that weights belong to."""
    stem = tensors.get("image_encoder.trunk.patch_embed.proj.weight", torch.zeros(0))
    blocks = {key.split(".")[3] for key in tensors if key.startswith("image_encoder.trunk.blocks.")}
    size = _SAM2_SHAPES.get((len(stem), len(blocks)))
    if size is None or f"sam2.1_hiera_{size}" not in SAM2_SIZES:
        raise ValueError("These weights are of no official size of SAM 2.1 (tiny, small, base plus, large).")
    return size


def _load_part(module: nn.Module, tensors: Mapping[str, Tensor], what: str, prefixes: tuple[str, ...]) -> None:
    """Load all tensors of a module that start with `prefixes`; ValueError if any is missing, unknown or misshapen."""
    expected = {k: v for k, v in module.state_dict().items() if k.startswith(prefixes)}
    if "lm_head.weight" in expected and "lm_head.weight" not in tensors:
        del expected["lm_head.weight"]  # tied to the embeddings
    wrong = sorted(set(expected) ^ set(tensors)) + [
        k for k in expected if k in tensors and expected[k].shape != tensors[k].shape
    ]
    if wrong:
        raise ValueError(f"The weights of {what} do not fit: {len(wrong)} tensors differ ({', '.join(wrong[:3])}).")
    module.load_state_dict(dict(tensors), strict=False)


def _add_tokens(network: UniPixelForConditionalGeneration, ids: list[int], vocabulary: int) -> None:
    """New tokens start as the mean of all others, in the embeddings and in the head."""
    if vocabulary > network.config.text.vocab_size:
        network.resize_token_embeddings(vocabulary)
    for layer in (network.get_input_embeddings(), network.lm_head):
        weight = cast("nn.Linear", layer).weight
        with torch.no_grad():
            weight[ids] = weight[: min(ids)].mean(0)


def save_checkpoint(network: UniPixelForConditionalGeneration, tokenizer: Any, out: Path) -> Path:
    """Write a checkpoint that `UniPixel.from_pretrained` loads; returns `out`.

    16 bits for the two towers, SAM 2 and the prompt encoder in float32, as they are computed.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    if network.config.tie_word_embeddings:
        del state["lm_head.weight"]
    kept = {k: torch.float32 if k.startswith(_PRECISE) else torch.bfloat16 for k in state}
    tensors = {memory_to_disk(k): v.detach().to("cpu", kept[k], copy=True).contiguous() for k, v in state.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(out)
    # Written last: a folder with it is whole.
    (out / "config.json").write_text(json.dumps(network.config.to_dict(), indent=2, default=str) + "\n")
    return out
