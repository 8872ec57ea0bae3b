"""Questions on what things are and are for, on what they are not, and on whole lists of them."""

from __future__ import annotations

from unipixel.data.world import english, more_words, words
from unipixel.data.world.asking import TRIES, Context, Task, request
from unipixel.data.world.english import article, listing, noun_phrase, plural
from unipixel.data.world.nouns import ALSO_A, CATEGORIES, FUNCTIONS, HELD_APART
from unipixel.data.world.phrases import (
    NAME_ATTRIBUTES,
    attributes_of,
    is_clear,
    left_to_right,
    matching,
    missing,
    unique,
)
from unipixel.data.world.questions import mark_some
from unipixel.data.world.requests import here_are
from unipixel.data.world.shapes import NAMELESS, SHAPES
from unipixel.grammar import SEG_TOKEN

_DULL_ODDS = 0.9  # how often a try gives up on a group of one, or on nothing: makers are tried many times


def _good_for(context: Context, function: str) -> list[int] | None:
    """The objects that are good for it; None if one could argue, or where something unknown might be."""
    fitting, arguable = FUNCTIONS[function]
    if context.open_world or any(spec.shape in arguable for spec in context.objects):
        return None
    return [k for k, spec in enumerate(context.objects) if spec.shape in fitting]


def refer_function(context: Context) -> Task | None:
    """ "Segment something you can eat.", mostly what is there."""
    functions = {function: _good_for(context, function) for function in FUNCTIONS}
    there = [function for function, group in functions.items() if group]
    if not there and context.coin(_DULL_ODDS):
        return None
    function = context.pick(there if there and context.coin(0.8) else tuple(FUNCTIONS))
    group = functions[function]
    if group is None or not context.seen(*group):
        return None
    wording = more_words.FIND_FOR if len(group) < 2 else more_words.FIND_ALL_FOR
    order = left_to_right(context, group)
    text = listing([f"{article(context.objects[k].full_name)} {SEG_TOKEN}" for k in order] or ["nothing"])
    answer = f"{text[0].upper()}{text[1:]}." if group else f"There is nothing {function} in the {context.media}."
    return request(context, "refer_function", context.ask(wording, function=function), answer, order)


