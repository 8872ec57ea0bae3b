"""What can be asked about a drawn scene, with the right answer and the objects whose masks it holds.

Answers are written as in the API: objects of the conversation as `@1`, a mask as `SEG_TOKEN`. Each kind of task has
one canonical answer; the variety is in the questions. Scenes of shapes alone are asked the kinds in `KINDS`, richer
ones (`draw_scene(contents=...)`) those in `RICH_KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from unipixel.data.world import english, meanings, questions, relations, requests, times, words
from unipixel.data.world.asking import MARK_KINDS, MIN_AREA, RICH_MARK_KINDS, TRIES, Context, Maker, Mark, Task
from unipixel.data.world.contents import SHAPES_ONLY, Contents
from unipixel.data.world.english import article, plural
from unipixel.data.world.phrases import MEASURES, PLACES, RICH_MEASURES
from unipixel.data.world.scene import Scene, draw_scene
from unipixel.grammar import SEG_TOKEN, render_question

# kind -> (how often, maker)
_MAKERS: dict[str, tuple[float, Maker]] = {
    "refer": (24, requests.refer),
    "refer_rank": (6, requests.refer_rank),
    "refer_two": (6, requests.refer_two),
    "refer_all": (10, requests.refer_all),
    "absent": (8, requests.absent),
    "caption": (4, requests.caption),
    "similar": (3, requests.similar),
    "what": (14, questions.about_one("what", words.WHAT, lambda spec: article(spec.full_name))),
    "what_two": (3, questions.what_two),
    "color": (5, questions.about_one("color", words.COLOR, lambda spec: spec.color)),
    "shape": (5, questions.about_one("shape", words.SHAPE, lambda spec: article(spec.shape))),
    "texture": (3, questions.about_one("texture", words.TEXTURE, lambda spec: spec.texture)),
    "size": (2, questions.about_one("size", words.SIZE, lambda spec: spec.size)),
    "motion": (4, questions.about_one("motion", words.MOTION, lambda spec: english.MOTION_ANSWERS[spec.motion])),
    "is_it": (5, questions.is_it),
    "same_color": (2, questions.same("same_color", "color", words.SAME_COLOR, str, str)),
    "same_shape": (2, questions.same("same_shape", "shape", words.SAME_SHAPE, article, plural)),
    "compare_size": (2, questions.compare("compare_size", words.COMPARE_SIZE, MEASURES, "than ", RICH_MEASURES)),
    "compare_place": (2, questions.compare("compare_place", words.COMPARE_PLACE, PLACES, "")),
    "count": (5, questions.count),
    "presence": (4, questions.presence),
}
# The kinds that a rich scene is asked beside (or more often than) these.
_RICH_MAKERS: dict[str, tuple[float, Maker]] = _MAKERS | {
    "refer_relation": (8, relations.refer_relation),
    "refer_not": (4, meanings.refer_not),
    "refer_except": (2, meanings.refer_except),
    "refer_function": (5, meanings.refer_function),
    "refer_list": (4, meanings.refer_list),
    "count_masks": (3, meanings.count_masks),
    "like_mark": (3, meanings.like_mark),
    "beside_mark": (4, relations.beside_mark),
    "nearest_mark": (2, relations.nearest_mark),
    "compare_with_mark": (3, relations.compare_with_mark),
    "what_and_where": (3, relations.what_and_where),
    "is_for": (3, meanings.is_for),
    "category_of": (3, meanings.category_of),
    "which_of": (2, meanings.which_of),
    "when_mark": (4, times.when_mark),
    "when": (3, times.when),
    "plain_place": (2, relations.plain_place),
    "plain_measure": (2, relations.plain_measure),
    "plain_color": (2, meanings.plain_color),
    "nothing_known": (12, meanings.nothing_known),
}
KINDS = tuple(_MAKERS)
RICH_KINDS = tuple(_RICH_MAKERS)
REFER_KINDS = ("refer", "refer_rank", "refer_two", "refer_all", "absent")
RICH_REFER_KINDS = (*REFER_KINDS, "refer_relation", "refer_not", "refer_except", "refer_function", "refer_list")
RICH_REFER_KINDS += ("count_masks", "nothing_known")
REGION_KINDS = (
    *("what", "what_two", "color", "shape", "texture", "size", "motion", "is_it"),
    *("same_color", "same_shape", "compare_size", "compare_place"),
)
RICH_REGION_KINDS = (*REGION_KINDS, "is_for", "category_of", "which_of", "when_mark")
SCENE_KINDS = ("count", "presence", "caption")
RICH_SCENE_KINDS = (*SCENE_KINDS, "when", "plain_place", "plain_measure", "plain_color")
# Marks and a question in, words and masks out.
PIXEL_QA_KINDS = ("like_mark", "beside_mark", "nearest_mark", "compare_with_mark", "what_and_where")


def sample_task(
    rng: np.random.Generator,
    scene: Scene,
    *,
    kinds: Sequence[str] | None = None,
    heldout: bool = False,
    known: Mapping[int, int] | None = None,
) -> Task:
    """Ask something about `scene`: a task of one of `kinds` (default: all, the common ones more often).

    With `heldout`, half of the questions use wordings that training never sees, and held-out pairs may be named.
    `known` maps the ids that a conversation knows already to objects: questions are mostly about these then. Raises
    ValueError for an unknown kind, or when nothing of `kinds` can be asked about this scene.
    """
    makers = _RICH_MAKERS if scene.contents.rich else _MAKERS
    names = list(dict.fromkeys(kinds or makers))
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise ValueError(f"Unknown kind of task: {unknown[0]!r}; known are {', '.join(makers)}.")
    context = Context(rng, scene, heldout, known or {})
    weights = np.array([makers[name][0] for name in names])
    for name in rng.choice(names, 4 * TRIES, p=weights / weights.sum()):
        task = makers[str(name)][1](context)
        if task is not None:
            return task
    raise ValueError(f"Nothing of these kinds can be asked about this scene: {', '.join(names)}.")


def all_texts(limit: int = 20_000, seed: int = 0, contents: Contents = SHAPES_ONLY) -> Iterator[str]:
    """`limit` questions and answers as the model reads them (`[1]` for `@1`), for training a tokenizer."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < limit:
        num_frames = int(rng.choice((1, 4)))
        scene = draw_scene(rng, num_frames=num_frames, size=96, num_objects=(1, 6), heldout=True, contents=contents)
        for _ in range(8):
            task = sample_task(rng, scene, heldout=True)
            yield from map(render_question, (task.question, task.answer.replace(SEG_TOKEN, "")))
            made += 2


__all__ = [
    "KINDS",
    "MARK_KINDS",
    "MIN_AREA",
    "PIXEL_QA_KINDS",
    "REFER_KINDS",
    "REGION_KINDS",
    "RICH_KINDS",
    "RICH_MARK_KINDS",
    "RICH_REFER_KINDS",
    "RICH_REGION_KINDS",
    "RICH_SCENE_KINDS",
    "SCENE_KINDS",
    "Mark",
    "Task",
    "all_texts",
    "sample_task",
]
