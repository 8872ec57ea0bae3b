"""A question about a scene, the marks it speaks of, and what every maker of questions works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from unipixel.data.world import english
from unipixel.data.world.english import varied_phrase
from unipixel.data.world.scene import Scene
from unipixel.data.world.shapes import NAMELESS, ObjectSpec
from unipixel.data.world.words import Wording

Attributes = Mapping[str, str]
_T = TypeVar("_T")

MIN_AREA = 100 / 256**2  # visible area an object needs to be asked for or marked, as a share of side squared
MARK_KINDS = ("point", "box", "mask")
RICH_MARK_KINDS = (*MARK_KINDS, "scribble")
TRIES = 12

_MARK_ODDS = (0.5, 0.3, 0.2)
_RICH_MARK_ODDS = (0.4, 0.25, 0.15, 0.2)
_SEVERAL_FRAMES_ODDS = 0.25  # how often an object of a clip is marked on more than one frame
_BYSTANDER_ODDS = 0.25  # how often a request for masks comes while other objects are marked already
_FOLLOW_ODDS = 0.8  # how often a later turn asks about what the conversation knows already


@dataclass(frozen=True)
class Mark:
    """A mark on object `object_index` of the scene, of a kind in `RICH_MARK_KINDS`, on frame `frame`."""

    object_index: int
    kind: str
    frame: int


@dataclass(frozen=True)
class Task:
    """A question about a scene and its right answer.

    `targets` are the objects (indexes into `Scene.objects`) whose masks the `SEG_TOKEN`s of `answer` produce, in
    their order. `marks` are the marks made before the question, `ids` maps ids (`@1`) to objects for all of them, and
    for all that earlier turns of its dialogue marked or found. `about` are the objects that decide an answer without
    masks ("There are 2 circles."), None where marks do.
    """

    kind: str
    question: str
    answer: str
    targets: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()
    ids: Mapping[int, int] = field(default_factory=dict)
    about: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Context:
    """A scene being asked about, and the source of randomness; `known` maps ids of earlier turns to objects."""

    rng: np.random.Generator
    scene: Scene
    heldout: bool
    known: Mapping[int, int] = field(default_factory=dict)

    @property
    def objects(self) -> tuple[ObjectSpec, ...]:
        return self.scene.objects

    @property
    def media(self) -> str:
        return "picture" if self.scene.num_frames == 1 else "video"

    @property
    def everyone(self) -> tuple[int, ...]:
        return tuple(range(len(self.objects)))

    @property
    def named(self) -> tuple[int, ...]:
        """The objects that there is a word for."""
        return tuple(k for k in self.everyone if self.objects[k].shape != NAMELESS)

    @property
    def rich(self) -> bool:
        """Whether the scene may hold more than shapes."""
        return self.scene.contents.rich

    @property
    def open_world(self) -> bool:
        """Whether there is more to see than the world has words for: "all objects" has no clear meaning then."""
        return self.scene.background == "photo" or len(self.named) < len(self.objects)

    def seen(self, *indexes: int) -> bool:
        """Whether all these objects can be seen well on frame 0."""
        return all(self.scene.areas[k, 0] >= MIN_AREA * self.scene.side**2 for k in indexes)

    def coin(self, odds: float = 0.5) -> bool:
        return bool(self.rng.random() < odds)

    def pick(self, options: Sequence[_T]) -> _T:
        return options[int(self.rng.integers(len(options)))]

    def say(self, attributes: Attributes, *, many: bool = False, rank: str = "") -> str:
        """A noun phrase for these attributes with some synonyms."""
        synonyms = english.RICH_SYNONYMS if self.rich else english.SYNONYMS
        return varied_phrase(self.rng, attributes, many=many, rank=rank, synonyms=synonyms)

    def ask(self, wording: Wording, **fields: str) -> str:
        """One of the ways to ask, filled in; rare ones only when held-out material is wanted."""
        rare = self.heldout and self.coin()
        template = self.pick(wording.rare if rare else wording.usual)
        media = self.pick(("picture", "image") if self.scene.num_frames == 1 else ("video", "clip"))
        return english.vary_text(self.rng, template.format(media=media, **fields))

    def mark(self, indexes: Sequence[int]) -> tuple[tuple[Mark, ...], dict[int, int]]:
        """Mark these objects, each on a frame that shows it, under ids that mostly count from 1.

        What earlier turns know keeps its id and needs no mark; the ids of others count on from there.
        """
        if self.known:
            return self._mark_more(indexes)
        numbers = range(1, len(indexes) + 1)
        if self.coin(0.2):
            numbers = sorted(self.rng.choice(np.arange(1, 10), len(indexes), replace=False).tolist())
        marks = [mark for k in indexes for mark in self._marks_on(k)]
        return tuple(marks), dict(zip(numbers, indexes))

    def _mark_more(self, indexes: Sequence[int]) -> tuple[tuple[Mark, ...], dict[int, int]]:
        marks: list[Mark] = []
        ids: dict[int, int] = {}
        for k in indexes:
            number = next((number for number, known in self.known.items() if known == k), 0)
            if not number:
                number = max(*self.known, *ids, 0) + 1
                marks += self._marks_on(k)
            ids[number] = k
        return tuple(marks), ids

    def _marks_on(self, k: int) -> list[Mark]:
        frames = np.flatnonzero(self.scene.areas[k] >= MIN_AREA * self.scene.side**2)
        first = frames[0] if self.coin() else self.rng.choice(frames)
        if not self.rich:
            return [Mark(k, str(self.rng.choice(MARK_KINDS, p=_MARK_ODDS)), int(first))]
        several = len(frames) > 1 and self.coin(_SEVERAL_FRAMES_ODDS)
        chosen = sorted({int(first), *self.rng.choice(frames, 2).tolist()}) if several else [int(first)]
        kinds = self.rng.choice(RICH_MARK_KINDS, len(chosen), p=_RICH_MARK_ODDS)
        return [Mark(k, str(kind), t) for kind, t in zip(kinds, chosen)]

    def markable(self) -> list[int]:
        """Objects that some frame shows well; in a later turn mostly those that earlier ones found."""
        shown = np.flatnonzero(self.scene.areas.max(1) >= MIN_AREA * self.scene.side**2).tolist()
        if self.known and self.coin(_FOLLOW_ODDS):
            return [k for k in shown if k in self.known.values()]
        return shown


Maker = Callable[[Context], Task | None]


def request(context: Context, kind: str, question: str, answer: str, targets: Sequence[int]) -> Task:
    """A request for masks, sometimes in a conversation in which other objects are marked already."""
    others = [] if context.known else [k for k in context.markable() if k not in targets]
    marks, ids = (), {}
    if others and context.coin(_BYSTANDER_ODDS):
        count = int(context.rng.integers(1, min(len(others), 2) + 1))
        marks, ids = context.mark(context.rng.permutation(others)[:count].tolist())
    return Task(kind, question, answer, tuple(targets), marks, ids, None if targets else ())
