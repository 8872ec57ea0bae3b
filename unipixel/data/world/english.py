"""English for the drawn world: noun phrases, plurals and synonyms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
