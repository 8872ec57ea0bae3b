"""The examples shown under the page: media files with a question, and marks where the question needs them.

`examples.json` beside the files lists them:
`[{"file": "clip.mp4", "title": "...", "question": "What is @1?", "marks": [{"type": "point", ...}]}, ...]`.
Without it every picture and clip of the folder is an example with a general question.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm")
GENERAL_QUESTION = "What is in this scene?"


@dataclass(frozen=True, eq=False)
class Example:
    """A file, the question to ask about it, and marks as the canvas writes them."""

    path: Path
    title: str
    question: str
    marks: Sequence[dict[str, Any]] = ()


def find_examples(folder: Path) -> tuple[Example, ...]:
    """Examples of `folder`, those whose file is missing left out; none if there is no such folder."""
    listing = folder / "examples.json"
    if listing.is_file():
        entries = json.loads(listing.read_text("utf-8"))
        found = [
            Example(folder / e["file"], e.get("title", e["question"]), e["question"], tuple(e.get("marks", ())))
            for e in entries
        ]
        return tuple(example for example in found if example.path.is_file())
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    return tuple(Example(p, p.stem.replace("_", " ").replace("-", " "), GENERAL_QUESTION) for p in files)
