"""Questions on how objects stand to each other: "the star left of the cat", "What is above @1?"."""

from __future__ import annotations

from unipixel.data.world import more_words, words
from unipixel.data.world.asking import TRIES, Context, Task, request
from unipixel.data.world.english import RICH_SYNONYMS, article, listing, noun_phrase, vary_word
from unipixel.data.world.phrases import (
    NAME_ATTRIBUTES,
    PLACES,
    RICH_MEASURES,
    RICH_RANKS,
    attributes_of,
    is_clear,
    left_to_right,
    matching,
    stands,
    unique,
)
from unipixel.data.world.questions import mark_some
from unipixel.data.world.requests import here_are
from unipixel.grammar import SEG_TOKEN

_HEADS = (("color", "shape"), ("shape",), ("shape",), ("category",), ())
_NEAR_RATIO = 1.5


def _say_place(context: Context, place: str) -> str:
    return vary_word(context.rng, place, RICH_SYNONYMS)


def refer_relation(context: Context) -> Task | None:
    """ "Segment the star left of the cat.": one, several, or none where there are stars elsewhere."""
    for _ in range(TRIES):
        anchor, anchor_words = unique(context, NAME_ATTRIBUTES)
        if anchor < 0 or len(context.named) < 2:
            return None
        spec = context.objects[context.pick([k for k in context.named if k != anchor])]
        attributes = attributes_of(spec, context.pick(_HEADS))
        group = [k for k in matching(context.objects, attributes) if k != anchor]
        place = context.pick(tuple(PLACES))
        holds = [stands(context, k, place, anchor) for k in group]
        found = [k for k, there in zip(group, holds) if there]
        # Alone, a star needs no relation; and "none there" is a rarer answer.
        dull = (len(group) < 2 and context.coin(0.6)) or (not found and context.coin(0.7))
        if None in holds or dull or not is_clear(context, attributes):
            continue
        where = f"{place} the {noun_phrase(anchor_words)}"
        asked = f"{_say_place(context, place)} the {context.say(anchor_words)}"
        one, many = f"{context.say(attributes)} {asked}", f"{context.say(attributes, many=True)} {asked}"
        if len(found) == 1:
            question = context.ask(words.FIND_ONE, np=one)
            answer = f"The {noun_phrase(attributes)} {where} is {SEG_TOKEN}."
        elif found:
            question = context.ask(words.FIND_ALL, np=many, one=one)
            answer = here_are(f"{noun_phrase(attributes, many=True)} {where}", len(found))
        else:
            question = context.ask(words.FIND_ONE, np=one)
            answer = f"There is no {noun_phrase(attributes)} {where}."
        return request(context, "refer_relation", question, answer, left_to_right(context, found))
    return None


def _with_masks(context: Context, found: tuple[int, ...]) -> str:
    """ "A red star <|seg|> and a cat <|seg|>"."""
    text = listing([f"{article(context.objects[k].full_name)} {SEG_TOKEN}" for k in found])
    return f"{text[0].upper()}{text[1:]}"


