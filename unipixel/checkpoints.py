"""Where checkpoints lie and which files they are made of: a folder or a hub id, whole or an adapter on a base."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from unipixel.config import UniPixelConfig

NANO = "nano"
# Inside the package when installed from a wheel, beside it in the repository.
_NANO_FOLDERS = (Path(__file__).parent / "assets" / "nano", Path(__file__).parent.parent / "assets" / "nano")

# What the original's training leaves behind: LoRA matrices (peft's format), and the other weights that were trained.
ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PARTIAL_FILE = "pytorch_model.safetensors"


def _download(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download  # only needed here; it starts slowly

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"There is no model {name!r}; use nano, a folder, or a hub id such as PolyU-ChenLab/UniPixel-3B."
        )
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise ValueError(f"The model {name} could not be downloaded ({type(error).__name__}).") from error


def _local(name: str) -> Path | None:
    if name == NANO:
        return next((folder for folder in _NANO_FOLDERS if folder.is_dir()), _NANO_FOLDERS[-1])
    return Path(name) if Path(name).is_dir() else None


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: "nano", a folder, or a hub id (downloaded, safetensors only)."""
    return _local(name) or _download(name, ["*.json", "*.safetensors", "*.txt", "*.jinja"])


def find_config(name: str) -> Path:
    """A folder with at least the checkpoint's config.json; of a hub id nothing else is downloaded."""
    return _local(name) or _download(name, ["config.json"])


def find_base(folder: Path) -> Path | None:
    """The checkpoint that the adapter in `folder` stands on, None if `folder` holds a whole model.

    `base_model_path` in its config.json is a folder (seen from here or from `folder`) or a hub id.
    """
    if not any((folder / name).is_file() for name in (ADAPTER_FILE, PARTIAL_FILE)):
        return None
    name = read_values(folder).get("base_model_path")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{folder.name} holds an adapter, but its config.json names no base_model_path.")
    if (folder / name).is_dir():
        return folder / name
    try:
        return find_checkpoint(name)
    except ValueError as error:
        raise ValueError(f"The adapter in {folder.name} stands on the model {name!r}, which is not there.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; ValueError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} is damaged; download it again.")
    return values


def read_values(folder: Path) -> dict[str, Any]:
    """What the config.json of a checkpoint says, as it stands there."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder.name} holds no config.json, so it is not a checkpoint.")
    return read_json(path)


def read_config(folder: Path) -> UniPixelConfig:
    """The checkpoint's configuration; fields it does not have get the released model's values."""
    values = read_values(folder)
    kind = values.pop("model_type", None)
    if kind != UniPixelConfig.model_type:
        raise ValueError(f"config.json describes a {kind!r} model, not {UniPixelConfig.model_type!r}.")
    if values.get("text_config"):
        # Released files repeat the language model's fields outside of its part, where newer libraries complain.
        values = {k: v for k, v in values.items() if k not in ("rope_scaling", "rope_theta")}
    return UniPixelConfig(**values)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a whole model, single or sharded."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    return [folder / "model.safetensors"]


def weights_hash(folder: Path) -> str:
    """SHA-256 over the checkpoint's weight files, its base's included: what a receipt names the weights by."""
    digest = hashlib.sha256()
    base = find_base(folder)
    added = [folder / name for name in (ADAPTER_FILE, PARTIAL_FILE) if (folder / name).is_file()]
    for path in weight_files(folder if base is None else base) + added:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
