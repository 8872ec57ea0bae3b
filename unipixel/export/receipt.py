"""Where a result comes from: what one needs to trust it, or to get it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, Protocol

from unipixel.types import MASK_THRESHOLD, Media

# What decides about masks and files besides the weights.
_PACKAGES = ("torch", "transformers", "sam2", "numpy", "opencv-python", "av", "pillow", "pycocotools")


class Named(Protocol):
    """The part of an engine that a receipt names."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...


def make_receipt(model: Named, media: Media, *, every_frame: bool = False) -> dict[str, Any]:
    """Model, weights (SHA-256), media, frames, thresholds and versions, as JSON values."""
    return {
        "unipixel": our_version(),
        # A folder's place on this machine is nobody's business, its name may be.
        "model": public_name(model),
        "weights": model.weights,
        "media": Path(media.source).name if media.source else None,
        "content": media.content_key,
        "size": [media.height, media.width],
        "fps": media.fps,
        "frames": "every" if every_frame else list(media.frame_indices),
        "thresholds": {"mask_logit": MASK_THRESHOLD, "visible_pixels": 1},
        "versions": {"python": python_version(), **{name: _installed(name) for name in _PACKAGES}},
    }


def public_name(model: Named) -> str:
    """A model's name without the folders of this machine."""
    return Path(model.name).name if Path(model.name).is_dir() else model.name


def our_version() -> str:
    from unipixel import __version__  # not at the top: the package imports this part

    return __version__


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def receipt_text(receipt: Mapping[str, Any]) -> str:
    """The receipt as one line of JSON, for the metadata of pictures and clips."""
    return json.dumps(receipt, ensure_ascii=True, separators=(",", ":"))
