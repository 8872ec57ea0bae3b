"""What the canvas sends about marks, read into `Point`, `Box` and `Region`.

The browser is not trusted: every number is checked for type, range and count here, and what is wrong becomes one
plain sentence (ValueError). Nothing in this module knows a widget or a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from unipixel.grammar import MAX_OBJECTS
from unipixel.types import MAX_OBJECT_ID, Box, Point, Prompt, Region

MAX_MARKS = 100  # of one object
MAX_JSON_LENGTH = 2_000_000  # characters; 40 strokes of 60 points are about 46,000
SLACK = 1.0  # pixels a mark may lie outside the picture before it is refused; browsers round
MIN_BOX_SIDE = 1.0

NOT_A_NUMBER = "The position is not a number."
OUTSIDE = "The mark is outside the picture."
BAD_LABEL = "A click is either 'include' (1) or 'exclude' (0)."
NO_POSITIVE = "Mark at least one place to include."
BOX_EMPTY = "The box has no area."
NO_FRAME = "That frame does not exist."
BAD_OBJECT = "That object number is not valid."
REMOVED = "That object was removed."
TOO_MANY = f"Too many marks (limit {MAX_MARKS}) or objects (limit {MAX_OBJECTS})."
UNREADABLE = "The marks could not be read; clear them and mark again."


@dataclass(frozen=True)
class Picture:
    """What marks are checked against: the size in pixels and the number of frames."""

    height: int
    width: int
    num_frames: int


@dataclass(frozen=True)
class Stroke:
    """One sweep of the brush or the eraser, in picture pixels."""

    points: tuple[tuple[float, float], ...]
    radius: float
    erase: bool


@dataclass(frozen=True)
class Marks:
    """All marks of a canvas: prompts in the order drawn, and a fingerprint of each object's marks."""

    prompts: tuple[Prompt, ...] = ()
    digests: Mapping[int, str] | None = None

    def object_ids(self) -> list[int]:
        return sorted({p.object_id for p in self.prompts if p.object_id is not None})

    def changed_since(self, applied: Mapping[int, str]) -> tuple[Prompt, ...]:
        """Prompts of the objects whose marks are not the ones noted in `applied`."""
        digests = self.digests or {}
        return tuple(p for p in self.prompts if p.object_id is None or digests[p.object_id] != applied.get(p.object_id))

    def on_frame(self, frame: int) -> tuple[Prompt, ...]:
        return tuple(p for p in self.prompts if p.frame == frame)


def read_marks(value: Any, media_id: str, picture: Picture, *, removed: Collection[int] = ()) -> Marks:
    """Read the canvas value `{"media_id": str, "marks": str}`; marks of other media count as none.

    `marks` is a JSON list of
    `{"type": "point", "object": id, "frame": t, "x": x, "y": y, "label": 0 or 1}`,
    `{"type": "box", "object": id, "frame": t, "x1": .., "y1": .., "x2": .., "y2": ..}` and
    `{"type": "stroke", "object": id, "frame": t, "points": [[x, y], ..], "radius": r, "erase": bool}`.
    `removed` are ids that may not be used again. Raises ValueError with one sentence for anything else.
    """
    if not isinstance(value, Mapping) or value.get("media_id") != media_id:
        return Marks()
    items = _parse_json(value.get("marks", "[]"))
    by_object: dict[int, list[dict[str, Any]]] = {}
    for item in items:
        by_object.setdefault(_object_id(item.get("object"), removed), []).append(item)
    if len(by_object) > MAX_OBJECTS or any(len(marks) > MAX_MARKS for marks in by_object.values()):
        raise ValueError(TOO_MANY)
    prompts = [p for object_id, marks in by_object.items() for p in _read_object(object_id, marks, picture)]
    return Marks(tuple(prompts), {object_id: _digest(marks) for object_id, marks in by_object.items()})


def check_positive(prompts: Sequence[Prompt]) -> None:
    """Raise ValueError if an object has only "not this" points: nothing says where it is."""
    positive = {p.object_id for p in prompts if not (isinstance(p, Point) and p.label == 0)}
    if any(p.object_id not in positive for p in prompts):
        raise ValueError(NO_POSITIVE)


def _parse_json(text: Any) -> list[dict[str, Any]]:
    if not isinstance(text, str) or len(text) > MAX_JSON_LENGTH:
        raise ValueError(UNREADABLE if not isinstance(text, str) else TOO_MANY)
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(UNREADABLE) from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(UNREADABLE)
    return items


