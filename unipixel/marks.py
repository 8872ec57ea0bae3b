"""What people marked, sorted by object: checked against the media, with ids for marks that came without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from unipixel.memory import MAX_OBJECTS, ObjectMemoryBank
from unipixel.types import BoolArray, Box, Media, Point, Prompt, Region

MAX_MARKS = 512
_SCRIBBLE_POINTS = 4
# A disc's inner radius is 0.56 of its area's root; a stroke is far thinner.
_SOLID = 0.2


@dataclass(frozen=True)
class MarkedObject:
    """One object and all its marks, in the order in which they were made."""

    object_id: int
    marks: tuple[Prompt, ...]

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that hold marks, ascending."""
        return tuple(sorted({mark.frame for mark in self.marks}))

    @property
    def absent(self) -> tuple[int, ...]:
        """The frames that are marked as without the object, ascending."""
        return tuple(t for t in self.frames if any(says_absent(mark) for mark in self.on(t)))

    @property
    def single(self) -> Point | Box | None:
        """The object's only mark, if it is one positive click or one box: what a `<|ref|>` can carry."""
        if len(self.marks) != 1 or isinstance(self.marks[0], Region):
            return None
        mark = self.marks[0]
        return mark if isinstance(mark, Box) or mark.label == 1 else None

    @property
    def origin(self) -> str:
        """What the object was marked with: "point", "box" or "region" (of its first mark that lies on it)."""
        first = next((mark for mark in self.marks if not excludes(mark)), self.marks[0])
        return type(first).__name__.lower()

    def on(self, frame: int) -> list[Prompt]:
        """The marks on one frame."""
        return [mark for mark in self.marks if mark.frame == frame]


def says_absent(mark: Prompt) -> bool:
    """Whether a mark says that the object is not on its frame."""
    return isinstance(mark, Region) and mark.is_empty


def excludes(mark: Prompt) -> bool:
    """Whether a mark only says where the object is not."""
    return says_absent(mark) or (isinstance(mark, Point) and mark.label == 0)


def sort_marks(
    prompts: Sequence[Prompt], media: Media, bank: ObjectMemoryBank, *, refine: bool = False
) -> list[MarkedObject]:
    """Group marks by object, those without an id as one new object.

    With `refine` the objects have masks already, so that excluding clicks alone say something.

    Raises ValueError for marks outside the media, a bank of another media, ids of removed objects, an object without
    any positive mark, one that is marked on a frame and said to be absent from it, or too many.
    """
    _check_bank(bank, media)
    if len(prompts) > MAX_MARKS:
        raise ValueError(f"At most {MAX_MARKS} marks are allowed at once, not {len(prompts)}.")
    by_object: dict[int, list[Prompt]] = {}
    fresh: int | None = None
    for prompt in prompts:
        _check(prompt, media)
        object_id = prompt.object_id
        if object_id is None:
            fresh = fresh if fresh is not None else _next_id(prompts, bank)
            object_id = fresh
        if object_id in bank.retired:
            raise ValueError(f"Object @{object_id} was removed; mark it again as a new object.")
        by_object.setdefault(object_id, []).append(prompt)
    if len(set(by_object) | set(bank)) > MAX_OBJECTS:
        raise ValueError(f"At most {MAX_OBJECTS} objects are allowed at once. Remove one first.")
    marked = [MarkedObject(object_id, tuple(marks)) for object_id, marks in by_object.items()]
    for one in marked:
        _check_presence(one, media, refine)
    return marked


def _check_presence(marked: MarkedObject, media: Media, refine: bool) -> None:
    """Raise ValueError if the marks do not say where the object is, or contradict each other about it."""
    name = f"Object @{marked.object_id}"
    if marked.absent and media.is_image:
        raise ValueError(f"{name} cannot be marked as absent from a picture, only from a frame of a clip.")
    if not refine and all(map(excludes, marked.marks)):
        raise ValueError(f"{name} needs at least one mark that lies on it.")
    for t in marked.absent:
        if not all(map(says_absent, marked.on(t))):
            raise ValueError(f"{name} is marked on frame {t} and as absent from it; only one of both can be right.")


def _next_id(prompts: Iterable[Prompt], bank: ObjectMemoryBank) -> int:
    return max(bank.next_id() - 1, *(p.object_id or 0 for p in prompts), 0) + 1


def _check_bank(bank: ObjectMemoryBank, media: Media) -> None:
    has = {(len(known.counts), *known.size) for known in bank.values()}
    needs = media.frames.shape[:3]
    if has - {needs}:
        raise ValueError(
            f"The memory holds masks of {' x '.join(map(str, min(has)))} (frames x height x width), the media has "
            f"{' x '.join(map(str, needs))}. One memory belongs to one picture or clip."
        )


def _check(prompt: Prompt, media: Media) -> None:
    if not isinstance(prompt, Point | Box | Region):
        raise ValueError(f"A prompt must be a Point, a Box or a Region, not {type(prompt).__name__}.")
    if prompt.frame >= media.num_frames:
        last = media.num_frames - 1
        raise ValueError(
            f"There is no frame {prompt.frame}; the frames are 0 to {last}."
            if last
            else f"There is no frame {prompt.frame}; a picture has only frame 0."
        )
    prompt.check_inside(media.height, media.width)


def is_scribble(mask: BoolArray) -> bool:
    """Whether a drawn region is a line over the object rather than its area."""
    padded = np.pad(mask, 1).astype(np.uint8)
    inner = cv2.distanceTransform(padded, cv2.DIST_L2, 5).max()
    return bool(inner < _SOLID * np.sqrt(mask.sum()))


def scribble_points(mask: BoolArray) -> list[tuple[float, float]]:
    """A few points (x, y) spread along a scribble: each next one is the farthest from those before."""
    rows, columns = np.nonzero(mask)
    places = np.stack([columns, rows], 1).astype(np.float32)
    chosen = [places[len(places) // 2]]
    distance = np.full(len(places), np.inf, np.float32)
    while len(chosen) < _SCRIBBLE_POINTS:
        distance = np.minimum(distance, np.linalg.norm(places - chosen[-1], axis=1))
        if distance.max() < 2:
            break
        chosen.append(places[int(distance.argmax())])
    return [(float(x), float(y)) for x, y in chosen]
