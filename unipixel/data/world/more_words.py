"""The ways to ask what only a richer world can answer."""

from __future__ import annotations

from unipixel.data.world.words import Wording

WHAT_IS_BESIDE = Wording(
    (
        "What is {place} {a}?",
        "What do you see {place} {a}?",
        "Which objects are {place} {a}?",
        "Show me what is {place} {a}.",
    ),
    ("What can be found {place} {a}?", "Outline what is {place} {a}."),
)
NEAREST = Wording(
    (
        "What is closest to {a}?",
        "Which object is closest to {a}?",
        "What is next to {a}?",
        "Show me the object nearest to {a}.",
    ),
    ("Which object has the smallest distance to {a}?",),
)
WHICH_IS = Wording(
    ("Which is {word}, {a} or {b}?", "Which one is {word}: {a} or {b}?", "What is {word}, {a} or {b}?"),
    ("Comparing {a} and {b}, which is {word}?",),
)
WHAT_AND_WHERE = Wording(
    (
        "What is {a}, and where is the {np}?",
        "What is {a} and where is the {np} in the {media}?",
        "Tell me what {a} is and segment the {np}.",
        "Describe {a} and show me the {np}.",
    ),
    ("Name {a} and outline the {np}.",),
)
FIND_FOR = Wording(
    (
        "Segment something {function}.",
        "Segment the thing {function}.",
        "Find something {function}.",
        "Find something {function} in the {media}.",
        "Where is something {function}?",
        "Show me something {function}.",
        "Is there something {function}? Show me.",
    ),
    ("Outline something {function}.", "I am looking for something {function}."),
)
FIND_ALL_FOR = Wording(
    (
        "Segment everything {function}.",
        "Segment all things {function}.",
        "Find everything {function}.",
        "Show me everything {function}.",
        "Highlight all things {function} in the {media}.",
    ),
    ("Outline everything {function}.", "I am looking for all things {function}."),
)
IS_FOR = Wording(
    ("Is {a} something {function}?", "Is {a} a thing {function}?", "Would you say {a} is something {function}?"),
    ("Would you call {a} something {function}?",),
)
KIND_OF = Wording(
    ("What kind of thing is {a}?", "What sort of thing is {a}?", "What category is {a}?", "What type of thing is {a}?"),
    ("To which category does {a} belong?", "Name the category of {a}."),
)
WHICH_OF = Wording(
    ("Which of {a} and {b} is {np}?", "Which one is {np}, {a} or {b}?", "Is {a} or {b} {np}?"),
    ("Tell me which of {a} and {b} is {np}.",),
)
FIND_EXCEPT = Wording(
    (
        "Segment everything except the {np}.",
        "Segment everything but the {np}.",
        "Find all objects except the {np}.",
        "Highlight everything that is not the {np}.",
        "Show me all objects but the {np} in the {media}.",
    ),
    ("Outline everything apart from the {np}.", "Mask all objects without the {np}."),
)
FIND_LIST = Wording(
    (
        "segment: {names}",
        "Segment: {names}",
        "Segment these: {names}.",
        "Find: {names}",
        "Segment the following: {names}.",
        "Segment by category: {names}.",
    ),
    ("Outline: {names}", "Masks for: {names}."),
)
LIKE = Wording(
    (
        "Segment everything like {a}.",
        "Segment all objects like {a}.",
        "Find everything like {a}.",
        "Find everything that looks like {a}.",
        "Highlight all things of the same kind as {a}.",
        "Show me everything like {a} in the {media}.",
    ),
    ("Outline everything similar to {a}.", "Mask all that are the same as {a}."),
)
COUNT_AND_FIND = Wording(
    (
        "How many {np} are there? Segment them.",
        "How many {np} are in the {media}? Show them.",
        "Count the {np} and segment them.",
        "Count and segment the {np}.",
    ),
    ("Outline and count the {np}.", "What is the number of {np}? Give me their masks."),
)
WHEN = Wording(
    (
        "When is {a} visible?",
        "When can {a} be seen?",
        "When do you see {a}?",
        "In which frames is {a} visible?",
        "In which frames can you see {a}?",
        "From when to when is {a} in the {media}?",
    ),
    ("During which frames does {a} appear?", "Tell me when {a} is in view."),
)