def _object_id(value: Any, removed: Collection[int]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_OBJECT_ID:
        raise ValueError(BAD_OBJECT)
    if value in removed:
        raise ValueError(REMOVED)
    return value


def _read_object(object_id: int, marks: Sequence[dict[str, Any]], picture: Picture) -> list[Prompt]:
    """All marks of one object as prompts; the strokes of a frame become one region."""
    prompts: list[Prompt] = []
    strokes: dict[int, list[Stroke]] = {}
    for mark in marks:
        frame = _frame(mark.get("frame"), picture.num_frames)
        kind = mark.get("type")
        if kind == "point":
            prompts.append(_point(mark, frame, object_id, picture))
        elif kind == "box":
            prompts.append(_box(mark, frame, object_id, picture))
        elif kind == "stroke":
            strokes.setdefault(frame, []).append(_stroke(mark, picture))
        else:
            raise ValueError(UNREADABLE)
    prompts = list(dict.fromkeys(prompts))  # the same click twice counts once
    for frame, drawn in strokes.items():
        mask = paint(drawn, picture.height, picture.width)
        if mask.any():  # all of it may have been erased again: then nothing is marked
            prompts.append(Region(mask, frame, object_id))
    return prompts


def _point(mark: Mapping[str, Any], frame: int, object_id: int, picture: Picture) -> Point:
    label = mark.get("label")
    if isinstance(label, bool) or label not in (0, 1):
        raise ValueError(BAD_LABEL)
    x = _coordinate(mark.get("x"), picture.width)
    y = _coordinate(mark.get("y"), picture.height)
    return Point((x, y), int(label), frame, object_id)


def _box(mark: Mapping[str, Any], frame: int, object_id: int, picture: Picture) -> Box:
    xs = sorted(_number(mark.get(key)) for key in ("x1", "x2"))
    ys = sorted(_number(mark.get(key)) for key in ("y1", "y2"))
    if min(xs[1] - xs[0], ys[1] - ys[0]) < MIN_BOX_SIDE:
        raise ValueError(BOX_EMPTY)
    x1, x2 = (min(max(x, 0.0), float(picture.width)) for x in xs)
    y1, y2 = (min(max(y, 0.0), float(picture.height)) for y in ys)
    if x1 >= x2 or y1 >= y2:
        raise ValueError(OUTSIDE)
    return Box((x1, y1, x2, y2), frame, object_id)


def _stroke(mark: Mapping[str, Any], picture: Picture) -> Stroke:
    points, radius, erase = mark.get("points"), _number(mark.get("radius")), mark.get("erase", False)
    if not isinstance(points, list) or not points or not isinstance(erase, bool):
        raise ValueError(UNREADABLE)
    if not 0 < radius <= max(picture.height, picture.width):
        raise ValueError("The brush is larger than the picture.")
    return Stroke(tuple(_stroke_point(p, radius, picture) for p in points), radius, erase)


def _stroke_point(point: Any, radius: float, picture: Picture) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) != 2:
        raise ValueError(NOT_A_NUMBER)
    x, y = (_number(v) for v in point)
    if not (-radius - SLACK <= x <= picture.width + radius and -radius - SLACK <= y <= picture.height + radius):
        raise ValueError(OUTSIDE)
    return x, y


def paint(strokes: Sequence[Stroke], height: int, width: int) -> np.ndarray:
    """Draw strokes in order into a bool H x W mask; the eraser takes away what is already there."""
    mask = np.zeros((height, width), np.uint8)
    for stroke in strokes:
        # cv2 counts pixel centres, the canvas pixel edges; 4 fractional bits keep sub-pixel positions.
        points = np.round((np.array(stroke.points) - 0.5) * 16).astype(np.int32)
        colour = 0 if stroke.erase else 1
        cv2.polylines(mask, [points], False, colour, max(1, round(2 * stroke.radius)), cv2.LINE_8, shift=4)
        for x, y in (points[0], points[-1]):  # round ends; a single tap is a dot
            cv2.circle(mask, (int(x), int(y)), max(1, round(stroke.radius * 16)), colour, -1, cv2.LINE_8, shift=4)
    return mask > 0


def _frame(value: Any, num_frames: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < num_frames:
        raise ValueError(NO_FRAME)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(NOT_A_NUMBER)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(OUTSIDE) from None
    if not math.isfinite(number):
        raise ValueError(NOT_A_NUMBER)
    return number


def _coordinate(value: Any, size: int) -> float:
    """A position along one side; up to `SLACK` outside it is moved to the edge."""
    number = _number(value)
    if not -SLACK <= number <= size - 1 + SLACK + 1e-6:
        raise ValueError(OUTSIDE)
    return max(number, 0.0) if number < size else size - 0.5


def _digest(marks: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(marks, sort_keys=True).encode()).hexdigest()
