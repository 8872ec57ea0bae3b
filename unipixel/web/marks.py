"""What the canvas sends about marks, read into `Point`, `Box` and `Region`.

The browser is not trusted: every number is checked for type, range and count here, and what is wrong becomes one
plain sentence (ValueError). Nothing in this module knows a widget or a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from unipixel.grammar import MAX_OBJECTS
from unipixel.marks import excludes
from unipixel.types import MAX_OBJECT_ID, BoolArray, Box, Point, Prompt, Region

MAX_MARKS = 100  # of one object
MAX_PICKS = 8  # readings of one click
MAX_JSON_LENGTH = 2_000_000  # characters; 40 strokes of 60 points are about 46,000
SLACK = 1.0  # pixels a mark may lie outside the picture before it is refused; browsers round
MIN_BOX_SIDE = 1.0

NOT_A_NUMBER = "The position is not a number."
OUTSIDE = "The mark is outside the picture."
BAD_LABEL = "A click is either 'include' (1) or 'exclude' (0)."
NO_POSITIVE = "Mark at least one place to include."
BOX_EMPTY = "The box has no area."
ABSENT_PICTURE = "Only on a frame of a video can an object be marked as not here."
ABSENT_AND_MARKED = "On one frame an object is either marked or not here, not both."
NO_FRAME = "That frame does not exist."
BAD_OBJECT = "That object number is not valid."
REMOVED = "That object was removed."
TOO_MANY = f"Too many marks (limit {MAX_MARKS}) or objects (limit {MAX_OBJECTS})."
UNREADABLE = "The marks could not be read; clear them and mark again."


Digests = Mapping[int, Mapping[int, str]]  # object id -> frame -> fingerprint of the marks
Present = Callable[[int, int], BoolArray | None]  # the mask an object has on a frame, if any


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
    """All marks of a canvas: prompts in the order drawn, and a fingerprint of each object's marks on each frame.

    `picks` says of which objects, on which frame, which other reading of their only click was chosen (1, 2, ...).
    """

    prompts: tuple[Prompt, ...] = ()
    digests: Digests = field(default_factory=dict)
    picks: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def object_ids(self) -> list[int]:
        return sorted({p.object_id for p in self.prompts if p.object_id is not None})

    def changed_since(self, applied: Digests) -> tuple[Prompt, ...]:
        """Prompts on the frames whose marks of that object are not the ones noted in `applied`."""
        return tuple(p for p in self.prompts if self._digest_of(p) != _noted(applied, p))

    def _digest_of(self, prompt: Prompt) -> str:
        return self.digests[prompt.object_id or 0][prompt.frame]

    def on_frame(self, frame: int) -> tuple[Prompt, ...]:
        return tuple(p for p in self.prompts if p.frame == frame)


def read_marks(
    value: Any, media_id: str, picture: Picture, *, removed: Collection[int] = (), present: Present | None = None
) -> Marks:
    """Read the canvas value `{"media_id": str, "marks": str}`; marks of other media count as none.

    `marks` is a JSON list of
    `{"type": "point", "object": id, "frame": t, "x": x, "y": y, "label": 0 or 1, "pick": which reading, if not 0}`,
    `{"type": "box", "object": id, "frame": t, "x1": .., "y1": .., "x2": .., "y2": ..}`,
    `{"type": "stroke", "object": id, "frame": t, "points": [[x, y], ..], "radius": r, "erase": bool}` and
    `{"type": "absent", "object": id, "frame": t}`, which says that the object is not on the frame.
    `removed` are ids that may not be used again; strokes change the mask that `present` knows of their object.
    Raises ValueError with one sentence for anything else.
    """
    if not isinstance(value, Mapping) or value.get("media_id") != media_id:
        return Marks()
    by_object: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for item in _parse_json(value.get("marks", "[]")):
        frames = by_object.setdefault(_object_id(item.get("object"), removed), {})
        frames.setdefault(check_frame(item.get("frame"), picture.num_frames), []).append(item)
    most = max((sum(map(len, frames.values())) for frames in by_object.values()), default=0)
    if len(by_object) > MAX_OBJECTS or most > MAX_MARKS:
        raise ValueError(TOO_MANY)
    places = [(i, t, marks) for i, frames in by_object.items() for t, marks in frames.items()]
    prompts = [p for i, t, marks in places for p in _read_frame(i, t, marks, picture, present)]
    picks = {(i, t): _pick(marks) for i, t, marks in places if _pick(marks)}
    digests = {i: {t: _digest(marks) for t, marks in frames.items()} for i, frames in by_object.items()}
    return Marks(tuple(prompts), digests, picks)


def marked_ids(value: Any, media_id: str | None) -> frozenset[int]:
    """Numbers of the objects that have marks on one of the media; ValueError as for `read_marks`."""
    marks = canvas_of(value, media_id).get("marks", "[]")
    return frozenset(_object_id(item.get("object"), ()) for item in _parse_json(marks))


def canvas_of(value: Any, media_id: str | None) -> Mapping[str, Any]:
    """The canvas value of one of the media: the one in view, or, from `elsewhere`, what was left on another."""
    if not isinstance(value, Mapping) or value.get("media_id") == media_id:
        return value if isinstance(value, Mapping) else {}
    left = value.get("elsewhere")
    return {"media_id": media_id, "marks": left.get(media_id, "[]") if isinstance(left, Mapping) else "[]"}


def _noted(applied: Digests, prompt: Prompt) -> str | None:
    return applied.get(prompt.object_id or 0, {}).get(prompt.frame)


def _pick(marks: Sequence[Mapping[str, Any]]) -> int:
    """Which other reading of an object's only click on a frame was chosen; 0 for the best one."""
    pick = marks[0].get("pick", 0)
    lone = len(marks) == 1 and marks[0].get("type") == "point" and marks[0].get("label") == 1
    whole = isinstance(pick, int) and not isinstance(pick, bool)
    return pick if lone and whole and 0 < pick < MAX_PICKS else 0


