"""What can be asked about a drawn scene, with the right answer and the objects whose masks it holds.

Answers are written as in the API: objects of the conversation as `@1`, a mask as `SEG_TOKEN`. Each kind of task has
one canonical answer; the variety is in the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from unipixel.data.world import words
from unipixel.data.world.scene import Scene, draw_scene
from unipixel.data.world.shapes import COLORS, HELDOUT_PAIRS, SHAPES, TEXTURES, ObjectSpec
from unipixel.data.world.words import Wording, article, listing, noun_phrase, plural, varied_phrase
from unipixel.grammar import SEG_TOKEN, render_question

Attributes = Mapping[str, str]
_T = TypeVar("_T")

MIN_AREA = 100 / 256**2  # visible area an object needs to be asked for or marked, as a share of side squared
MARK_KINDS = ("point", "box", "mask")

_MARK_ODDS = (0.5, 0.3, 0.2)
_BYSTANDER_ODDS = 0.25  # how often a request for masks comes while other objects are marked already
_PLACE_MARGIN = 0.08  # share of the side by which "leftmost" or "left of" must hold
_AREA_RATIO = 1.5  # factor by which "largest" or "larger than" must hold
_TRIES = 12


@dataclass(frozen=True)
class Mark:
    """A mark on object `object_index` of the scene, of a kind in `MARK_KINDS`, on frame `frame`."""

    object_index: int
    kind: str
    frame: int


@dataclass(frozen=True)
class Task:
    """A question about a scene and its right answer.

    `targets` are the objects (indexes into `Scene.objects`) whose masks the `SEG_TOKEN`s of `answer` produce, in
    their order. `marks` are the marks made before the question, `ids` maps ids (`@1`) to objects for all of them.
    """

    kind: str
    question: str
    answer: str
    targets: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()
    ids: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Context:
    """A scene being asked about, and the source of randomness."""

    rng: np.random.Generator
    scene: Scene
    heldout: bool

    @property
    def objects(self) -> tuple[ObjectSpec, ...]:
        return self.scene.objects

    @property
    def media(self) -> str:
        return "picture" if self.scene.num_frames == 1 else "video"

    @property
    def everyone(self) -> tuple[int, ...]:
        return tuple(range(len(self.objects)))

    def seen(self, *indexes: int) -> bool:
        """Whether all these objects can be seen well on frame 0."""
        return all(self.scene.areas[k, 0] >= MIN_AREA * self.scene.side**2 for k in indexes)

    def coin(self, odds: float = 0.5) -> bool:
        return bool(self.rng.random() < odds)

    def pick(self, options: Sequence[_T]) -> _T:
        return options[int(self.rng.integers(len(options)))]

    def ask(self, wording: Wording, **fields: str) -> str:
        """One of the ways to ask, filled in; rare ones only when held-out material is wanted."""
        rare = self.heldout and self.coin()
        template = self.pick(wording.rare if rare else wording.usual)
        media = self.pick(("picture", "image") if self.scene.num_frames == 1 else ("video", "clip"))
        return words.vary_text(self.rng, template.format(media=media, **fields))

    def mark(self, indexes: Sequence[int]) -> tuple[tuple[Mark, ...], dict[int, int]]:
        """Mark these objects, each on a frame that shows it, under ids that mostly count from 1."""
        numbers = range(1, len(indexes) + 1)
        if self.coin(0.2):
            numbers = sorted(self.rng.choice(np.arange(1, 10), len(indexes), replace=False).tolist())
        marks = []
        for k in indexes:
            frames = np.flatnonzero(self.scene.areas[k] >= MIN_AREA * self.scene.side**2)
            frame = frames[0] if self.coin() else self.rng.choice(frames)
            marks.append(Mark(k, str(self.rng.choice(MARK_KINDS, p=_MARK_ODDS)), int(frame)))
        return tuple(marks), dict(zip(numbers, indexes))

    def markable(self) -> list[int]:
        """Objects that some frame shows well."""
        return np.flatnonzero(self.scene.areas.max(1) >= MIN_AREA * self.scene.side**2).tolist()


_Maker = Callable[[_Context], Task | None]


# ------------------------------------------------------------------------------------------ phrases and what they fit


def matching(objects: Sequence[ObjectSpec], attributes: Attributes) -> tuple[int, ...]:
    """Indexes of the objects with all these attributes."""
    return tuple(k for k, spec in enumerate(objects) if all(getattr(spec, a) == v for a, v in attributes.items()))


def _of(spec: ObjectSpec, names: Sequence[str]) -> dict[str, str]:
    return {name: getattr(spec, name) for name in names}


def _may_be_named(context: _Context, attributes: Attributes) -> bool:
    """Training must not name a held-out pair: it would learn that there is never such an object."""
    return context.heldout or (attributes.get("color"), attributes.get("shape")) not in HELDOUT_PAIRS


def _is_clear(context: _Context, attributes: Attributes) -> bool:
    """Whether everyone would agree on which objects have these attributes."""
    motions = {spec.motion for spec in context.objects}
    if "size" in attributes and motions & {"grow", "shrink"}:
        return False
    motion = attributes.get("motion")
    if motion is None:
        return True
    if context.scene.num_frames < 4 or motion == "appears":
        return False
    return motion not in ("left", "right", "up", "down") or not motions & {"bounce", "appears", "leaves"}


_VALUES: dict[str, tuple[str, ...]] = {"color": tuple(COLORS), "shape": SHAPES, "texture": TEXTURES}
_SINGLE_ATTRIBUTES = (
    *[("color", "shape")] * 6,
    *[("shape",)] * 2,
    *[("color",)] * 2,
    ("texture", "shape"),
    ("color", "texture", "shape"),
    ("texture",),
    ("size", "shape"),
    ("size", "color", "shape"),
    ("shape", "motion"),
    ("motion",),
)
_GROUP_ATTRIBUTES = (*[("shape",)] * 3, *[("color",)] * 3, ("color", "shape"), ("texture",), ("size",), ())
_QUERY_ATTRIBUTES = (*[("color", "shape")] * 4, ("shape",), ("color",), ("texture", "shape"))


def _unique(context: _Context, attribute_sets: Sequence[Sequence[str]], avoid: int | None = None) -> tuple[int, dict]:
    """An object that can be seen at first and attributes that fit only it; (-1, {}) if none was found."""
    for _ in range(_TRIES):
        k = context.pick(context.everyone)
        attributes = _of(context.objects[k], context.pick(attribute_sets))
        alone = matching(context.objects, attributes) == (k,)
        if k != avoid and alone and context.seen(k) and _is_clear(context, attributes):
            return k, attributes
    return -1, {}


def _missing(context: _Context, attribute_sets: Sequence[Sequence[str]]) -> dict[str, str] | None:
    """Attributes that fit no object, mostly a near miss: those of an object with one word exchanged."""
    for _ in range(_TRIES):
        names = context.pick(attribute_sets)
        if context.objects and context.coin(0.75):
            attributes = _of(context.pick(context.objects), names)
            changed = context.pick(names)
            attributes[changed] = context.pick(_VALUES[changed])
        else:
            attributes = {name: context.pick(_VALUES[name]) for name in names}
        if not matching(context.objects, attributes) and _may_be_named(context, attributes):
            return attributes
    return None


def _left_to_right(context: _Context, indexes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(indexes, key=lambda k: context.scene.centroids[k, 0, 0]))


def _first_by(context: _Context, indexes: Sequence[int], axis: int, sign: int) -> int | None:
    """Which object has the smallest `sign` * coordinate: clearly on frame 0, and on all others. None if not clear."""
    places = sign * context.scene.centroids[list(indexes), :, axis]
    order = np.sort(places[:, 0])
    if order[1] - order[0] < _PLACE_MARGIN * context.scene.side:
        return None
    first = np.nanargmin(places, 0) if not np.isnan(places).all(0).any() else np.full(1, -1)
    return indexes[int(first[0])] if (first == first[0]).all() and first[0] >= 0 else None


def _largest(context: _Context, indexes: Sequence[int], sign: int) -> int | None:
    """Which object is clearly the largest (`sign` 1) or smallest (-1) to the eye; None if not clear."""
    if any(context.objects[k].motion in ("grow", "shrink") for k in indexes):
        return None
    areas = context.scene.areas[list(indexes), 0]
    order = np.argsort(-sign * areas)
    first, second = sorted(areas[order[:2]])
    return indexes[int(order[0])] if second >= _AREA_RATIO * max(first, 1) else None


_RANKS: dict[str, Callable[[_Context, Sequence[int]], int | None]] = {
    "leftmost": lambda context, group: _first_by(context, group, 0, 1),
    "rightmost": lambda context, group: _first_by(context, group, 0, -1),
    "topmost": lambda context, group: _first_by(context, group, 1, 1),
    "bottommost": lambda context, group: _first_by(context, group, 1, -1),
    "largest": lambda context, group: _largest(context, group, 1),
    "smallest": lambda context, group: _largest(context, group, -1),
}


# ------------------------------------------------------------------------------------------------ requests for masks


def _request(context: _Context, kind: str, question: str, answer: str, targets: Sequence[int]) -> Task:
    """A request for masks, sometimes in a conversation in which other objects are marked already."""
    others = [k for k in context.markable() if k not in targets]
    marks, ids = (), {}
    if others and context.coin(_BYSTANDER_ODDS):
        count = int(context.rng.integers(1, min(len(others), 2) + 1))
        marks, ids = context.mark(context.rng.permutation(others)[:count].tolist())
    return Task(kind, question, answer, tuple(targets), marks, ids)


def _here_are(phrase: str, count: int) -> str:
    return f"Here are the {phrase}: {', '.join([SEG_TOKEN] * count)}."


def _refer(context: _Context) -> Task | None:
    if not context.objects:
        return None
    k, attributes = _unique(context, _SINGLE_ATTRIBUTES)
    if k < 0:
        return None
    question = context.ask(words.FIND_ONE, np=varied_phrase(context.rng, attributes))
    return _request(context, "refer", question, f"The {noun_phrase(attributes)} is {SEG_TOKEN}.", (k,))


def _refer_rank(context: _Context) -> Task | None:
    for _ in range(_TRIES):
        if len(context.objects) < 2:
            return None
        attributes = _of(context.pick(context.objects), context.pick(((), (), ("shape",), ("color",))))
        group = matching(context.objects, attributes)
        rank = context.pick(tuple(_RANKS))
        if len(group) < 2 or not context.seen(*group):
            continue
        k = _RANKS[rank](context, group)
        if k is not None:
            question = context.ask(words.FIND_ONE, np=varied_phrase(context.rng, attributes, rank=rank))
            answer = f"The {noun_phrase(attributes, rank=rank)} is {SEG_TOKEN}."
            return _request(context, "refer_rank", question, answer, (k,))
    return None


def _refer_two(context: _Context) -> Task | None:
    if len(context.objects) < 2:
        return None
    pairs = (("color", "shape"), ("color", "shape"), ("shape",))
    first, attributes = _unique(context, pairs)
    second, others = _unique(context, pairs, avoid=first)
    if first < 0 or second < 0:
        return None
    question = context.ask(
        words.FIND_TWO, np=varied_phrase(context.rng, attributes), other=varied_phrase(context.rng, others)
    )
    answer = f"The {noun_phrase(attributes)} is {SEG_TOKEN} and the {noun_phrase(others)} is {SEG_TOKEN}."
    return _request(context, "refer_two", question, answer, (first, second))


def _refer_all(context: _Context) -> Task | None:
    for _ in range(_TRIES):
        if not context.objects:
            return None
        attributes = _of(context.pick(context.objects), context.pick(_GROUP_ATTRIBUTES))
        group = matching(context.objects, attributes)
        # One object is a group too, but rarely: people ask for "all" when they see several.
        if not context.seen(*group) or not _is_clear(context, attributes) or (len(group) < 2 and context.coin(0.7)):
            continue
        if attributes:
            noun = varied_phrase(context.rng, attributes)
            many = varied_phrase(context.rng, attributes, many=True)
            question = context.ask(words.FIND_ALL, np=many, one=noun)
        else:
            question = context.ask(words.FIND_EVERYTHING)
        answer = _here_are(noun_phrase(attributes, many=True), len(group))
        return _request(context, "refer_all", question, answer, _left_to_right(context, group))
    return None


def _absent(context: _Context) -> Task | None:
    attributes = _missing(context, _QUERY_ATTRIBUTES)
    if attributes is None:
        return None
    if context.coin(0.25):
        many = varied_phrase(context.rng, attributes, many=True)
        question = context.ask(words.FIND_ALL, np=many, one=varied_phrase(context.rng, attributes))
        answer = f"There are no {noun_phrase(attributes, many=True)} in the {context.media}."
    else:
        question = context.ask(words.FIND_ONE, np=varied_phrase(context.rng, attributes))
        answer = f"There is no {noun_phrase(attributes)} in the {context.media}."
    return _request(context, "absent", question, answer, ())


def _caption(context: _Context) -> Task | None:
    if not context.objects or not context.seen(*context.everyone):
        return None
    order = _left_to_right(context, context.everyone)
    phrases = [f"{article(context.objects[k].full_name)} {SEG_TOKEN}" for k in order]
    text = listing(phrases)
    return Task("caption", context.ask(words.CAPTION), f"{text[0].upper()}{text[1:]}.", order)


def _similar(context: _Context) -> Task | None:
    marked = context.markable()
    if not marked:
        return None
    k = context.pick(marked)
    trait = context.pick(("color", "shape"))
    attributes = _of(context.objects[k], (trait,))
    only_others = context.coin()
    group = [j for j in matching(context.objects, attributes) if not (only_others and j == k)]
    if not context.seen(*group) or (not group and context.coin()):
        return None
    marks, ids = context.mark([k])
    wording = words.OTHERS_LIKE if only_others else words.ALL_LIKE
    question = context.ask(wording, trait=trait, a=f"@{next(iter(ids))}")
    phrase = ("other " if only_others else "") + noun_phrase(attributes, many=True)
    answer = _here_are(phrase, len(group)) if group else f"There are no {phrase} in the {context.media}."
    return Task("similar", question, answer, _left_to_right(context, group), marks, ids)


# ------------------------------------------------------------------------------------------- questions about marks


def _mark_some(context: _Context, wanted: int) -> tuple[tuple[Mark, ...], dict[int, int], list[int]] | None:
    """Mark at least `wanted` objects; the third value holds `wanted` of their ids in random order."""
    candidates = context.markable()
    if len(candidates) < wanted:
        return None
    count = int(context.rng.integers(wanted, min(len(candidates), wanted + 2) + 1))
    marks, ids = context.mark(context.rng.permutation(candidates)[:count].tolist())
    return marks, ids, context.rng.permutation(list(ids))[:wanted].tolist()


def _about_one(kind: str, wording: Wording, say: Callable[[ObjectSpec], str]) -> _Maker:
    """A maker of questions on one marked object, answered by `@id is ...`."""

    def make(context: _Context) -> Task | None:
        if (kind == "motion" and context.scene.num_frames < 4) or (found := _mark_some(context, 1)) is None:
            return None
        marks, ids, (number,) = found
        spec = context.objects[ids[number]]
        if kind == "size" and spec.motion in ("grow", "shrink"):
            return None
        return Task(kind, context.ask(wording, a=f"@{number}"), f"@{number} is {say(spec)}.", (), marks, ids)

    return make


def _what_two(context: _Context) -> Task | None:
    if (found := _mark_some(context, 2)) is None:
        return None
    marks, ids, (a, b) = found
    parts = [f"@{number} is {article(context.objects[ids[number]].full_name)}" for number in (a, b)]
    return Task("what_two", context.ask(words.WHAT_TWO, a=f"@{a}", b=f"@{b}"), f"{listing(parts)}.", (), marks, ids)


def _is_it(context: _Context) -> Task | None:
    """Ask "Is @1 a circle?", true as often as not."""
    if (found := _mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    spec = context.objects[ids[number]]
    names = context.pick((("shape",), ("color",), ("color", "shape"), ("color", "shape")))
    attributes = _of(spec, names)
    if context.coin():
        changed = context.pick(names)
        attributes[changed] = context.pick([v for v in _VALUES[changed] if v != attributes[changed]])
    if not _may_be_named(context, attributes):
        return None
    right = matching([spec], attributes) == (0,)
    phrase = article(varied_phrase(context.rng, attributes)) if "shape" in attributes else attributes["color"]
    answer = f"{'Yes' if right else 'No'}, @{number} is {article(spec.name)}."
    return Task("is_it", context.ask(words.IS_IT, a=f"@{number}", np=phrase), answer, (), marks, ids)


def _same(kind: str, trait: str, wording: Wording, say: Callable[[str], str], together: Callable[[str], str]) -> _Maker:
    """A maker of "Are @1 and @2 the same <trait>?"."""

    def make(context: _Context) -> Task | None:
        alike = context.coin(0.65)  # many scenes have no two of a kind and can only give a No
        for _ in range(_TRIES):
            if (found := _mark_some(context, 2)) is None:
                return None
            marks, ids, (a, b) = found
            one, two = (getattr(context.objects[ids[number]], trait) for number in (a, b))
            if alike != (one == two):
                continue
            answer = f"Yes, @{a} and @{b} are {together(one)}."
            if not alike:
                answer = f"No, @{a} is {say(one)} and @{b} is {say(two)}."
            return Task(kind, context.ask(wording, a=f"@{a}", b=f"@{b}"), answer, (), marks, ids)
        return None

    return make


_PLACES = {"left of": ("leftmost", "right of"), "right of": ("rightmost", "left of"), "above": ("topmost", "below")}
_PLACES |= {"below": ("bottommost", "above")}
_MEASURES = {"larger": ("largest", "smaller"), "smaller": ("smallest", "larger")}


def _compare(kind: str, wording: Wording, relations: Mapping[str, tuple[str, str]], link: str) -> _Maker:
    """A maker of "Is @1 larger than @2?"; `relations` gives the rank that decides and the opposite word."""

    def make(context: _Context) -> Task | None:
        if (found := _mark_some(context, 2)) is None:
            return None
        marks, ids, (a, b) = found
        pair = (ids[a], ids[b])
        word = context.pick(tuple(relations))
        rank, opposite = relations[word]
        first = _RANKS[rank](context, pair) if context.seen(*pair) else None
        if first is None:
            return None
        yes = first == pair[0]
        answer = f"{'Yes' if yes else 'No'}, @{a} is {word if yes else opposite} {link}@{b}."
        return Task(kind, context.ask(wording, a=f"@{a}", b=f"@{b}", word=word), answer, (), marks, ids)

    return make


# --------------------------------------------------------------------------------------- questions about the scene


def _count(context: _Context) -> Task | None:
    attributes: Attributes | None
    if context.objects and context.coin(0.8):
        attributes = _of(context.pick(context.objects), context.pick(_GROUP_ATTRIBUTES))
    else:
        attributes = _missing(context, _QUERY_ATTRIBUTES)
    if attributes is None or not _is_clear(context, attributes):
        return None
    number = len(matching(context.objects, attributes))
    question = context.ask(words.COUNT, np=varied_phrase(context.rng, attributes, many=True))
    many = noun_phrase(attributes, many=True)
    answer = {0: f"There are no {many}.", 1: f"There is 1 {noun_phrase(attributes)}."}
    return Task("count", question, answer.get(number, f"There are {number} {many}."))


def _presence(context: _Context) -> Task | None:
    there = bool(context.objects) and context.coin()
    if there:
        attributes = _of(context.pick(context.objects), context.pick(_QUERY_ATTRIBUTES))
    else:
        attributes = _missing(context, _QUERY_ATTRIBUTES)
    if attributes is None:
        return None
    question = context.ask(words.PRESENCE, np=article(varied_phrase(context.rng, attributes)))
    return Task("presence", question, "Yes." if there else "No.")


# kind -> (how often, maker)
_MAKERS: dict[str, tuple[float, _Maker]] = {
    "refer": (24, _refer),
    "refer_rank": (6, _refer_rank),
    "refer_two": (6, _refer_two),
    "refer_all": (10, _refer_all),
    "absent": (8, _absent),
    "caption": (4, _caption),
    "similar": (3, _similar),
    "what": (14, _about_one("what", words.WHAT, lambda spec: article(spec.full_name))),
    "what_two": (3, _what_two),
    "color": (5, _about_one("color", words.COLOR, lambda spec: spec.color)),
    "shape": (5, _about_one("shape", words.SHAPE, lambda spec: article(spec.shape))),
    "texture": (3, _about_one("texture", words.TEXTURE, lambda spec: spec.texture)),
    "size": (2, _about_one("size", words.SIZE, lambda spec: spec.size)),
    "motion": (4, _about_one("motion", words.MOTION, lambda spec: words.MOTION_ANSWERS[spec.motion])),
    "is_it": (5, _is_it),
    "same_color": (2, _same("same_color", "color", words.SAME_COLOR, str, str)),
    "same_shape": (2, _same("same_shape", "shape", words.SAME_SHAPE, article, plural)),
    "compare_size": (2, _compare("compare_size", words.COMPARE_SIZE, _MEASURES, "than ")),
    "compare_place": (2, _compare("compare_place", words.COMPARE_PLACE, _PLACES, "")),
    "count": (5, _count),
    "presence": (4, _presence),
}
KINDS = tuple(_MAKERS)
REFER_KINDS = ("refer", "refer_rank", "refer_two", "refer_all", "absent")
REGION_KINDS = (
    *("what", "what_two", "color", "shape", "texture", "size", "motion", "is_it"),
    *("same_color", "same_shape", "compare_size", "compare_place"),
)
SCENE_KINDS = ("count", "presence", "caption")


def sample_task(
    rng: np.random.Generator, scene: Scene, *, kinds: Sequence[str] | None = None, heldout: bool = False
) -> Task:
    """Ask something about `scene`: a task of one of `kinds` (default: all, the common ones more often).

    With `heldout`, half of the questions use wordings that training never sees, and held-out pairs may be named.
    Raises ValueError for an unknown kind, or when nothing of `kinds` can be asked about this scene.
    """
    names = list(dict.fromkeys(kinds or KINDS))
    unknown = [name for name in names if name not in _MAKERS]
    if unknown:
        raise ValueError(f"Unknown kind of task: {unknown[0]!r}; known are {', '.join(KINDS)}.")
    context = _Context(rng, scene, heldout)
    weights = np.array([_MAKERS[name][0] for name in names])
    for name in rng.choice(names, 4 * _TRIES, p=weights / weights.sum()):
        task = _MAKERS[str(name)][1](context)
        if task is not None:
            return task
    raise ValueError(f"Nothing of these kinds can be asked about this scene: {', '.join(names)}.")


def all_texts(limit: int = 20_000, seed: int = 0) -> Iterator[str]:
    """`limit` questions and answers as the model reads them (`[1]` for `@1`), for training a tokenizer."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < limit:
        scene = draw_scene(rng, num_frames=int(rng.choice((1, 4))), size=96, num_objects=(1, 6), heldout=True)
        for _ in range(8):
            task = sample_task(rng, scene, heldout=True)
            yield from map(render_question, (task.question, task.answer.replace(SEG_TOKEN, "")))
            made += 2
