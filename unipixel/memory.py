"""The object memory bank: which objects a conversation knows, and where each of them is in every frame.

A bank is an immutable value (a few KB per object, masks as run lengths): it can be compared, pickled, copied, kept in
a session and sent to a GPU worker and back. Ids are never used twice, so `@2` in an old answer stays the object it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unipixel.grammar import MAX_OBJECTS, remove_control_characters
from unipixel.types import MAX_OBJECT_ID, BoolArray, Masklet, decode_rle, rle_areas

Color = tuple[int, int, int]

# Told apart by most colour-blind people too, and visible on bright and dark pictures.
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (148, 103, 189),
    (140, 220, 60),
    (255, 99, 132),
    (0, 206, 209),
    (255, 190, 160),
)

MAX_LABEL_LENGTH = 60
MAX_PIXELS = 50_000_000
MAX_FRAMES = 4096
MAX_JSON_LENGTH = 64_000_000
_FORMAT = "unipixel-memory"
_DAMAGED = "The memory file is damaged: "


def color_of(object_id: int) -> Color:
    """The colour (r, g, b) of an object that was given none."""
    return PALETTE[(object_id - 1) % len(PALETTE)]


def clean_label(label: str) -> str:
    """`label` on one line, without control characters, cut to 60 characters; ValueError if it is not text."""
    if not isinstance(label, str):
        raise ValueError(f"An object's name must be text, not {type(label).__name__}.")
    # Cut first: a name of megabytes must not cost time.
    short = " ".join(remove_control_characters(label[:4000]).split())
    return short if len(short) <= MAX_LABEL_LENGTH else short[: MAX_LABEL_LENGTH - 1].rstrip() + "…"


def _check_color(color: Any) -> Color:
    numbers = tuple(color) if isinstance(color, (tuple, list, np.ndarray)) else ()
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and 0 <= v <= 255 for v in numbers)
    if len(numbers) != 3 or not whole:
        raise ValueError("An object's colour must be three whole numbers between 0 and 255.")
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


@dataclass(frozen=True)
class MemoryObject:
    """One remembered object: `counts` are the COCO run lengths of its T masks of `size` (H, W)."""

    object_id: int
    size: tuple[int, int]
    counts: tuple[str, ...]
    scores: tuple[float, ...]
    label: str
    color: Color
    origin: str

    @property
    def rles(self) -> list[dict[str, Any]]:
        """COCO run-length encodings, one a frame."""
        return [{"size": list(self.size), "counts": counts} for counts in self.counts]

    @property
    def masks(self) -> BoolArray:
        """T x H x W bool, decoded anew each time."""
        return decode_rle(self.rles)

    @property
    def masklet(self) -> Masklet:
        return Masklet(self.object_id, self.masks, np.asarray(self.scores, np.float32), self.label)

    @property
    def visible(self) -> BoolArray:
        """T bool: the frames in which the object has at least one pixel (without decoding masks)."""
        return rle_areas(self.rles) > 0

    def visible_spans(self) -> list[tuple[int, int]]:
        """Stretches of frames in which the object is visible, as inclusive (first, last) pairs."""
        return Masklet(self.object_id, self.visible[:, None, None]).visible_spans()


@dataclass(frozen=True)
class ObjectMemoryBank(Mapping[int, MemoryObject]):
    """An immutable mapping object id -> `MemoryObject`, in order of ids; every change returns a new bank.

    `retired` are the ids of removed objects: they are never given out again.
    """

    objects: tuple[MemoryObject, ...] = ()
    retired: frozenset[int] = frozenset()

    def __getitem__(self, object_id: int) -> MemoryObject:
        for known in self.objects:
            if known.object_id == object_id:
                return known
        raise KeyError(object_id)

    def __iter__(self) -> Iterator[int]:
        return (known.object_id for known in self.objects)

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def used_ids(self) -> frozenset[int]:
        """Ids that new objects cannot have: those of all objects, removed ones too."""
        return self.retired.union(self)

    @property
    def room(self) -> int:
        """How many more objects fit."""
        return MAX_OBJECTS - len(self)

    def next_id(self) -> int:
        """The id for the next new object; ValueError when all numbers are used up."""
        number = max(self.used_ids, default=0) + 1
        if number > MAX_OBJECT_ID:
            raise ValueError(f"All object numbers up to {MAX_OBJECT_ID} are used up. Start a new conversation.")
        return number

    def with_object(
        self, masklet: Masklet, *, label: str = "", color: Color | None = None, origin: str = ""
    ) -> ObjectMemoryBank:
        """A bank in which `masklet` is the object of its id.

        What is not given stays as it was for a known id; a new object gets its masklet's label and its id's colour.
        Raises ValueError when the id was removed before, the bank is full, or the masks do not have the bank's size.
        """
        object_id = masklet.object_id
        known = self.get(object_id)
        if object_id in self.retired:
            raise ValueError(f"Object @{object_id} was removed; its number is not used again.")
        if known is None and self.room <= 0:
            raise ValueError(f"The memory is full (limit {MAX_OBJECTS} objects). Remove one first.")
        rles = masklet.to_rle() if masklet.masks.size else []
        if not rles:
            raise ValueError(f"The masks of object @{object_id} are empty: they need at least one frame and one pixel.")
        made = MemoryObject(
            object_id,
            size=(rles[0]["size"][0], rles[0]["size"][1]),
            counts=tuple(rle["counts"] for rle in rles),
            scores=tuple(round(min(max(float(s), 0.0), 1.0), 4) for s in np.nan_to_num(masklet.scores)),
            label=clean_label(label or masklet.label) or (known.label if known else ""),
            color=_check_color(color) if color is not None else known.color if known else color_of(object_id),
            origin=clean_label(origin) or (known.origin if known else ""),
        )
        others = tuple(other for other in self.objects if other.object_id != object_id)
        _check_same_media(others, made)
        return replace(self, objects=tuple(sorted((*others, made), key=lambda o: o.object_id)))

    def without(self, object_id: int) -> ObjectMemoryBank:
        """A bank without the object, whose id is retired; ValueError if there is no such object."""
        self._require(object_id)
        kept = tuple(other for other in self.objects if other.object_id != object_id)
        return ObjectMemoryBank(kept, self.retired | {object_id})

    def renamed(self, object_id: int, label: str) -> ObjectMemoryBank:
        """A bank in which the object is called `label` (see `clean_label`); ValueError if it is not known."""
        named = replace(self._require(object_id), label=clean_label(label))
        return replace(self, objects=tuple(named if o.object_id == object_id else o for o in self.objects))

    def cleared(self) -> ObjectMemoryBank:
        """An empty bank that still does not give the old ids out again. (A new media starts with a new bank.)"""
        return ObjectMemoryBank((), self.used_ids)

    def _require(self, object_id: int) -> MemoryObject:
        if object_id in self:
            return self[object_id]
        if object_id in self.retired:
            raise ValueError(f"Object @{object_id} was removed.")
        raise ValueError(f"There is no object @{object_id}.")

    def to_json(self) -> str:
        """The bank as JSON text, masks as COCO run lengths."""
        entries = [
            {
                "id": known.object_id,
                "label": known.label,
                "color": known.color,
                "origin": known.origin,
                "size": known.size,
                "scores": known.scores,
                "counts": known.counts,
            }
            for known in self.objects
        ]
        return json.dumps({"format": _FORMAT, "version": 1, "retired": sorted(self.retired), "objects": entries})

    @staticmethod
    def from_json(text: str) -> ObjectMemoryBank:
        """Read `to_json`'s text, from anyone: every field is checked, ValueError says what is wrong."""
        data = _parse_json(text)
        retired = frozenset(_whole(v, 0, MAX_OBJECT_ID, "a removed id") for v in _listed(data, "retired"))
        objects = tuple(_read_object(entry) for entry in _listed(data, "objects"))
        ids = [known.object_id for known in objects]
        if len(objects) > MAX_OBJECTS:
            raise ValueError(f"The memory file holds too many objects (limit {MAX_OBJECTS}).")
        if len(set(ids)) != len(ids) or retired.intersection(ids):
            raise ValueError(_DAMAGED + "an id occurs twice.")
        for known in objects[1:]:
            _check_same_media(objects[:1], known)
        return ObjectMemoryBank(tuple(sorted(objects, key=lambda o: o.object_id)), retired)


