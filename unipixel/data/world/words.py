"""English for the drawn world: noun phrases, synonyms, and the many ways to ask the same question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unipixel.data.world.nouns import CATEGORIES
from unipixel.data.world.shapes import NAMELESS

# What a phrase says about an object that moves this way ("the circle moving left"); "appears" has none, because
# such an object is not there at first.
MOTION_CLAUSES = {
    "still": "standing still",
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "bounce": "bouncing",
    "spin": "spinning",
    "grow": "growing",
    "shrink": "shrinking",
    "leaves": "leaving",
}
MOTION_ANSWERS = MOTION_CLAUSES | {"appears": "coming into view"}

SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "ball"),
    "square": ("box",),
    "ring": ("donut",),
    "cross": ("plus sign",),
    "crescent": ("moon",),
    "purple": ("violet",),
    "striped": ("stripy",),
    "dotted": ("spotted",),
    "checkered": ("chequered", "checked"),
    "large": ("big",),
    "small": ("little",),
    "object": ("shape", "thing"),
    "leftmost": ("far left",),
    "rightmost": ("far right",),
    "topmost": ("highest", "uppermost"),
    "bottommost": ("lowest",),
    "largest": ("biggest",),
    "smallest": ("tiniest",),
    "standing still": ("not moving",),
    "moving left": ("going left", "that moves left"),
    "moving right": ("going right", "that moves right"),
    "moving up": ("going up", "that moves up"),
    "moving down": ("going down", "that moves down"),
    "spinning": ("turning",),
    "leaving": ("that leaves",),
}
# Beside emoji, "thing", "shape" and "ball" mean something else.
RICH_SYNONYMS = SYNONYMS | {
    "circle": ("disc",),
    "object": ("item",),
    "airplane": ("plane", "aeroplane"),
    "bicycle": ("bike",),
    "boat": ("sailboat",),
    "burger": ("hamburger",),
    "dog": ("puppy",),
    "rabbit": ("bunny",),
    "shirt": ("T-shirt",),
    "soccer ball": ("football",),
    "television": ("TV",),
    "wrench": ("spanner",),
    "fastest": ("quickest",),
    "food item": ("piece of food",),
    "left of": ("to the left of", "on the left of"),
    "right of": ("to the right of", "on the right of"),
    "above": ("over",),
    "below": ("under", "beneath"),
}
_IRREGULAR = {"fish": "fish", "piece of clothing": "pieces of clothing", "piece of food": "pieces of food"}
_IRREGULAR |= {"scarf": "scarves"}
_SYNONYM_ODDS = 0.12


@dataclass(frozen=True)
class Wording:
    """Ways to ask one thing: `usual` ones for training, `rare` ones kept for measuring generalisation."""

    usual: tuple[str, ...]
    rare: tuple[str, ...]


def article(noun_phrase: str) -> str:
    """`noun_phrase` after "a" or "an" (what has no name is "something")."""
    if noun_phrase == NAMELESS:
        return noun_phrase
    return f"{'an' if noun_phrase[0] in 'aeiou' else 'a'} {noun_phrase}"


def plural(noun: str) -> str:
    """The plural of a noun of the drawn world."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")


