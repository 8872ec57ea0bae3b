"""LoRA adapters in peft's format, merged into the network they were trained on."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from unipixel.checkpoints import ADAPTER_CONFIG, ADAPTER_FILE
from unipixel.model.tensors import PEFT_PREFIX, check_tensors, disk_to_memory, read_file
from unipixel.model.unipixel import UniPixelForConditionalGeneration


def read_adapter_config(folder: Path) -> LoraConfig:
    """The adapter's settings, its modules under their names in the network."""
    try:
        config = LoraConfig.from_pretrained(str(folder))
    except Exception as error:  # peft raises what its parser, the file or the hub raise
        raise ValueError(f"{folder.name} holds an adapter without a usable {ADAPTER_CONFIG}.") from error
    if not isinstance(config, LoraConfig):
        raise ValueError(f"{ADAPTER_CONFIG} describes an adapter that is not LoRA.")
    if isinstance(config.target_modules, (list, set)):
        config.target_modules = [disk_to_memory(name) for name in config.target_modules]
    config.base_model_name_or_path = None  # the base is in memory already
    return config


def merge_adapter(model: UniPixelForConditionalGeneration, folder: Path) -> None:
    """Add the LoRA adapter in `folder` to the weights of `model`, in place.

    ValueError names tensors that do not fit, and modules that the network does not have.
    """
    tensors = {PEFT_PREFIX + name: tensor for name, tensor in read_file(folder / ADAPTER_FILE).items()}
    config = read_adapter_config(folder)
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise ValueError(f"The adapter in {folder.name} is for another model: {error}") from error
    check_tensors(get_peft_model_state_dict(wrapped), tensors)
    set_peft_model_state_dict(wrapped, tensors)
    with torch.no_grad():
        wrapped.merge_and_unload(safe_merge=True)