def check_positive(prompts: Sequence[Prompt]) -> None:
    """Raise ValueError if an object has only "not this" and "not here" marks: nothing says where it is."""
    positive = {p.object_id for p in prompts if not excludes(p)}
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


def _read_frame(
    object_id: int, frame: int, marks: Sequence[dict[str, Any]], picture: Picture, present: Present | None
) -> list[Prompt]:
    """All marks of one object on one frame as prompts; its strokes become one region."""
    prompts: list[Prompt] = []
    strokes: list[Stroke] = []
    for mark in marks:
        kind = mark.get("type")
        if kind == "point":
            prompts.append(_point(mark, frame, object_id, picture))
        elif kind == "box":
            prompts.append(_box(mark, frame, object_id, picture))
        elif kind == "stroke":
            strokes.append(_stroke(mark, picture))
        elif kind != "absent":
            raise ValueError(UNREADABLE)
    prompts = list(dict.fromkeys(prompts))  # the same click twice counts once
    if any(mark["type"] == "absent" for mark in marks):
        prompts.append(_absence(object_id, frame, marks, picture))
    mask = paint(strokes, picture.height, picture.width, present(object_id, frame) if present and strokes else None)
    if mask.any():  # all of it may have been erased again: then nothing is marked
        prompts.append(Region(mask, frame, object_id))
    return prompts


def _absence(object_id: int, frame: int, marks: Sequence[Mapping[str, Any]], picture: Picture) -> Region:
    """ "Not on this frame", as a region without a pixel."""
    if picture.num_frames == 1:
        raise ValueError(ABSENT_PICTURE)
    if any(mark["type"] != "absent" for mark in marks):
        raise ValueError(ABSENT_AND_MARKED)
    return Region(np.zeros((picture.height, picture.width), bool), frame, object_id)


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


def paint(strokes: Sequence[Stroke], height: int, width: int, start: BoolArray | None = None) -> BoolArray:
    """Draw strokes in order into a bool H x W mask (`start`, or nothing); the eraser takes away what is there."""
    mask = np.zeros((height, width), np.uint8) if start is None else start.astype(np.uint8)
    for stroke in strokes:
        # cv2 counts pixel centres, the canvas pixel edges; 4 fractional bits keep sub-pixel positions.
        points = np.round((np.array(stroke.points) - 0.5) * 16).astype(np.int32)
        colour = 0 if stroke.erase else 1
        cv2.polylines(mask, [points], False, colour, max(1, round(2 * stroke.radius)), cv2.LINE_8, shift=4)
        for x, y in (points[0], points[-1]):  # round ends; a single tap is a dot
            cv2.circle(mask, (int(x), int(y)), max(1, round(stroke.radius * 16)), colour, -1, cv2.LINE_8, shift=4)
    return mask > 0


def check_frame(value: Any, num_frames: int) -> int:
    """`value` as the number of a frame; ValueError if there is no such frame."""
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
