"""The full world's held-out questions: `python -m unipixel eval world --contents full`.

A row is what is asked, of how many frames, and how an answer is scored. Truth comes with each task; answers in words
count only if they are right word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from unipixel.data.world import (
    FULL,
    NAMELESS,
    PIXEL_QA_KINDS,
    Contents,
    Mark,
    Scene,
    Task,
    draw_prompt,
    draw_prompts,
    draw_scene,
    sample_task,
)
from unipixel.data.world.english import article
from unipixel.data.world.language import MIN_AREA
from unipixel.engine import UniPixel
from unipixel.eval.metrics import cumulative_iou, iou, j_and_f
from unipixel.eval.world_measure import CLIP_FRAMES, HELDOUT_SEED, Measure, scene_media
from unipixel.grammar import SEG_TOKEN, parse_answer, render_question
from unipixel.types import Answer, BoolArray, Prompt

_FIRST_SEED = 300  # the rows of the shapes' report use smaller ones
_SAME = 0.5  # IoU from which on a mask is its object's, J&F from which on an answer's masks are right
_TRIES = 10  # scenes that are drawn for a question before it is left out

Pair = tuple[BoolArray, BoolArray]


@dataclass(frozen=True, eq=False)
class Question:
    """A task about a scene, with its marks as prompts."""

    scene: Scene
    task: Task
    prompts: Sequence[Prompt]

    @property
    def truth(self) -> BoolArray:
        """T x H x W: everything that the answer's masks should cover."""
        return np.logical_or.reduce(self.scene.masks[list(self.task.targets)], axis=0)

    @property
    def text(self) -> str:
        """The right answer as people read it."""
        raw = SEG_TOKEN.join(map(render_question, self.task.answer.split(SEG_TOKEN)))
        return parse_answer(raw, self.task.ids).text


def new_masks(question: Question, answer: Answer) -> list[BoolArray]:
    """The masks that the answer drew, each T x H x W, without those of marks."""
    return [masklet.masks for number, masklet in answer.masklets.items() if number not in question.task.ids]


def covered(question: Question, answer: Answer) -> Pair:
    """All found masks as one, and all true ones."""
    masks = new_masks(question, answer)
    shape = question.scene.frames.shape[:3]
    truth = question.truth if question.task.targets else np.zeros(shape, bool)
    return (np.logical_or.reduce(masks) if masks else np.zeros(shape, bool)), truth


def mask_fit(question: Question, answer: Answer) -> float:
    """J&F of all masks together."""
    return j_and_f(*covered(question, answer))


def right_words(question: Question, answer: Answer) -> float:
    """Whether the answer is right word for word."""
    return float(answer.text == question.text)


def right_answer(question: Question, answer: Answer) -> float:
    """Whether words and masks are right (PixelQA)."""
    return right_words(question, answer) * (mask_fit(question, answer) >= _SAME)


def draws_nothing(question: Question, answer: Answer) -> float:
    """Whether the answer has no mask."""
    return float(not new_masks(question, answer))


def f1(question: Question, answer: Answer) -> float:
    """F1 of found and true masks, which match from an IoU of 0.5 on, the best first and each once."""
    found, true = new_masks(question, answer), [question.scene.masks[k] for k in question.task.targets]
    overlaps = np.array([[iou(a, b) for b in true] for a in found]).reshape(len(found), len(true))
    matched = 0
    while overlaps.size and overlaps.max() >= _SAME:
        row, column = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        overlaps[row], overlaps[:, column] = 0, 0
        matched += 1
    return 2 * matched / max(len(found) + len(true), 1) if found or true else 1.0


@dataclass(frozen=True)
class Row:
    """`kinds` of tasks about scenes of `frames` frames; `targets` is the least number of masks (None: none at all)."""

    name: str
    kinds: tuple[str, ...]
    frames: int
    score: Callable[[Question, Answer], float]
    targets: int | None = 0
    contents: Contents = FULL

    def wants(self, task: Task) -> bool:
        return not task.targets if self.targets is None else len(task.targets) >= self.targets


_GROUPS = ("refer_all", "refer_relation", "refer_not", "refer_except", "refer_function", "refer_list")
_ONE = ("refer", "refer_rank", "refer_relation", "refer_not", "refer_function")
_NONE = ("absent", "refer_function", "refer_relation")
REFERRING = Row("image referring cIoU", ("refer",), 1, mask_fit, 1)
ROWS = (
    Row("video referring J&F", ("refer", "refer_rank"), CLIP_FRAMES, mask_fit, 1),
    Row("relations F1@0.5", ("refer_relation",), 1, f1, 1),
    Row("negation F1@0.5", ("refer_not", "refer_except"), 1, f1, 1),
    Row("use and category F1@0.5", ("refer_function",), 1, f1, 1),
    Row("several targets F1@0.5", _GROUPS, 1, f1, 2),
    Row("image PixelQA right", PIXEL_QA_KINDS, 1, right_answer, 1),
    Row("video PixelQA right", PIXEL_QA_KINDS, CLIP_FRAMES, right_answer, 1),
    Row("phrases of the caption F1@0.5", ("caption",), 1, f1, 1),
    Row('"not there" right', _NONE, 1, draws_nothing, None),
    Row("wrongly refused", _ONE, 1, draws_nothing, 1),
    Row("nothing known right", ("nothing_known",), 1, right_words, None, Contents(nameless=1.0, surfaces=0.5)),
    Row("count right", ("count",), 1, right_words),
    Row("yes or no right", ("is_it", "is_for", "presence", "plain_place"), 1, right_words),
    Row("regions compared right", ("compare_size", "compare_place", "same_color", "which_of"), 1, right_words),
    Row("motion right", ("motion",), CLIP_FRAMES, right_words),
    Row("when right", ("when", "when_mark"), CLIP_FRAMES, right_words),
)


