"""What people give and what they get back: plain CPU values, checked when they are made.

Coordinates are pixels of the original image, x to the right and y down; `frame` counts the frames of
`Media.frames`. Nothing in this module knows a model, a file or a widget.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from unipixel.memory import ObjectMemoryBank

MAX_OBJECT_ID = 9999
MASK_THRESHOLD = 0.0  # a pixel whose mask logit lies above it belongs to the object

BoolArray = NDArray[np.bool_]


def check_object_id(object_id: int | None) -> int | None:
    """Return `object_id` as an int (or None), or raise ValueError."""
    if object_id is None:
        return None
    if isinstance(object_id, bool) or not isinstance(object_id, (int, np.integer)):
        raise ValueError(f"object_id must be a whole number, not {type(object_id).__name__}.")
    if not 0 <= object_id <= MAX_OBJECT_ID:
        raise ValueError(f"object_id must be between 0 and {MAX_OBJECT_ID}, not {object_id}.")
    return int(object_id)


def _check_frame(frame: int) -> int:
    if isinstance(frame, bool) or not isinstance(frame, (int, np.integer)):
        raise ValueError(f"frame must be a whole number, not {type(frame).__name__}.")
    if frame < 0:
        raise ValueError(f"frame must be 0 or more, not {frame}.")
    return int(frame)


def _check_numbers(values: Any, count: int, what: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise ValueError(f"{what} must be {count} numbers.") from None
    if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{what} must be {count} finite numbers.")
    return numbers


@dataclass(frozen=True)
class Point:
    """A click at `xy`: `label` 1 says "this belongs to the object", 0 "this does not"."""

    xy: tuple[float, float]
    label: int = 1
    frame: int = 0
    object_id: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", _check_numbers(self.xy, 2, "A point's xy"))
        if isinstance(self.label, bool) or self.label not in (0, 1):
            raise ValueError(f"A point's label must be 1 (object) or 0 (not the object), not {self.label!r}.")
        object.__setattr__(self, "label", int(self.label))
        object.__setattr__(self, "frame", _check_frame(self.frame))
        object.__setattr__(self, "object_id", check_object_id(self.object_id))

    def check_inside(self, height: int, width: int) -> None:
        """Raise ValueError if the point lies outside a picture of `height` x `width` pixels."""
        x, y = self.xy
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"Point ({x:g}, {y:g}) lies outside the picture of {width} x {height} pixels.")


@dataclass(frozen=True)
class Box:
    """A rectangle `(x1, y1, x2, y2)` around an object, with x1 < x2 and y1 < y2."""

    xyxy: tuple[float, float, float, float]
    frame: int = 0
    object_id: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", _check_numbers(self.xyxy, 4, "A box's xyxy"))
        x1, y1, x2, y2 = self.xyxy
        if x1 >= x2 or y1 >= y2:
            raise ValueError(f"A box needs x1 < x2 and y1 < y2, not ({x1:g}, {y1:g}, {x2:g}, {y2:g}).")
        object.__setattr__(self, "frame", _check_frame(self.frame))
        object.__setattr__(self, "object_id", check_object_id(self.object_id))

    def check_inside(self, height: int, width: int) -> None:
        """Raise ValueError if the box reaches outside a picture of `height` x `width` pixels."""
        x1, y1, x2, y2 = self.xyxy
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            raise ValueError(
                f"Box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) reaches outside the picture of {width} x {height} pixels."
            )


@dataclass(frozen=True, eq=False)
class Region:
    """A drawn region: `mask` is H x W bool in original pixels, a full mask or a scribble over the object.

    A mask without a pixel says that the object is not on this frame of a clip.
    """

    mask: BoolArray
    frame: int = 0
    object_id: int | None = None

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.ndim != 2 or mask.size == 0:
            raise ValueError(f"A region's mask must be H x W, not of shape {mask.shape}.")
        if mask.dtype != np.bool_:
            if not np.issubdtype(mask.dtype, np.number) or not np.isfinite(mask).all():
                raise ValueError("A region's mask must hold only true and false (or finite numbers).")
            mask = mask > 0
        mask = mask.copy()
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "frame", _check_frame(self.frame))
        object.__setattr__(self, "object_id", check_object_id(self.object_id))

    @property
    def is_empty(self) -> bool:
        """Whether the region says "the object is not on this frame"."""
        return not self.mask.any()

    def check_inside(self, height: int, width: int) -> None:
        """Raise ValueError unless the mask has the picture's size."""
        if self.mask.shape != (height, width):
            raise ValueError(
                f"The region's mask has {self.mask.shape[1]} x {self.mask.shape[0]} pixels, "
                f"the picture has {width} x {height}."
            )


Prompt = Point | Box | Region


@dataclass(frozen=True, eq=False)
class Media:
    """Frames for the model, and where they come from.

    `frames` is uint8 T x H x W x 3 RGB (an image has T = 1), `frame_indices` says which frame of the source each
    one is, `fps` is the source's rate (0 for an image), `source` a path the full clip can be read from again (None
    for arrays). `notices` are sentences on what was changed silently while reading ("rotated", "first frame only").
    """

    frames: NDArray[np.uint8]
    frame_indices: tuple[int, ...]
    fps: float = 0.0
    source: str | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ValueError(f"Frames must be uint8 T x H x W x 3, not {frames.dtype} of shape {frames.shape}.")
        if len(self.frame_indices) != len(frames):
            raise ValueError(f"{len(frames)} frames need as many frame indices, not {len(self.frame_indices)}.")
        frames = frames.view()
        frames.flags.writeable = False
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "frame_indices", tuple(int(i) for i in self.frame_indices))

    @property
    def is_image(self) -> bool:
        return len(self.frames) == 1

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def height(self) -> int:
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        return self.frames.shape[2]

    @cached_property
    def content_key(self) -> str:
        """Hash of the frames: equal pictures have equal keys."""
        digest = hashlib.blake2b(repr(self.frames.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.frames).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, eq=False)
