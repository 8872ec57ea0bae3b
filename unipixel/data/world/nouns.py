"""The nouns of the drawn world: pictures of things, what they are and what they are good for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Noun:
    """A thing with a picture: its character in the emoji font, its category, the one colour everybody names (or "")."""

    character: str
    category: str
    color: str = ""


NOUNS: dict[str, Noun] = {
    "cat": Noun("\U0001f408", "animal"),
    "dog": Noun("\U0001f415", "animal"),
    "horse": Noun("\U0001f40e", "animal"),
    "cow": Noun("\U0001f404", "animal"),
    "pig": Noun("\U0001f416", "animal"),
    "elephant": Noun("\U0001f418", "animal"),
    "rabbit": Noun("\U0001f407", "animal"),
    "fish": Noun("\U0001f41f", "animal", "blue"),
    "octopus": Noun("\U0001f419", "animal"),
    "turtle": Noun("\U0001f422", "animal"),
    "frog": Noun("\U0001f438", "animal", "green"),
    "bee": Noun("\U0001f41d", "animal"),
    "butterfly": Noun("\U0001f98b", "animal"),
    "penguin": Noun("\U0001f427", "animal"),
    "apple": Noun("\U0001f34e", "food", "red"),
    "banana": Noun("\U0001f34c", "food", "yellow"),
    "strawberry": Noun("\U0001f353", "food", "red"),
    "lemon": Noun("\U0001f34b", "food", "yellow"),
    "pineapple": Noun("\U0001f34d", "food"),
    "watermelon": Noun("\U0001f349", "food"),
    "carrot": Noun("\U0001f955", "food", "orange"),
    "pizza": Noun("\U0001f355", "food"),
    "burger": Noun("\U0001f354", "food"),
    "cake": Noun("\U0001f370", "food"),
    "car": Noun("\U0001f697", "vehicle", "red"),
    "bus": Noun("\U0001f68c", "vehicle"),
    "truck": Noun("\U0001f69a", "vehicle"),
    "tractor": Noun("\U0001f69c", "vehicle"),
    "bicycle": Noun("\U0001f6b2", "vehicle"),
    "train": Noun("\U0001f682", "vehicle"),
    "airplane": Noun("\U0001f6e9", "vehicle"),
    "helicopter": Noun("\U0001f681", "vehicle", "yellow"),
    "boat": Noun("\u26f5", "vehicle"),
    "soccer ball": Noun("\u26bd", "sport"),
    "basketball": Noun("\U0001f3c0", "sport", "orange"),
    "tennis racket": Noun("\U0001f3be", "sport"),
    "skateboard": Noun("\U0001f6f9", "sport"),
    "trophy": Noun("\U0001f3c6", "sport"),
    "boxing glove": Noun("\U0001f94a", "sport", "red"),
    "tree": Noun("\U0001f333", "plant", "green"),
    "cactus": Noun("\U0001f335", "plant", "green"),
    "rose": Noun("\U0001f339", "plant"),
    "sunflower": Noun("\U0001f33b", "plant"),
    "tulip": Noun("\U0001f337", "plant"),
    "clover": Noun("\U0001f340", "plant", "green"),
    "hammer": Noun("\U0001f528", "tool"),
    "wrench": Noun("\U0001f527", "tool"),
    "saw": Noun("\U0001fa9a", "tool"),
    "axe": Noun("\U0001fa93", "tool"),
    "screwdriver": Noun("\U0001fa9b", "tool"),
    "broom": Noun("\U0001f9f9", "tool"),
    "guitar": Noun("\U0001f3b8", "instrument"),
    "violin": Noun("\U0001f3bb", "instrument"),
    "trumpet": Noun("\U0001f3ba", "instrument"),
    "drum": Noun("\U0001f941", "instrument"),
    "piano": Noun("\U0001f3b9", "instrument"),
    "saxophone": Noun("\U0001f3b7", "instrument"),
    "hat": Noun("\U0001f3a9", "clothing", "black"),
    "shoe": Noun("\U0001f45f", "clothing", "blue"),
    "dress": Noun("\U0001f457", "clothing", "blue"),
    "shirt": Noun("\U0001f455", "clothing"),
    "scarf": Noun("\U0001f9e3", "clothing", "red"),
    "chair": Noun("\U0001fa91", "household"),
    "bed": Noun("\U0001f6cf", "household"),
    "television": Noun("\U0001f4fa", "household"),
    "phone": Noun("\U0001f4f1", "household"),
    "book": Noun("\U0001f4d5", "household", "red"),
    "clock": Noun("\u23f0", "household"),
    "key": Noun("\U0001f511", "household", "yellow"),
    "umbrella": Noun("\u2614", "household"),
}
# What a thing with a category is called when only that is said; shapes have one too.
CATEGORIES = {
    "animal": "animal",
    "food": "food item",
    "vehicle": "vehicle",
    "sport": "sports item",
    "plant": "plant",
    "tool": "tool",
    "instrument": "musical instrument",
    "clothing": "piece of clothing",
    "household": "household item",
    "shape": "shape",
}


def _of(category: str) -> frozenset[str]:
    return frozenset(name for name, noun in NOUNS.items() if noun.category == category)


# Things that some would count in when a category is asked for.
ALSO_A: dict[str, frozenset[str]] = {
    "food": frozenset({"fish", "pig", "cow", "rabbit", "octopus", "turtle", "frog", "sunflower"}),
    "vehicle": frozenset({"skateboard", "horse"}),
    "sport": frozenset({"bicycle"}),
    "plant": _of("food"),
    "tool": frozenset({"key", "umbrella", "boxing glove", "phone"}),
    "clothing": frozenset({"boxing glove", "umbrella"}),
    "household": _of("tool") | _of("clothing") | _of("instrument") | {"trophy"},
}
# What each is good for, in words after "something": the things that are, and those some would count in.
FUNCTIONS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "you can eat": (_of("food"), ALSO_A["food"]),
    "you can ride in or drive": (_of("vehicle"), frozenset({"horse", "elephant", "skateboard"})),
    "you can play music on": (_of("instrument"), frozenset({"phone", "television", "saw"})),
    "you can wear": (_of("clothing"), frozenset({"boxing glove"})),
    "that can fly": (frozenset({"bee", "butterfly", "airplane", "helicopter"}), frozenset()),
    "that lives in water": (frozenset({"fish", "octopus"}), frozenset({"turtle", "frog", "penguin"})),
    "with wheels": (
        frozenset({"car", "bus", "truck", "tractor", "bicycle", "train", "skateboard"}),
        frozenset({"airplane", "helicopter"}),
    ),
}
# Pictures that a person might call by the name of a shape, or of another thing.
ALSO_CALLED = {
    "soccer ball": ("circle",),
    "basketball": ("circle",),
    "clock": ("circle",),
    "piano": ("square",),
    "cactus": ("tree",),
    "tulip": ("rose",),
}

# Pairs of nouns that training never shows or names together: they measure whether a noun carries over. Which ones is
# arbitrary; each noun has about as many.
HELD_APART = frozenset(
    frozenset((one, two)) for (i, one), (j, two) in combinations(enumerate(NOUNS), 2) if (i + j) % 9 == 0
)