def questions(row: Row, scenes: int, heldout: bool) -> Iterator[Question]:
    """Up to `scenes` questions of a row, the same every time."""
    number = _FIRST_SEED + crc32(row.name.encode())
    for n in range(scenes):
        rng = np.random.default_rng([HELDOUT_SEED, number, n])
        for _ in range(_TRIES):
            scene = draw_scene(rng, num_frames=row.frames, heldout=heldout, contents=row.contents)
            try:
                task = sample_task(rng, scene, kinds=row.kinds, heldout=heldout)
            except ValueError:  # this scene allows no such question
                continue
            if row.wants(task):
                yield Question(scene, task, draw_prompts(rng, scene, task))
                break


def ask(model: UniPixel, question: Question) -> Answer:
    """The model's answer, marks and all."""
    return model.ask(scene_media(question.scene), question.task.question, prompts=question.prompts)


def measure(model: UniPixel, row: Row, scenes: int, heldout: bool = True) -> Measure:
    """The mean score of a row."""
    scores = [row.score(question, ask(model, question)) for question in questions(row, scenes, heldout)]
    return Measure(row.name, 100 * float(np.mean(scores)) if scores else float("nan"), len(scores))


def referring(model: UniPixel, scenes: int, heldout: bool = True) -> Measure:
    """Image referring by attributes: cIoU, over all questions at once."""
    pairs = [covered(question, ask(model, question)) for question in questions(REFERRING, scenes, heldout)]
    return Measure(REFERRING.name, 100 * cumulative_iou(pairs), len(pairs))


def pointed(scenes: int, frames: int, heldout: bool) -> Iterator[tuple[Question, str]]:
    """ "What is @1?" with a click or a box in turn, and which of the two it was."""
    for n in range(scenes):
        rng = np.random.default_rng([HELDOUT_SEED, _FIRST_SEED + frames, n])
        scene = draw_scene(rng, num_frames=frames, heldout=heldout, contents=FULL)
        shown = np.argwhere(scene.areas >= MIN_AREA * scene.side**2)
        if len(shown):
            k, t = (int(i) for i in shown[rng.integers(len(shown))])
            mark = Mark(k, ("point", "box")[n % 2], t)
            answer = f"@1 is {article(scene.objects[k].full_name)}."
            task = Task("what", "What is @1?", answer, (), (mark,), {1: k})
            yield Question(scene, task, [draw_prompt(rng, scene, mark, 1)]), mark.kind


def pointing(model: UniPixel, scenes: int, frames: int, heldout: bool = True) -> list[Measure]:
    """A click or box, then "What is @1?": J&F of the masklet, and whether the thing is named right."""
    fits: dict[str, list[float]] = {"point": [], "box": [], "nameless": []}
    named: dict[str, list[bool]] = {"named": [], "unknown": []}
    for question, kind in pointed(scenes, frames, heldout):
        spec, mask = question.scene.objects[question.task.ids[1]], question.scene.masks[question.task.ids[1]]
        answer = ask(model, question)
        fit = j_and_f(answer.memory[1].masks, mask)
        words = answer.text.rstrip(".").split()
        fits[kind].append(fit)
        if spec.shape == NAMELESS:
            fits["nameless"].append(fit)
            named["unknown"].append(NAMELESS in answer.text)
        else:
            named["named"].append(set(spec.name.split()) <= set(words))
    what = "image" if frames == 1 else "video"
    rows = {f"{what} {kind} to mask J&F": values for kind, values in fits.items()}
    rows |= {f"{what} region {how} right": values for how, values in named.items()}
    return [Measure(name, 100 * float(np.mean(values)), len(values)) for name, values in rows.items() if values]


def evaluate_full(
    model: UniPixel, scenes: int, heldout: bool = True, report: Callable[[Measure], None] = lambda measure: None
) -> list[Measure]:
    """All rows; `report` hears of each as it is ready. Clips are a quarter as many as pictures."""
    clips = max(1, scenes // 4)
    steps: list[Callable[[], list[Measure]]] = [
        lambda: [referring(model, scenes, heldout)],
        lambda: pointing(model, scenes, 1, heldout),
        lambda: pointing(model, clips, CLIP_FRAMES, heldout),
        *(lambda row=row: [measure(model, row, scenes if row.frames == 1 else clips, heldout)] for row in ROWS),
    ]
    rows: list[Measure] = []
    for step in steps:
        for found in step():
            report(found)
            rows.append(found)
    return rows