def beside_mark(context: Context) -> Task | None:
    """ "What is left of @1?", answered with words and masks."""
    if context.open_world or (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    place = context.pick(tuple(PLACES))
    others = [k for k in context.everyone if k != ids[number]]
    holds = [stands(context, k, place, ids[number]) for k in others]
    if None in holds or not others:
        return None
    there = left_to_right(context, [k for k, held in zip(others, holds) if held])
    question = context.ask(more_words.WHAT_IS_BESIDE, place=_say_place(context, place), a=f"@{number}")
    link = f"{'are' if len(there) > 1 else 'is'} {place} @{number}"
    answer = f"{_with_masks(context, there)} {link}." if there else f"Nothing is {place} @{number}."
    return Task("beside_mark", question, answer, there, marks, ids)


def nearest_mark(context: Context) -> Task | None:
    """ "What is closest to @1?", clearly so on every frame; answered with words and a mask."""
    if context.open_world or len(context.objects) < 3 or (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    others = [k for k in context.everyone if k != ids[number]]
    if not context.seen(ids[number], *others) or (context.scene.areas == 0).any():
        return None
    centers = context.scene.centroids
    gaps = ((centers[others] - centers[ids[number]]) ** 2).sum(-1) ** 0.5
    order = gaps[:, 0].argsort()
    nearest = gaps[order[0]]
    if any((gaps[i] < _NEAR_RATIO * nearest).any() for i in order[1:]):
        return None
    k = others[int(order[0])]
    question = context.ask(more_words.NEAREST, a=f"@{number}")
    return Task("nearest_mark", question, f"{_with_masks(context, (k,))} is closest to @{number}.", (k,), marks, ids)


def compare_with_mark(context: Context) -> Task | None:
    """ "Which is larger, @1 or the cat?", answered with words and the cat's mask."""
    if (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    other, attributes = unique(context, NAME_ATTRIBUTES, avoid=ids[number])
    if other < 0 or not context.seen(ids[number]):
        return None
    word = context.pick(tuple(RICH_MEASURES))
    first = RICH_RANKS[RICH_MEASURES[word][0]](context, (ids[number], other))
    if first is None:
        return None
    question = context.ask(more_words.WHICH_IS, word=word, a=f"@{number}", b=f"the {context.say(attributes)}")
    named = f"the {noun_phrase(attributes)} {SEG_TOKEN}"
    answer = f"T{named[1:]} is {word} than @{number}." if first == other else f"@{number} is {word} than {named}."
    return Task("compare_with_mark", question, answer, (other,), marks, ids)


def what_and_where(context: Context) -> Task | None:
    """ "What is @1, and where is the star?", answered with words and a mask."""
    if (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    other, attributes = unique(context, NAME_ATTRIBUTES, avoid=ids[number])
    if other < 0:
        return None
    question = context.ask(more_words.WHAT_AND_WHERE, a=f"@{number}", np=context.say(attributes))
    what = article(context.objects[ids[number]].full_name)
    answer = f"@{number} is {what} and the {noun_phrase(attributes)} is {SEG_TOKEN}."
    return Task("what_and_where", question, answer, (other,), marks, ids)


def _two_named(context: Context) -> tuple[tuple[int, int], tuple[dict[str, str], dict[str, str]]] | None:
    one, first = unique(context, NAME_ATTRIBUTES)
    two, second = unique(context, NAME_ATTRIBUTES, avoid=one)
    return None if one < 0 or two < 0 else ((one, two), (first, second))


def plain_place(context: Context) -> Task | None:
    """ "Is the star left of the cat?", in words alone."""
    if (found := _two_named(context)) is None:
        return None
    (one, two), (first, second) = found
    place = context.pick(tuple(PLACES))
    held = stands(context, one, place, two)
    if held is None:
        return None
    question = context.ask(
        words.COMPARE_PLACE,
        a=f"the {context.say(first)}",
        b=f"the {context.say(second)}",
        word=_say_place(context, place),
    )
    right = place if held else PLACES[place][1]
    answer = f"{'Yes' if held else 'No'}, the {noun_phrase(first)} is {right} the {noun_phrase(second)}."
    return Task("plain_place", question, answer)


def plain_measure(context: Context) -> Task | None:
    """ "Which is larger, the star or the cat?", in words alone."""
    if (found := _two_named(context)) is None:
        return None
    pair, phrases = found
    word = context.pick(tuple(RICH_MEASURES))
    first = RICH_RANKS[RICH_MEASURES[word][0]](context, pair)
    if first is None:
        return None
    a, b = (f"the {context.say(attributes)}" for attributes in phrases)
    winner = noun_phrase(phrases[pair.index(first)])
    return Task("plain_measure", context.ask(more_words.WHICH_IS, word=word, a=a, b=b), f"The {winner} is {word}.")
