"""Questions that words alone answer: on marked objects, and on the scene as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from unipixel.data.world import words
from unipixel.data.world.asking import TRIES, Attributes, Context, Maker, Mark, Task
from unipixel.data.world.english import article, listing, noun_phrase
from unipixel.data.world.nouns import ALSO_CALLED, NOUNS
from unipixel.data.world.phrases import (
    GROUP_ATTRIBUTES,
    QUERY_ATTRIBUTES,
    RICH_RANKS,
    RICH_VALUES,
    VALUES,
    attributes_of,
    choose_names,
    is_clear,
    matching,
    may_be_named,
    missing,
)
from unipixel.data.world.pictures import tints
from unipixel.data.world.shapes import NAMELESS, SHAPES, ObjectSpec
from unipixel.data.world.words import Wording


def mark_some(context: Context, wanted: int) -> tuple[tuple[Mark, ...], dict[int, int], list[int]] | None:
    """Mark at least `wanted` objects; the third value holds `wanted` of their ids in random order."""
    candidates = context.markable()
    if len(candidates) < wanted:
        return None
    count = int(context.rng.integers(wanted, min(len(candidates), wanted + 2) + 1))
    marks, ids = context.mark(context.rng.permutation(candidates)[:count].tolist())
    return marks, ids, context.rng.permutation(list(ids))[:wanted].tolist()


def about_one(kind: str, wording: Wording, say: Callable[[ObjectSpec], str]) -> Maker:
    """A maker of questions on one marked object, answered by `@id is ...`."""

    def make(context: Context) -> Task | None:
        if (kind == "motion" and context.scene.num_frames < 4) or (found := mark_some(context, 1)) is None:
            return None
        marks, ids, (number,) = found
        spec = context.objects[ids[number]]
        if (kind == "size" and spec.motion in ("grow", "shrink")) or (kind == "motion" and any(context.scene.camera)):
            return None
        if (kind in ("color", "texture") and not getattr(spec, kind)) or (kind == "shape" and spec.shape not in SHAPES):
            return None
        if kind == "what" and spec.shaded:
            return None
        return Task(kind, context.ask(wording, a=f"@{number}"), f"@{number} is {say(spec)}.", (), marks, ids)

    return make


def what_two(context: Context) -> Task | None:
    """ "What are @1 and @2?"."""
    if (found := mark_some(context, 2)) is None:
        return None
    marks, ids, (a, b) = found
    if any(context.objects[ids[number]].shaded for number in (a, b)):
        return None
    parts = [f"@{number} is {article(context.objects[ids[number]].full_name)}" for number in (a, b)]
    return Task("what_two", context.ask(words.WHAT_TWO, a=f"@{a}", b=f"@{b}"), f"{listing(parts)}.", (), marks, ids)


def is_it(context: Context) -> Task | None:
    """Ask "Is @1 a circle?", true as often as not."""
    if (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    spec = context.objects[ids[number]]
    names = context.pick((("shape",), ("color",), ("color", "shape"), ("color", "shape")))
    attributes = attributes_of(spec, names)
    if spec.shape == NAMELESS:
        attributes = {}
    elif not attributes:
        return None
    if context.coin() or not attributes:
        values = RICH_VALUES if context.rich else VALUES
        changed = context.pick(tuple(attributes) or ("shape",))
        attributes[changed] = context.pick([v for v in values[changed] if v != attributes.get(changed)])
    if spec.shaded or not may_be_named(context, attributes) or _is_arguable(spec, attributes):
        return None
    right = matching([spec], attributes) == (0,)
    phrase = article(context.say(attributes)) if "shape" in attributes else attributes["color"]
    answer = f"{'Yes' if right else 'No'}, @{number} is {article(spec.name)}."
    return Task("is_it", context.ask(words.IS_IT, a=f"@{number}", np=phrase), answer, (), marks, ids)


def _is_arguable(spec: ObjectSpec, attributes: Attributes) -> bool:
    """Whether some would say of an emoji that it has these attributes, although its words do not."""
    if spec.shape not in NOUNS:
        return False
    color = attributes.get("color", spec.color)
    also_colored = color != spec.color and color in tints(spec.shape)
    return also_colored or attributes.get("shape") in ALSO_CALLED.get(spec.shape, ())


def same(kind: str, trait: str, wording: Wording, say: Callable[[str], str], together: Callable[[str], str]) -> Maker:
    """A maker of "Are @1 and @2 the same <trait>?"; not of emoji, which have no one colour and no shape."""
    values = set(VALUES[trait])

    def make(context: Context) -> Task | None:
        alike = context.coin(0.65)  # many scenes have no two of a kind and can only give a No
        if sum(getattr(spec, trait) in values for spec in context.objects) < 2:
            return None
        for _ in range(TRIES):
            if (found := mark_some(context, 2)) is None:
                return None
            marks, ids, (a, b) = found
            one, two = (getattr(context.objects[ids[number]], trait) for number in (a, b))
            if alike != (one == two) or not {one, two} <= values:
                continue
            answer = f"Yes, @{a} and @{b} are {together(one)}."
            if not alike:
                answer = f"No, @{a} is {say(one)} and @{b} is {say(two)}."
            return Task(kind, context.ask(wording, a=f"@{a}", b=f"@{b}"), answer, (), marks, ids)
        return None

    return make


def compare(
    kind: str, wording: Wording, relations: Mapping[str, tuple[str, str]], link: str, more: Mapping | None = None
) -> Maker:
    """A maker of "Is @1 larger than @2?"; `relations` gives the rank that decides and the opposite word.

    Rich scenes are asked by `more` instead, if given.
    """

    def make(context: Context) -> Task | None:
        if (found := mark_some(context, 2)) is None:
            return None
        marks, ids, (a, b) = found
        pair = (ids[a], ids[b])
        known = more if more and context.rich else relations
        word = context.pick(tuple(known))
        rank, opposite = known[word]
        first = RICH_RANKS[rank](context, pair) if context.seen(*pair) else None
        if first is None:
            return None
        yes = first == pair[0]
        answer = f"{'Yes' if yes else 'No'}, @{a} is {word if yes else opposite} {link}@{b}."
        return Task(kind, context.ask(wording, a=f"@{a}", b=f"@{b}", word=word), answer, (), marks, ids)

    return make


def count(context: Context) -> Task | None:
    """ "How many circles are there?"."""
    attributes: Attributes | None
    if context.named and context.coin(0.8):
        spec = context.objects[context.pick(context.named)]
        names = choose_names(context, GROUP_ATTRIBUTES)
        attributes = attributes_of(spec, names)
        if names and not attributes:
            return None
    else:
        attributes = missing(context, QUERY_ATTRIBUTES)
    if attributes is None or not is_clear(context, attributes):
        return None
    counted = matching(context.objects, attributes)
    number = len(counted)
    question = context.ask(words.COUNT, np=context.say(attributes, many=True))
    many = noun_phrase(attributes, many=True)
    answer = {0: f"There are no {many}.", 1: f"There is 1 {noun_phrase(attributes)}."}
    return Task("count", question, answer.get(number, f"There are {number} {many}."), about=counted)


def presence(context: Context) -> Task | None:
    """ "Is there a red circle?"."""
    there = bool(context.named) and context.coin()
    if there:
        spec = context.objects[context.pick(context.named)]
        attributes = attributes_of(spec, choose_names(context, QUERY_ATTRIBUTES))
    else:
        attributes = missing(context, QUERY_ATTRIBUTES)
    if not attributes:
        return None
    question = context.ask(words.PRESENCE, np=article(context.say(attributes)))
    return Task("presence", question, "Yes." if there else "No.", about=matching(context.objects, attributes))
