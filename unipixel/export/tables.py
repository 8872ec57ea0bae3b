"""The objects as plain text: a table of boxes, and the memory bank to go on from later."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from unipixel.export.take import Take, check_fits
from unipixel.memory import MemoryObject, ObjectMemoryBank
from unipixel.types import Media, rle_areas, rle_boxes

COLUMNS = ("object_id", "label", "frame", "seconds", "x1", "y1", "x2", "y2", "area", "score")


def write_boxes(take: Take, folder: Path) -> list[Path]:
    """`boxes.csv`: a row per object and frame it is visible in.

    `frame` counts the frames of the source, corners are pixels (x2 and y2 one past the last), `area` counts pixels.
    """
    path = folder / "boxes.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for object_id, known in take.bank.items():
            boxes, areas = rle_boxes(known.rles), rle_areas(known.rles)
            for t in np.flatnonzero(areas):
                index = take.frame_indices[t]
                seconds = f"{index / take.media.fps:.3f}" if take.media.fps > 0 else ""
                x, y, width, height = (int(v) for v in boxes[t])
                place = (x, y, x + width, y + height, int(areas[t]))
                table.writerow((object_id, known.label, index, seconds, *place, known.scores[t]))
    return [path]


def describe_object(known: MemoryObject) -> dict[str, Any]:
    """One object as JSON values; boxes are xyxy in pixels, null where it is not visible."""
    seen = known.visible
    corners = [[x, y, x + w, y + h] for x, y, w, h in rle_boxes(known.rles).tolist()]
    return {
        "object_id": known.object_id,
        "label": known.label,
        "scores": list(known.scores),
        "visible_spans": known.visible_spans(),
        "boxes": [box if shown else None for box, shown in zip(corners, seen)],
        "masks": known.rles,
    }


def write_bank(take: Take, folder: Path) -> list[Path]:
    """`memory.json`: the bank with its receipt; `load_bank` reads it."""
    path = folder / "memory.json"
    value = {**json.loads(take.bank.to_json()), "receipt": dict(take.receipt)}
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return [path]


def load_bank(text: str, media: Media) -> ObjectMemoryBank:
    """The bank of `write_bank`'s (or `ObjectMemoryBank.to_json`'s) text, to go on with on `media`.

    Raises ValueError if the text is damaged or its masks do not lie on the frames of `media`.
    """
    bank = ObjectMemoryBank.from_json(text)
    check_fits(bank, media)
    return bank