def listing(parts: Sequence[str]) -> str:
    """Join as people do: "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def noun_phrase(attributes: Mapping[str, str], *, many: bool = False, rank: str = "") -> str:
    """Attributes as words without an article: "small red circle", "striped objects moving left"."""
    return _phrase(attributes, many, rank, lambda text: text)


def varied_phrase(
    rng: np.random.Generator,
    attributes: Mapping[str, str],
    *,
    many: bool = False,
    rank: str = "",
    synonyms: Mapping[str, tuple[str, ...]] = SYNONYMS,
) -> str:
    """The same as `noun_phrase` with some words exchanged for synonyms, as people do in questions."""
    return _phrase(attributes, many, rank, lambda text: vary_word(rng, text, synonyms))


def vary_word(rng: np.random.Generator, text: str, synonyms: Mapping[str, tuple[str, ...]]) -> str:
    """`text`, or now and then one of its synonyms."""
    others = synonyms.get(text, ())
    return str(rng.choice(others)) if others and rng.random() < _SYNONYM_ODDS else text


def _phrase(attributes: Mapping[str, str], many: bool, rank: str, word: Callable[[str], str]) -> str:
    words = [word(rank)] if rank else []
    words += [word(attributes[key]) for key in ("size", "color", "texture") if key in attributes]
    noun = word(attributes.get("shape") or CATEGORIES.get(attributes.get("category", ""), "object"))
    words.append(plural(noun) if many else noun)
    if "motion" in attributes:
        clause = word(MOTION_CLAUSES[attributes["motion"]])
        words.append(clause.replace("moves", "move").replace("leaves", "leave") if many else clause)
    return " ".join(words)


def vary_text(rng: np.random.Generator, text: str) -> str:
    """Write `text` as people type: now and then without a capital, without the last mark, with British spelling."""
    if rng.random() < 0.5:
        text = text.replace("color", "colour")
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.2:
        text = text.rstrip(".?")
    return text


FIND_ONE = Wording(
    (
        "Segment the {np}.",
        "Segment the {np}.",
        "Segment the {np} in the {media}.",
        "Segment {np}.",
        "Find the {np}.",
        "Highlight the {np}.",
        "Where is the {np}?",
        "Where is the {np} in this {media}?",
        "Show me the {np}.",
        "Mark the {np}.",
        "Select the {np}.",
        "Locate the {np}.",
        "Can you segment the {np}?",
        "Can you segment the {np} in this {media}?",
        "Could you highlight the {np}?",
        "Please segment the {np}.",
        "Please segment the {np} in this {media}.",
        "Please segment {np} in this {media}.",
        "Please find the {np} in the {media}.",
        "I want the mask of the {np}.",
        "Which one is the {np}?",
        "The {np}.",
        "{np}",
    ),
    (
        "Outline the {np}.",
        "Can you find the {np} for me?",
        "Please point out the {np}.",
        "Give me a mask of the {np} in the {media}.",
    ),
)
FIND_ALL = Wording(
    (
        "Segment all {np}.",
        "Segment all the {np}.",
        "Segment the {np}.",
        "Segment the {np} in the {media}.",
        "Find all {np}.",
        "Find the {np}.",
        "Where are the {np}?",
        "Show me all {np}.",
        "Highlight all {np} in the {media}.",
        "Mark the {np}.",
        "Select all {np}.",
        "Segment every {one}.",
        "Find every {one} in the {media}.",
        "Can you segment all the {np}?",
        "Please segment all {np}.",
        "Please segment all {np} in this {media}.",
        "All {np}.",
    ),
    ("Outline all {np}.", "Mask each {one}.", "Can you find all {np} for me?"),
)
FIND_EVERYTHING = Wording(
    (
        "Segment everything.",
        "Please segment everything in this {media}.",
        "Segment all objects.",
        "Segment every object in the {media}.",
        "Find all the objects.",
        "Highlight everything.",
        "Show me all objects.",
        "Where are the objects?",
        "Everything.",
    ),
    ("Outline everything.", "Mask all things in the {media}."),
)
FIND_TWO = Wording(
    (
        "Segment the {np} and the {other}.",
        "Find the {np} and the {other}.",
        "Highlight the {np} and the {other} in the {media}.",
        "Where are the {np} and the {other}?",
        "Show me the {np} and the {other}.",
        "Can you segment the {np} and the {other}?",
        "Please segment the {np} and the {other}.",
        "Please segment the {np} and the {other} in this {media}.",
        "Segment: {np}, {other}",
    ),
    ("Outline the {np} and the {other}.", "Give me masks of the {np} and the {other}."),
)
WHAT = Wording(
    (
        "What is {a}?",
        "What is {a}?",
        "What is {a} in the {media}?",
        "What's {a}?",
        "Describe {a}.",
        "What kind of object is {a}?",
        "Which object is {a}?",
        "Tell me about {a}.",
        "What do you see at {a}?",
        "What does {a} look like?",
        "Can you describe {a}?",
        "What is this? {a}",
    ),
    ("Please tell me what {a} is.", "Give a short description of {a}.", "What have I marked as {a}?"),
)
WHAT_TWO = Wording(
    (
        "What are {a} and {b}?",
        "Describe {a} and {b}.",
        "What is {a} and what is {b}?",
        "What do {a} and {b} look like?",
    ),
    ("Tell me what {a} and {b} are.",),
)
COLOR = Wording(
    (
        "What color is {a}?",
        "What is the color of {a}?",
        "Which color is {a}?",
        "Which color does {a} have?",
        "Tell me the color of {a}.",
    ),
    ("Name the color of {a}.", "In what color is {a} painted?"),
)
SHAPE = Wording(
    (
        "What shape is {a}?",
        "Which shape is {a}?",
        "What is the shape of {a}?",
        "What shape does {a} have?",
        "Tell me the shape of {a}.",
    ),
    ("Name the shape of {a}.", "Which form does {a} have?"),
)
TEXTURE = Wording(
    (
        "What is the texture of {a}?",
        "Which texture does {a} have?",
        "What pattern does {a} have?",
        "Is {a} plain, striped, dotted or checkered?",
    ),
    ("Name the pattern of {a}.",),
)
SIZE = Wording(
    ("How big is {a}?", "Is {a} large or small?", "What size is {a}?", "How large is {a}?"),
    ("What is the size of {a}?",),
)
MOTION = Wording(
    (
        "How is {a} moving?",
        "How does {a} move?",
        "What is {a} doing?",
        "Where is {a} going?",
        "Which way does {a} move?",
        "What does {a} do in this {media}?",
    ),
    ("Describe the motion of {a}.", "What happens to {a}?"),
)
IS_IT = Wording(
    ("Is {a} {np}?", "Is {a} {np}?", "Would you say {a} is {np}?", "Is it true that {a} is {np}?"),
    ("Do you think {a} is {np}?",),
)
SAME_COLOR = Wording(
    (
        "Are {a} and {b} the same color?",
        "Do {a} and {b} have the same color?",
        "Is {a} the same color as {b}?",
    ),
    ("Does {a} have the color of {b}?",),
)
SAME_SHAPE = Wording(
    ("Are {a} and {b} the same shape?", "Do {a} and {b} have the same shape?", "Is {a} the same shape as {b}?"),
    ("Does {a} have the shape of {b}?",),
)
COMPARE_SIZE = Wording(
    ("Is {a} {word} than {b}?", "Is {a} {word} than {b} in the {media}?"),
    ("Would you say {a} is {word} than {b}?",),
)
COMPARE_PLACE = Wording(
    ("Is {a} {word} {b}?", "Is {a} {word} {b} in the {media}?"),
    ("Would you say {a} is {word} {b}?",),
)
COUNT = Wording(
    (
        "How many {np} are there?",
        "How many {np} are in the {media}?",
        "How many {np} do you see?",
        "Count the {np}.",
        "What is the number of {np}?",
    ),
    ("How many {np} can you count in the {media}?",),
)
PRESENCE = Wording(
    (
        "Is there {np}?",
        "Is there {np} in the {media}?",
        "Do you see {np}?",
        "Can you see {np} in the {media}?",
        "Does the {media} show {np}?",
    ),
    ("Is {np} visible?", "Does this {media} contain {np}?"),
)
CAPTION = Wording(
    (
        "Describe the {media}.",
        "Describe this {media}.",
        "What is in the {media}?",
        "What do you see?",
        "What does the {media} show?",
        "Which objects are there?",
        "List the objects.",
    ),
    ("Tell me what you see in this {media}.", "Caption the {media}."),
)
OTHERS_LIKE = Wording(
    (
        "Segment the other objects with the same {trait} as {a}.",
        "Find the other objects that have the same {trait} as {a}.",
        "Where are the other objects with the {trait} of {a}?",
    ),
    ("Outline the other objects that share the {trait} of {a}.",),
)
ALL_LIKE = Wording(
    (
        "Segment everything with the same {trait} as {a}.",
        "Segment all objects that have the same {trait} as {a}.",
        "Highlight everything that has the {trait} of {a}.",
    ),
    ("Outline everything that shares the {trait} of {a}.",),
)