def _check_same_media(others: tuple[MemoryObject, ...], made: MemoryObject) -> None:
    if not others:
        return
    has, needs = ((len(o.counts), *o.size) for o in (made, others[0]))
    if has != needs:
        raise ValueError(
            f"The masks of object @{made.object_id} are {' x '.join(map(str, has))} (frames x height x width), "
            f"the memory's are {' x '.join(map(str, needs))}. One memory belongs to one picture or clip."
        )


# ------------------------------------------------------------------------------------------------- reading JSON text


def _parse_json(text: str) -> dict[str, Any]:
    if not isinstance(text, str):
        raise ValueError(f"A memory file must be text, not {type(text).__name__}.")
    if len(text) > MAX_JSON_LENGTH:
        raise ValueError(f"The memory file is too large (limit {MAX_JSON_LENGTH // 1_000_000} MB).")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(_DAMAGED + "it is not JSON.") from None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise ValueError("This is not a memory file of UniPixel.")
    if data.get("version") != 1:
        raise ValueError("The memory file was written by a newer version of UniPixel.")
    return data


def _listed(data: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(data.get(key), list):
        raise ValueError(f"{_DAMAGED}{key!r} must be a list.")
    return data[key]


def _number(value: Any, low: float, high: float, what: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{_DAMAGED}{what} must be a number between {low:g} and {high:g}.")
    return value


def _whole(value: Any, low: int, high: int, what: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{_DAMAGED}{what} must be a whole number.")
    return _number(value, low, high, what)


def _read_object(entry: Any) -> MemoryObject:
    if not isinstance(entry, dict):
        raise ValueError(_DAMAGED + "an object must have fields.")
    object_id = _whole(entry.get("id"), 0, MAX_OBJECT_ID, "an object's id")
    sides = _listed(entry, "size")
    if len(sides) != 2:
        raise ValueError(_DAMAGED + "a mask's size must be height and width.")
    height, width = (_whole(v, 1, MAX_PIXELS, "a mask's side") for v in sides)
    counts, scores = _listed(entry, "counts"), _listed(entry, "scores")
    if height * width > MAX_PIXELS or not 1 <= len(counts) <= MAX_FRAMES:
        raise ValueError(_DAMAGED + "its masks are too many or too large.")
    if len(scores) != len(counts):
        raise ValueError(_DAMAGED + "an object needs one score per frame.")
    for code in counts:
        _check_counts(code, height * width)
    return MemoryObject(
        object_id,
        size=(height, width),
        counts=tuple(counts),
        scores=tuple(float(_number(v, 0, 1, "a score")) for v in scores),
        label=clean_label(entry.get("label", "")),
        color=_check_color(entry.get("color")),
        origin=clean_label(entry.get("origin", "")),
    )


def _check_counts(code: Any, pixels: int) -> None:
    """Raise ValueError unless `code` holds run lengths that fill `pixels`; pycocotools trusts them blindly.

    Each number is written in groups of five bits from the lowest on, 48 + group (+ 32 if more follow), sign-extended;
    from the fourth on it is the difference to the number two before.
    """
    problem = ValueError("The run-length encoding of a mask is damaged.")
    if not isinstance(code, str) or not code.isascii():
        raise problem
    runs: list[int] = []
    value = shift = 0
    for character in code:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 30:
            raise problem
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if not 0 <= value <= pixels:
            raise problem
        runs.append(value)
        value = shift = 0
    if shift or sum(runs) != pixels:
        raise problem
