"""The language model's matrices in 8 or 4 bits, by bitsandbytes (an optional extra, on CPUs and GPUs).

The vision tower, the heads and SAM 2 stay as they are: they are small, and masks depend on them.
Sources: LLM.int8() (arXiv 2208.07339), NF4 of QLoRA (arXiv 2305.14314).
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from unipixel.model.unipixel import UniPixelForConditionalGeneration

BITS = {"int8": 8, "int4": 4}
BLOCK = 64  # numbers that share a scale in NF4
EXTRA = "bitsandbytes"


def quantized_layers(model: UniPixelForConditionalGeneration) -> Mapping[str, nn.Linear]:
    """The layers that `quantize` replaces, by name: all matrices of the language model but embeddings and head."""
    inside = model.model.language_model.layers.named_modules(prefix="model.language_model.layers")
    return {name: module for name, module in inside if isinstance(module, nn.Linear)}


def quantize(model: UniPixelForConditionalGeneration, bits: int, device: torch.device) -> None:
    """Replace the language model's matrices by quantised ones on `device`, in place, one by one.

    In 4 bits a matrix whose rows are not whole blocks stays as it is. ValueError if bitsandbytes is not installed.
    """
    if importlib.util.find_spec(EXTRA) is None:
        raise ValueError(f"int8 and int4 need the package {EXTRA}: pip install {EXTRA}.")
    # It tells for every matrix product that float32 is rounded to 16 bit on its way in, which is meant.
    logging.getLogger(EXTRA).setLevel(logging.ERROR)
    bnb: Any = importlib.import_module(EXTRA)

    for name, layer in quantized_layers(model).items():
        if bits == 4 and layer.in_features % BLOCK:
            continue
        sizes, bias = (layer.in_features, layer.out_features), layer.bias is not None
        if bits == 8:
            small = bnb.nn.Linear8bitLt(*sizes, bias=bias, has_fp16_weights=False, device="meta")
            small.weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
        else:
            small = bnb.nn.Linear4bit(*sizes, bias=bias, compute_dtype=layer.weight.dtype, device="meta")
            small.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
        small.bias = layer.bias
        model.set_submodule(name, small.to(device).eval().requires_grad_(False))