class Masklet:
    """One object's masks over time: `masks` bool T x H x W, `scores` T numbers in 0..1 (the model's trust in each)."""

    object_id: int
    masks: BoolArray
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    label: str = ""

    def __post_init__(self) -> None:
        masks = np.asarray(self.masks)
        if masks.dtype != np.bool_ or masks.ndim != 3:
            raise ValueError(f"A masklet's masks must be bool T x H x W, not {masks.dtype} of shape {masks.shape}.")
        scores = np.asarray(self.scores, np.float32)
        if scores.size == 0:
            scores = np.ones(len(masks), np.float32)
        if scores.shape != (len(masks),):
            raise ValueError(f"A masklet of {len(masks)} frames needs as many scores, not {scores.shape}.")
        masks = masks.view()
        masks.flags.writeable = False
        object.__setattr__(self, "object_id", check_object_id(self.object_id))
        object.__setattr__(self, "masks", masks)
        object.__setattr__(self, "scores", scores)

    @property
    def visible(self) -> BoolArray:
        """T bool: the frames in which the object has at least one pixel."""
        return np.asarray(self.masks.any(axis=(1, 2)))

    def visible_spans(self) -> list[tuple[int, int]]:
        """Stretches of frames in which the object is visible, as inclusive (first, last) pairs."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.visible.astype(np.int8), [0]])))
        return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2])]

    def boxes(self) -> NDArray[np.float32]:
        """T x 4 tight boxes xyxy (x2 and y2 one past the last pixel); zeros where the object is not visible."""
        boxes = np.zeros((len(self.masks), 4), np.float32)
        for t, mask in enumerate(self.masks):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                boxes[t] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes

    def to_rle(self) -> list[dict[str, Any]]:
        """COCO run-length encodings, one a frame: `{"size": [H, W], "counts": str}` (Fortran order)."""
        return encode_rle(self.masks)


def encode_rle(masks: BoolArray) -> list[dict[str, Any]]:
    """Encode bool T x H x W masks as COCO RLEs with `counts` as str."""
    codes: Any = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return [{"size": [int(v) for v in c["size"]], "counts": c["counts"].decode("ascii")} for c in codes]


def decode_rle(rles: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> BoolArray:
    """Decode COCO RLEs of one size to bool T x H x W masks; ValueError if they are damaged."""
    try:
        codes: Any = [{"size": r["size"], "counts": r["counts"].encode("ascii")} for r in rles]
        masks = coco_mask.decode(codes)
    except Exception as error:
        raise ValueError("The run-length encoding of a mask is damaged.") from error
    return np.ascontiguousarray(masks.transpose(2, 0, 1)).astype(bool)


def rle_areas(rles: Sequence[dict[str, Any]]) -> NDArray[np.int64]:
    """Pixels of each COCO RLE, without decoding it."""
    # pycocotools counts at most 255 masks at once.
    parts: Any = [rles[i : i + 255] for i in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, np.int64), *(coco_mask.area(part).astype(np.int64) for part in parts)])


def rle_boxes(rles: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Tight boxes (x, y, width, height) of COCO RLEs, N x 4, without decoding them; zeros for empty ones."""
    codes: Any = list(rles)
    return coco_mask.toBbox(codes)


@dataclass(frozen=True, eq=False)
class FilledFrame:
    """Masks (N x H x W bool) and scores (N) of N objects on one of the `count` frames of a clip's source."""

    frame: int
    count: int
    masks: BoolArray
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """Characters `start`..`end` (end exclusive) of an answer's text that name the object `object_id`."""

    start: int
    end: int
    object_id: int


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model said: `text` names objects as `@1`, `spans` says where, `masklets` holds their masks.

    `memory` is the bank after the turn. `cancelled` is True when the turn was stopped early, `truncated` when the
    answer reached the token limit.
    """

    text: str
    spans: tuple[Span, ...]
    masklets: Mapping[int, Masklet]
    memory: ObjectMemoryBank
    cancelled: bool = False
    truncated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "masklets", dict(self.masklets))


@dataclass(frozen=True)
class Turn:
    """One earlier question and its answer, in the words people see (`@1` for objects)."""

    question: str
    answer: str


@dataclass(frozen=True)
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, eq=False)
class MaskUpdate:
    """A mask just found: `mask` H x W bool of `object_id` on `frame`."""

    object_id: int
    frame: int
    mask: BoolArray


@dataclass(frozen=True, eq=False)
class Masklets:
    """Complete masklets of one step (pre-fill or answer), by object id."""

    masklets: Mapping[int, Masklet]


@dataclass(frozen=True, eq=False)
class Done:
    """The end of a turn."""

    answer: Answer


Event = TextDelta | MaskUpdate | Masklets | Done
