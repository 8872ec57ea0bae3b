"""Requests for masks: one object, several, none, all of a kind."""

from __future__ import annotations

from unipixel.data.world import words
from unipixel.data.world.asking import TRIES, Context, Task, request
from unipixel.data.world.english import article, listing, noun_phrase
from unipixel.data.world.phrases import (
    GROUP_ATTRIBUTES,
    NAME_ATTRIBUTES,
    QUERY_ATTRIBUTES,
    RANKS,
    RICH_RANKS,
    SINGLE_ATTRIBUTES,
    attributes_of,
    choose_names,
    is_clear,
    left_to_right,
    matching,
    missing,
    unique,
)
from unipixel.data.world.shapes import SHAPES
from unipixel.grammar import SEG_TOKEN


def here_are(phrase: str, count: int) -> str:
    """The answer to a request for several masks."""
    return f"Here are the {phrase}: {', '.join([SEG_TOKEN] * count)}."


def refer(context: Context) -> Task | None:
    """ "Segment the red circle."."""
    k, attributes = unique(context, SINGLE_ATTRIBUTES)
    if k < 0:
        return None
    question = context.ask(words.FIND_ONE, np=context.say(attributes))
    return request(context, "refer", question, f"The {noun_phrase(attributes)} is {SEG_TOKEN}.", (k,))


def refer_rank(context: Context) -> Task | None:
    """ "Segment the leftmost circle."."""
    for _ in range(TRIES):
        if len(context.named) < 2:
            return None
        spec = context.objects[context.pick(context.named)]
        attributes = attributes_of(spec, context.pick(((), (), ("shape",), ("color",))))
        group = matching(context.objects, attributes)
        ranks = RICH_RANKS if context.rich else RANKS
        rank = context.pick(tuple(ranks))
        if len(group) < 2 or not context.seen(*group) or not is_clear(context, attributes):
            continue
        k = ranks[rank](context, group)
        if k is not None:
            question = context.ask(words.FIND_ONE, np=context.say(attributes, rank=rank))
            answer = f"The {noun_phrase(attributes, rank=rank)} is {SEG_TOKEN}."
            return request(context, "refer_rank", question, answer, (k,))
    return None


def refer_two(context: Context) -> Task | None:
    """ "Segment the red circle and the star."."""
    if len(context.objects) < 2:
        return None
    first, attributes = unique(context, NAME_ATTRIBUTES)
    second, others = unique(context, NAME_ATTRIBUTES, avoid=first)
    if first < 0 or second < 0:
        return None
    question = context.ask(words.FIND_TWO, np=context.say(attributes), other=context.say(others))
    answer = f"The {noun_phrase(attributes)} is {SEG_TOKEN} and the {noun_phrase(others)} is {SEG_TOKEN}."
    return request(context, "refer_two", question, answer, (first, second))


def refer_all(context: Context) -> Task | None:
    """ "Segment all circles."."""
    for _ in range(TRIES):
        if not context.named:
            return None
        spec = context.objects[context.pick(context.named)]
        names = choose_names(context, GROUP_ATTRIBUTES)
        attributes = attributes_of(spec, names)
        group = matching(context.objects, attributes)
        if names and not attributes:
            continue
        # One object is a group too, but rarely: people ask for "all" when they see several.
        if not context.seen(*group) or not is_clear(context, attributes) or (len(group) < 2 and context.coin(0.7)):
            continue
        if attributes:
            noun = context.say(attributes)
            many = context.say(attributes, many=True)
            question = context.ask(words.FIND_ALL, np=many, one=noun)
        else:
            question = context.ask(words.FIND_EVERYTHING)
        answer = here_are(noun_phrase(attributes, many=True), len(group))
        return request(context, "refer_all", question, answer, left_to_right(context, group))
    return None


def absent(context: Context) -> Task | None:
    """A request for what is not there."""
    attributes = missing(context, QUERY_ATTRIBUTES)
    if attributes is None:
        return None
    if context.coin(0.25):
        many = context.say(attributes, many=True)
        question = context.ask(words.FIND_ALL, np=many, one=context.say(attributes))
        answer = f"There are no {noun_phrase(attributes, many=True)} in the {context.media}."
    else:
        question = context.ask(words.FIND_ONE, np=context.say(attributes))
        answer = f"There is no {noun_phrase(attributes)} in the {context.media}."
    return request(context, "absent", question, answer, ())


def caption(context: Context) -> Task | None:
    """ "What do you see?", answered by phrases that each carry a mask."""
    if not context.named or not context.seen(*context.named) or any(spec.shaded for spec in context.objects):
        return None
    order = left_to_right(context, context.named)
    phrases = [f"{article(context.objects[k].full_name)} {SEG_TOKEN}" for k in order]
    text = listing(phrases)
    return Task("caption", context.ask(words.CAPTION), f"{text[0].upper()}{text[1:]}.", order)


def similar(context: Context) -> Task | None:
    """ "Segment everything with the same color as @1."."""
    marked = context.markable()
    if not marked:
        return None
    k = context.pick(marked)
    trait = context.pick(("color", "shape"))
    attributes = attributes_of(context.objects[k], (trait,))
    only_others = context.coin()
    if context.objects[k].shape not in SHAPES or not attributes or not is_clear(context, attributes):
        return None
    group = [j for j in matching(context.objects, attributes) if not (only_others and j == k)]
    if not context.seen(*group) or (not group and context.coin()):
        return None
    marks, ids = context.mark([k])
    wording = words.OTHERS_LIKE if only_others else words.ALL_LIKE
    name = f"@{next(iter(ids))}"
    question = context.ask(wording, trait=trait, a=name)
    phrase = ("other " if only_others else "") + noun_phrase(attributes, many=True)
    found = here_are(phrase, len(group)) if group else f"There are no {phrase} in the {context.media}."
    # What is looked for is said first: then it can be looked up.
    answer = f"{name} is {attributes[trait] if trait == 'color' else article(attributes[trait])}. {found}"
    return Task("similar", question, answer, left_to_right(context, group), marks, ids, None if group else ())