def is_for(context: Context) -> Task | None:
    """ "Is @1 something you can eat?"."""
    if (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    spec = context.objects[ids[number]]
    right = [function for function, (fitting, _) in FUNCTIONS.items() if spec.shape in fitting]
    function = context.pick(right if right and context.coin(0.6) else tuple(FUNCTIONS))
    fitting, arguable = FUNCTIONS[function]
    if spec.shape == NAMELESS or spec.shape in arguable:
        return None
    answer = f"{'Yes' if spec.shape in fitting else 'No'}, @{number} is {article(spec.name)}."
    return Task("is_for", context.ask(more_words.IS_FOR, a=f"@{number}", function=function), answer, (), marks, ids)


def category_of(context: Context) -> Task | None:
    """ "What kind of thing is @1?"."""
    if (found := mark_some(context, 1)) is None:
        return None
    marks, ids, (number,) = found
    spec = context.objects[ids[number]]
    what = article(CATEGORIES[spec.category]) if spec.category else NAMELESS
    question = context.ask(more_words.KIND_OF, a=f"@{number}")
    return Task("category_of", question, f"@{number} is {what}.", (), marks, ids)


def which_of(context: Context) -> Task | None:
    """ "Which of @1 and @2 is red?": exactly one of them."""
    if (found := mark_some(context, 2)) is None:
        return None
    marks, ids, (a, b) = found
    pair = (ids[a], ids[b])
    specs = [context.objects[k] for k in pair]
    attributes = attributes_of(context.pick(specs), context.pick((("shape",), ("category",), ("color",))))
    fits = matching(specs, attributes)
    arguable = any(spec.shape in ALSO_A.get(attributes.get("category", ""), ()) for spec in specs)
    if NAMELESS in (specs[0].shape, specs[1].shape) or not attributes or len(fits) != 1 or arguable:
        return None
    if "color" in attributes and not is_clear(context, attributes | {"shape": specs[1 - fits[0]].shape}):
        return None
    phrase = attributes.get("color") or article(context.say(attributes))
    question = context.ask(more_words.WHICH_OF, a=f"@{a}", b=f"@{b}", np=phrase)
    right = attributes.get("color") or article(noun_phrase(attributes))
    return Task("which_of", question, f"@{(a, b)[fits[0]]} is {right}.", (), marks, ids)


def refer_not(context: Context) -> Task | None:
    """ "Segment the circles that are not red.": those of a group without one trait of another of them."""
    for _ in range(TRIES):
        if len(context.named) < 2:
            return None
        spec = context.objects[context.pick(context.named)]
        base = attributes_of(spec, context.pick((("shape",), ("category",), ("category",), ())))
        traits = [t for t in ("color", "texture", "size", "category", "motion") if t not in base and getattr(spec, t)]
        trait = context.pick([t for t in traits if not (t == "category" and "shape" in base)])
        without = attributes_of(spec, (trait,))
        group = matching(context.objects, base)
        rest = [k for k in group if k not in matching(context.objects, base | without)]
        clear = is_clear(context, base) and is_clear(context, base | without) and is_clear(context, without)
        if not rest or not clear or not context.seen(*rest):
            continue
        verb = "is" if len(rest) == 1 else "are"
        negated = f"that {verb} not {_predicate(without, len(rest) > 1)}"
        if len(rest) == 1:
            question = context.ask(words.FIND_ONE, np=f"{context.say(base)} {negated}")
            answer = f"The {noun_phrase(base)} {negated} is {SEG_TOKEN}."
        else:
            many = f"{context.say(base, many=True)} {negated}"
            one = f"{context.say(base)} that is not {_predicate(without, False)}"
            question = context.ask(words.FIND_ALL, np=many, one=one)
            answer = here_are(f"{noun_phrase(base, many=True)} {negated}", len(rest))
        return request(context, "refer_not", question, answer, left_to_right(context, rest))
    return None


def _predicate(attributes: dict[str, str], many: bool) -> str:
    """What follows "is not" or "are not"."""
    (trait,) = attributes
    if trait == "category":
        noun = CATEGORIES[attributes[trait]]
        return plural(noun) if many else article(noun)
    return english.MOTION_CLAUSES[attributes[trait]] if trait == "motion" else attributes[trait]


def refer_except(context: Context) -> Task | None:
    """ "Segment everything except the cat."."""
    k, attributes = unique(context, NAME_ATTRIBUTES)
    rest = [j for j in context.everyone if j != k]
    if k < 0 or context.open_world or not rest or not context.seen(*rest):
        return None
    question = context.ask(more_words.FIND_EXCEPT, np=context.say(attributes))
    segs = ", ".join([SEG_TOKEN] * len(rest))
    answer = f"Here is everything except the {noun_phrase(attributes)}: {segs}."
    return request(context, "refer_except", question, answer, left_to_right(context, rest))


def refer_list(context: Context) -> Task | None:
    """ "segment: cat, star, boat", answered name by name; some names are not there."""
    there = list(dict.fromkeys(context.objects[k].shape for k in context.named))
    chosen = context.rng.permutation(there)[: int(context.rng.integers(1, 4))].tolist() if there else []
    lacking = [missing(context, (("shape",),)) for _ in range(int(context.rng.integers(0, 3)))]
    names = list(dict.fromkeys([*chosen, *(one["shape"] for one in lacking if one and "shape" in one)]))
    if len(names) < 2 or not all(is_clear(context, {"shape": name}) for name in names):
        return None
    if not context.heldout and any(frozenset((a, b)) in HELD_APART for a in names for b in names):
        return None
    names = [str(name) for name in context.rng.permutation(names)]
    groups = [left_to_right(context, matching(context.objects, {"shape": name})) for name in names]
    targets = tuple(k for group in groups for k in group)
    if not context.seen(*targets):
        return None
    parts = [f"{name}: {', '.join([SEG_TOKEN] * len(group)) or 'none'}" for name, group in zip(names, groups)]
    many = context.coin(0.3)
    asked = ", ".join(context.say({"shape": name}, many=many) for name in names)
    return request(
        context, "refer_list", context.ask(more_words.FIND_LIST, names=asked), f"{'; '.join(parts)}.", targets
    )


def like_mark(context: Context) -> Task | None:
    """ "Segment everything like @1.": all of its name, itself among them."""
    if not (marked := [k for k in context.markable() if k in context.named]):
        return None
    k = context.pick(marked)
    attributes = attributes_of(
        context.objects[k], ("color", "shape") if context.objects[k].shape in SHAPES else ("shape",)
    )
    group = matching(context.objects, attributes)
    if not context.seen(*group) or (len(group) < 2 and context.coin(_DULL_ODDS)):
        return None
    marks, ids = context.mark([k])
    question = context.ask(more_words.LIKE, a=f"@{next(iter(ids))}")
    answer = here_are(noun_phrase(attributes, many=True), len(group))
    return Task("like_mark", question, answer, left_to_right(context, group), marks, ids)


def count_masks(context: Context) -> Task | None:
    """ "How many cats are there? Segment them."."""
    if not context.named:
        return None
    spec = context.objects[context.pick(context.named)]
    attributes = attributes_of(spec, context.pick((("shape",), ("category",), ("color",), ("color", "shape"))))
    group = matching(context.objects, attributes)
    if not attributes or not is_clear(context, attributes) or not context.seen(*group):
        return None
    if len(group) < 2 and context.coin(_DULL_ODDS):
        return None
    question = context.ask(more_words.COUNT_AND_FIND, np=context.say(attributes, many=True))
    phrase = noun_phrase(attributes, many=len(group) > 1)
    segs = ", ".join([SEG_TOKEN] * len(group))
    answer = f"There {'are' if len(group) > 1 else 'is'} {len(group)} {phrase}: {segs}."
    return request(context, "count_masks", question, answer, left_to_right(context, group))


def plain_color(context: Context) -> Task | None:
    """ "What color is the heart?", in words alone."""
    k, attributes = unique(context, (("shape",), ("size", "shape"), ("shape", "motion")))
    if k < 0 or not context.objects[k].color:
        return None
    question = context.ask(words.COLOR, a=f"the {context.say(attributes)}")
    return Task("plain_color", question, f"The {noun_phrase(attributes)} is {context.objects[k].color}.")


def nothing_known(context: Context) -> Task | None:
    """ "What do you see?" where there is no word for anything."""
    if context.named:
        return None
    wording = context.pick((words.CAPTION, words.FIND_EVERYTHING))
    return request(context, "nothing_known", context.ask(wording), "I see nothing that I have a word for.", ())
