"""The many ways to ask the same question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """Ways to ask one thing: `usual` ones for training, `rare` ones kept for measuring generalisation."""

    usual: tuple[str, ...]
    rare: tuple[str, ...]


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
