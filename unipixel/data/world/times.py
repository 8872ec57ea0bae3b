"""Questions on when: the frames on which something can be seen, counted from 1."""

from __future__ import annotations

import numpy as np

from unipixel.data.world import more_words
from unipixel.data.world.asking import MIN_AREA, TRIES, Context, Task
from unipixel.data.world.english import listing, noun_phrase
from unipixel.data.world.phrases import NAME_ATTRIBUTES, attributes_of, is_clear, matching

_SLIVER = 0.5 * MIN_AREA  # what is smaller, but not gone, can be called visible or not
_ALWAYS_ODDS = 0.03  # how often a try settles for something that can be seen all the time: most things can


def visible_spans(visible: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True as (first, last) frames, counted from 1."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], visible, [False]]).astype(np.int8)))
    return [(int(a) + 1, int(b)) for a, b in zip(edges[::2], edges[1::2])]


def say_spans(spans: list[tuple[int, int]], num_frames: int) -> str:
    """ "from frame 3 to 6", "in frame 2 and from frame 4 to 8", "in all frames"."""
    if spans == [(1, num_frames)]:
        return "in all frames"
    return listing([f"in frame {a}" if a == b else f"from frame {a} to {b}" for a, b in spans])


def _spans_of(context: Context, k: int) -> list[tuple[int, int]] | None:
    """When object k can be seen; None where that is not clear, or too often so to be asked about."""
    areas = context.scene.areas[k]
    spans = visible_spans(areas > 0)
    always = spans == [(1, context.scene.num_frames)]
    slivers = (areas > 0) & (areas < _SLIVER * context.scene.side**2)
    return None if slivers.any() or not spans or (always and not context.coin(_ALWAYS_ODDS)) else spans


def when_mark(context: Context) -> Task | None:
    """ "When can @1 be seen?"."""
    if context.scene.num_frames < 4 or not (marked := context.markable()):
        return None
    k = context.pick(marked)
    if (spans := _spans_of(context, k)) is None:
        return None
    marks, ids = context.mark([k])
    name = f"@{next(iter(ids))}"
    answer = f"{name} is visible {say_spans(spans, context.scene.num_frames)}."
    return Task("when_mark", context.ask(more_words.WHEN, a=name), answer, (), marks, ids)


def when(context: Context) -> Task | None:
    """ "When can the cat be seen?", in words alone; also of what is not there at first."""
    for _ in range(TRIES if context.named and context.scene.num_frames >= 4 else 0):
        k = context.pick(context.named)
        attributes = attributes_of(context.objects[k], context.pick(NAME_ATTRIBUTES))
        if matching(context.objects, attributes) != (k,) or not is_clear(context, attributes):
            continue
        if (spans := _spans_of(context, k)) is not None:
            question = context.ask(more_words.WHEN, a=f"the {context.say(attributes)}")
            answer = f"The {noun_phrase(attributes)} is visible {say_spans(spans, context.scene.num_frames)}."
            return Task("when", question, answer)
    return None
