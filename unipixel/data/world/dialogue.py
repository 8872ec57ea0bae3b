"""Conversations of several turns about one scene, in which later ones speak of what earlier ones found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unipixel.data.world.asking import Mark, Task
from unipixel.data.world.language import sample_task
from unipixel.data.world.scene import Scene
from unipixel.grammar import SEG_TOKEN, parse_answer, render_question


@dataclass(frozen=True)
class Dialogue:
    """Turns about one scene; each task's `ids` are what the conversation knows before its answer."""

    tasks: tuple[Task, ...]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All marks made in the conversation."""
        return tuple(mark for task in self.tasks for mark in task.marks)


def found_ids(task: Task) -> dict[int, int]:
    """The ids under which a task's targets enter the memory, as the parser of answers gives them."""
    segs = parse_answer(as_read(task.answer), task.ids).seg_ids
    return {number: k for number, k in zip(segs, task.targets) if number is not None}


def as_read(answer: str) -> str:
    """A task's answer as the model writes it: `[1]` for `@1`, masks as `<|seg|>`."""
    return SEG_TOKEN.join(map(render_question, answer.split(SEG_TOKEN)))


def sample_dialogue(
    rng: np.random.Generator,
    scene: Scene,
    *,
    turns: int = 3,
    kinds: Sequence[str] | None = None,
    heldout: bool = False,
) -> Dialogue:
    """Up to `turns` turns about `scene`, none asked twice; `kinds` and errors are those of `sample_task`."""
    tasks: list[Task] = []
    known: dict[int, int] = {}
    for _ in range(turns):
        task = sample_task(rng, scene, kinds=kinds, heldout=heldout, known=known)
        task = replace(task, ids={**known, **task.ids})
        if task.question not in [earlier.question for earlier in tasks]:
            tasks.append(task)
            known = {**task.ids, **found_ids(task)}
    return Dialogue(tuple(tasks))
