"""What is looked at and how it is pointed at: frames, objects, questions and marks, chosen by a given generator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from unipixel.data.sample import Sample
from unipixel.grammar import mentioned_ids, segment_request
from unipixel.media import sample_indices
from unipixel.types import BoolArray, Box, Point, Prompt, Region, Turn

# How the objects that a question names are shown to the model: not at all (it names none), as `<|ref|>` in the
# question, in the pre-fill pass, from memory. The last two are what the engine does, the first trains the
# prompt encoder alone.
# A find is a plain question that is answered with a mask.
PLAIN, FIND, DIRECT, PREFILL, MEMORY = "plain", "find", "direct", "prefill", "memory"
FORMS = (PLAIN, FIND, DIRECT, PREFILL, MEMORY)

POINT, CENTRE, BOX, SCRIBBLE, MASK = "point", "centre", "box", "scribble", "mask"
SPOKEN = (POINT, CENTRE, BOX)  # what a `<|ref|>` can carry

_BOX_JITTER = 0.08  # largest shift of a box's side, as a share of its width or height
_SENTENCE = re.compile(r"[.!?]\s*$")

T = TypeVar("T")


@dataclass(frozen=True)
class Exchange:
    """One question to learn, after the earlier turns `history`; `form` says how the objects in it are shown."""

    question: str
    answer: str
    form: str = PLAIN
    history: tuple[Turn, ...] = ()

    @property
    def shown(self) -> tuple[int, ...]:
        """The objects that the question names: they were marked or are remembered."""
        return tuple(mentioned_ids(self.question))

    @property
    def found(self) -> tuple[int, ...]:
        """The objects that the answer finds: each is a `<|seg|>`."""
        known = {i for turn in self.history for text in (turn.question, turn.answer) for i in mentioned_ids(text)}
        return tuple(i for i in mentioned_ids(self.answer) if i not in known | set(self.shown))


def pick(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    """One of the keys, as often as its weight says."""
    odds = np.array(list(weights.values()), float)
    return list(weights)[int(rng.choice(len(odds), p=odds / odds.sum()))]


# ------------------------------------------------------------------------------------------------ frames and objects


def sample_frames(rng: np.random.Generator, frames: Sequence[int], count: int) -> list[int]:
    """At most `count` of `frames`, evenly spread over a random stretch of them (at least `count` long)."""
    if len(frames) <= count:
        return list(frames)
    length = int(rng.integers(count, len(frames) + 1))
    start = int(rng.integers(0, len(frames) - length + 1))
    return [frames[start + i] for i in sample_indices(length, count)]


def sample_objects(rng: np.random.Generator, object_ids: Sequence[int], most: int) -> list[int]:
    """At most `most` different objects, in random order."""
    count = min(most, len(object_ids))
    return [object_ids[int(i)] for i in rng.choice(len(object_ids), count, replace=False)]


# ---------------------------------------------------------------------------------------------------------- questions


def possible_forms(sample: Sample) -> frozenset[str]:
    """The forms that some exchange of the sample can have."""
    if not sample.turns:
        return frozenset(FORMS)
    return frozenset(form for form in FORMS if _turns_of(sample, form))


def _turns_of(sample: Sample, form: str) -> list[int]:
    """The turns of a sample that can be asked in this form."""
    turns = sample.turns
    if form in (PLAIN, FIND):
        plain = [n for n, turn in enumerate(turns) if not mentioned_ids(turn.question)]
        return plain if form == PLAIN else [n for n in plain if _exchange(sample, n, form).found]
    return [n for n, turn in enumerate(turns) if mentioned_ids(turn.question)]


def _exchange(sample: Sample, n: int, form: str) -> Exchange:
    return Exchange(sample.turns[n].question, sample.turns[n].answer, form, sample.turns[:n])


def sample_exchanges(rng: np.random.Generator, sample: Sample, forms: Mapping[str, float], most: int) -> list[Exchange]:
    """At most `most` exchanges of one form about a sample: of its turns, or about its labelled objects."""
    possible = possible_forms(sample)
    fitting = {form: weight for form, weight in forms.items() if form in possible and weight > 0}
    if not fitting:
        raise ValueError(f"{sample.name or 'A sample'} allows no exchange of the forms {', '.join(forms)}.")
    form = pick(rng, fitting)
    if not sample.turns:
        chosen = sample_objects(rng, sorted(sample.labels), most)
        return [_about_label(sample, object_id, form) for object_id in chosen]
    return [_exchange(sample, n, form) for n in sorted(sample_objects(rng, _turns_of(sample, form), most))]


def all_exchanges(sample: Sample) -> list[Exchange]:
    """Every turn of a sample, or a request for each of its labelled objects: what evaluation asks."""
    if not sample.turns:
        return [_about_label(sample, object_id, PLAIN) for object_id in sorted(sample.labels)]
    forms = [MEMORY if mentioned_ids(turn.question) else PLAIN for turn in sample.turns]
    return [_exchange(sample, n, form) for n, form in enumerate(forms)]


def _about_label(sample: Sample, object_id: int, form: str) -> Exchange:
    """A request for what a label names, or the question what a marked object is."""
    label = sample.labels[object_id].strip()
    noun = label[0].lower() + label[1:] if label[:2].istitle() else label
    known = noun.startswith(("the ", "a ", "an "))
    phrase = noun if known else f"the {noun}"
    if form not in (PLAIN, FIND):
        return Exchange(f"What is @{object_id}?", f"@{object_id} is {phrase}.", form)
    if _SENTENCE.search(label):
        return Exchange(label, f"It is @{object_id}.", form)
    request = segment_request(phrase, not sample.is_clip)
    return Exchange(request, f"{phrase[0].upper()}{phrase[1:]} is @{object_id}.", form)


# -------------------------------------------------------------------------------------------------------------- marks


def sample_mark(
    rng: np.random.Generator, masks: BoolArray, object_id: int, kinds: Mapping[str, float]
) -> Prompt | None:
    """A mark of one of `kinds` on a frame that shows the object (`masks` T x H x W), or None if none does."""
    visible = np.flatnonzero(masks.any((1, 2)))
    if not len(visible):
        return None
    frame = int(rng.choice(visible))
    kind, mask = pick(rng, kinds), masks[frame]
    if kind == BOX:
        return Box(jittered_box(rng, mask), frame=frame, object_id=object_id)
    if kind in (POINT, CENTRE):
        return Point(uniform_point(rng, mask) if kind == POINT else centre(mask), frame=frame, object_id=object_id)
    return Region(mask if kind == MASK else scribble(rng, mask), frame=frame, object_id=object_id)


def uniform_point(rng: np.random.Generator, mask: BoolArray) -> tuple[float, float]:
    """The middle of any pixel of the mask, as (x, y)."""
    rows, columns = np.nonzero(mask)
    i = int(rng.integers(len(rows)))
    return float(columns[i]) + 0.5, float(rows[i]) + 0.5


def _depth(mask: BoolArray) -> np.ndarray:
    """Distance of every pixel to the nearest one outside the mask."""
    return cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]


def centre(mask: BoolArray) -> tuple[float, float]:
    """The middle of the mask's innermost pixel: unlike the mean of its pixels it always lies on the mask."""
    row, column = np.unravel_index(int(_depth(mask).argmax()), mask.shape)
    return float(column) + 0.5, float(row) + 0.5


def jittered_box(rng: np.random.Generator, mask: BoolArray) -> tuple[float, float, float, float]:
    """The mask's box with each side shifted a little, within the picture and never empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x1, y1, x2, y2 = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    shift = rng.uniform(-_BOX_JITTER, _BOX_JITTER, 4) * np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    height, width = mask.shape
    left, top = max(0.0, x1 + shift[0]), max(0.0, y1 + shift[1])
    return left, top, min(float(width), x2 + shift[2]), min(float(height), y2 + shift[3])


def scribble(rng: np.random.Generator, mask: BoolArray) -> BoolArray:
    """A curved stroke inside the mask between two of its pixels, H x W bool with at least one pixel."""
    start, bend, end = (np.array(uniform_point(rng, mask)) for _ in range(3))
    t = np.linspace(0, 1, 32)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    width = max(1, round(float(np.sqrt(mask.sum())) * 0.08))
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.polylines(canvas, [curve.astype(np.int32)[:, None]], False, 1, width)
    return (canvas > 0) & mask
