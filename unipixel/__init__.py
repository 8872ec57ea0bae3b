"""Point at anything in an image or a video, and talk about it.

import unipixel
model = unipixel.UniPixel.from_pretrained("nano")
media = unipixel.load_media("clip.mp4")
answer = model.segment(media, "the two red balls")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unipixel._torchvision import hide_broken_torchvision

hide_broken_torchvision()

if TYPE_CHECKING:
    from unipixel.decoding import Decoding
    from unipixel.engine import UniPixel
    from unipixel.media import load_media
    from unipixel.memory import ObjectMemoryBank
    from unipixel.types import (
        Answer,
        Box,
        Done,
        Masklet,
        Masklets,
        MaskUpdate,
        Media,
        Point,
        Region,
        Span,
        TextDelta,
        Turn,
    )

__version__ = "0.1.0"

# Public name -> module. Loaded on first use, so that `import unipixel.types` stays free of torch.
_HOMES = {
    "UniPixel": "engine",
    "Decoding": "decoding",
    "load_media": "media",
    "ObjectMemoryBank": "memory",
    **dict.fromkeys(
        (
            "Answer",
            "Box",
            "Done",
            "Masklet",
            "Masklets",
            "MaskUpdate",
            "Media",
            "Point",
            "Region",
            "Span",
            "TextDelta",
            "Turn",
        ),
        "types",
    ),
}

__all__ = [
    "Answer",
    "Box",
    "Decoding",
    "Done",
    "MaskUpdate",
    "Masklet",
    "Masklets",
    "Media",
    "ObjectMemoryBank",
    "Point",
    "Region",
    "Span",
    "TextDelta",
    "Turn",
    "UniPixel",
    "load_media",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unipixel' has no attribute {name!r}")
    return getattr(importlib.import_module(f"unipixel.{_HOMES[name]}"), name)
