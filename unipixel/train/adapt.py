"""What of a network learns: LoRA put in and merged out again, everything else frozen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from unipixel.model.unipixel import UniPixelForConditionalGeneration
from unipixel.train.recipes import LORA_TARGETS, Recipe


def prepare(network: UniPixelForConditionalGeneration, recipe: Recipe) -> None:
    """Make `network` trainable as `recipe` says (in place): adapters in, learning parts in float32, the rest frozen."""
    network.requires_grad_(False)
    if recipe.lora is not None:
        lora = recipe.lora
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=LORA_TARGETS,
        )
        inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(recipe.rate(name) > 0)
        if parameter.requires_grad:
            # Steps far smaller than a weight are lost in 16 bits.
            parameter.data = parameter.data.float()


def trained_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What a run changes: the tensors of all parameters that learn, by name."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def load_trained(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `trained_tensors` gave; ValueError if it does not fit."""
    own = trained_tensors(network)
    if set(own) != set(tensors) or any(own[name].shape != tensors[name].shape for name in own):
        different = sorted(set(own) ^ set(tensors)) or ["their shapes"]
        raise ValueError(f"The checkpoint was trained with other settings (they differ in {different[0]}).")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def merge_lora(network: nn.Module) -> None:
    """Add every adapter to the matrix it adapts and take it out (in place): the network computes what it did before."""
    for name, layer in [(n, m) for n, m in network.named_modules() if isinstance(m, LoraLayer)]:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer.get_base_layer())
