"""Every question about the full world has the right answer: truth is worked out again from words and masks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from unipixel.data.world import (
    CATEGORIES,
    COLORS,
    FULL,
    HELD_APART,
    HELDOUT_PAIRS,
    NAMELESS,
    NOUNS,
    PIXEL_QA_KINDS,
    RICH_KINDS,
    RICH_REFER_KINDS,
    RICH_REGION_KINDS,
    RICH_SCENE_KINDS,
    SHAPES,
    SIZES,
    TEXTURES,
    Contents,
    Scene,
    Task,
    all_texts,
    draw_prompts,
    draw_scene,
    found_ids,
    more_words,
    sample_dialogue,
    sample_task,
    words,
)
from unipixel.data.world.english import MOTION_CLAUSES, article, plural
from unipixel.data.world.nouns import FUNCTIONS
from unipixel.data.world.pictures import tints
from unipixel.data.world.times import say_spans, visible_spans
from unipixel.data.world.words import Wording
from unipixel.grammar import SEG_TOKEN, mentioned_ids, parse_answer, render_question

SEG = re.escape(SEG_TOKEN)
_PLURALS = {plural(name): name for name in (*SHAPES, *NOUNS, *CATEGORIES.values(), "object")}
_SINGULARS = {name: name for name in _PLURALS.values()}


def tasks(kind: str, count: int = 40, heldout: bool = False, contents: Contents = FULL) -> list[tuple[Scene, Task]]:
    """Tasks of one kind on pictures and clips, where the kind can be asked."""
    rng = np.random.default_rng(11)
    found: list[tuple[Scene, Task]] = []
    while len(found) < count:
        frames = int(rng.choice((1, 6)))
        scene = draw_scene(rng, num_frames=frames, size=128, num_objects=(2, 6), heldout=heldout, contents=contents)
        try:
            found += [(scene, sample_task(rng, scene, kinds=(kind,), heldout=heldout)) for _ in range(3)]
        except ValueError:
            continue
    return found


def attributes_of(phrase: str) -> dict[str, str]:
    """Read a noun phrase of an answer ("small food items moving left") back into attributes."""
    read: dict[str, str] = {}
    for motion, clause in MOTION_CLAUSES.items():
        if phrase.endswith(f" {clause}"):
            read["motion"], phrase = motion, phrase.removesuffix(f" {clause}")
    known = {
        word: name
        for name, all_words in (("size", SIZES), ("color", COLORS), ("texture", TEXTURES))
        for word in all_words
    }
    while (word := phrase.split(" ")[0]) in known:
        read[known[word]], phrase = word, phrase.removeprefix(f"{word} ")
    noun = _SINGULARS.get(phrase) or _PLURALS[phrase]
    categories = {word: category for category, word in CATEGORIES.items()}
    if noun in categories:
        read["category"] = categories[noun]
    elif noun != "object":
        read["shape"] = noun
    return read


def fits(spec, attributes: dict[str, str]) -> bool:
    return all(getattr(spec, name) == value for name, value in attributes.items())


def fitting(scene: Scene, phrase: str) -> set[int]:
    """The objects that a phrase fits; fails where one could argue about it."""
    wanted = attributes_of(phrase)
    noun = wanted.get("shape")
    if "color" in wanted:
        arguable = [o for o in scene.objects if o.shape in NOUNS and noun in (None, o.shape)]
        assert not any(wanted["color"] in tints(o.shape) - {o.color} for o in arguable), (phrase, scene.objects)
    if noun is None:
        assert scene.background != "photo"
        assert NAMELESS not in {o.shape for o in scene.objects}
    assert "motion" not in wanted or not any(scene.camera)
    return {k for k, spec in enumerate(scene.objects) if fits(spec, wanted)}


def is_beside(scene: Scene, k: int, place: str, anchor: int) -> bool:
    """By the centres of what is visible, on the first frame."""
    axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[place]
    difference = sign * (scene.centroids[k, 0, axis] - scene.centroids[anchor, 0, axis])
    assert abs(difference) > 0.05 * scene.side
    return difference > 0


def more(scene: Scene, word: str, a: int, b: int) -> bool:
    if word in ("faster", "slower"):
        steps = np.linalg.norm(np.diff(scene.centroids[[a, b]], axis=1), axis=-1).sum(1)
        return bool(steps[0] > steps[1]) == (word == "faster")
    return bool(scene.areas[a, 0] > scene.areas[b, 0]) == (word == "larger")


def read(pattern: str, text: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    assert match, text
    return match.groups()


def marked(task: Task, number: str) -> int:
    return task.ids[int(number)]


PLACE = "(left of|right of|above|below)"
COMPARISON = "(?:larger|smaller|faster|.*left of|.*right of|above|below|over|under|beneath)"
MEASURE = "(larger|smaller|faster|slower)"


# ------------------------------------------------------------------------------------------------------ all kinds


@pytest.mark.parametrize("kind", RICH_KINDS)
def test_marks_and_masks_of_every_kind_are_consistent(kind: str):
    rng = np.random.default_rng(0)
    for scene, task in tasks(kind, 15, heldout=True):
        assert task.kind == kind
        assert task.question
        assert task.answer.endswith(".")
        assert "{" not in task.question + task.answer
        assert task.answer.count(SEG_TOKEN) == len(task.targets) == len(set(task.targets))
        assert all(scene.areas[k, 0] >= 25 for k in task.targets)
        assert {mark.object_index for mark in task.marks} == set(task.ids.values())
        assert len(draw_prompts(rng, scene, task)) == len(task.marks)
        mentioned = mentioned_ids(task.question)
        assert set(mentioned_ids(task.answer)) <= set(mentioned) <= set(task.ids)
        assert NAMELESS not in {scene.objects[k].shape for k in task.targets}


def test_every_kind_belongs_somewhere():
    groups = (RICH_REFER_KINDS, RICH_REGION_KINDS, RICH_SCENE_KINDS, PIXEL_QA_KINDS, ("similar",))
    assert sorted(kind for group in groups for kind in group) == sorted(RICH_KINDS)


def test_marks_come_in_all_kinds_and_on_several_frames():
    made = [task for _, task in tasks("what", 120) if task.marks]
    assert {mark.kind for task in made for mark in task.marks} == {"point", "box", "mask", "scribble"}
    several = [len(task.marks) > len(task.ids) for task in made]
    assert 0 < np.mean(several) < 0.6


# ------------------------------------------------------------------------------------------------- requests for masks


@pytest.mark.parametrize("kind", ["refer", "refer_two"])
def test_named_objects_are_the_only_ones_that_fit(kind: str):
    for scene, task in tasks(kind, 80):
        phrases = re.findall(rf"[Tt]he (.+?) is {SEG}", task.answer)
        assert [fitting(scene, phrase) for phrase in phrases] == [{k} for k in task.targets]


def test_all_means_all():
    for scene, task in tasks("refer_all", 80):
        assert fitting(scene, read(rf"Here are the (.+): [{SEG}, ]+\.", task.answer)[0]) == set(task.targets)


def test_absent_means_none_fits():
    for scene, task in tasks("absent", 120):
        (phrase,) = read(r"There (?:is|are) no (.+) in the (?:picture|video)\.", task.answer)
        assert not fitting(scene, phrase)


def test_the_fastest_moves_most():
    seen = 0
    for scene, task in tasks("refer_rank", 250):
        rank, phrase = read(rf"The (\w+) (.+) is {SEG}\.", task.answer)
        group = fitting(scene, phrase)
        if rank == "fastest":
            seen += 1
            assert all(more(scene, "faster", task.targets[0], k) for k in group - {task.targets[0]})
    assert seen


def test_relations_hold_between_centres():
    counts = []
    for scene, task in tasks("refer_relation", 150):
        pattern = rf"(?:The|Here are the|There is no) (.+) {PLACE} the (.+?)(?: is {SEG}|: [{SEG}, ]+)?\."
        phrase, place, anchor = read(pattern, task.answer)
        (other,) = fitting(scene, anchor)
        assert {k for k in fitting(scene, phrase) - {other} if is_beside(scene, k, place, other)} == set(task.targets)
        counts.append(len(task.targets))
    assert {0, 1, 2} <= set(counts)


def test_negation_leaves_the_others():
    for scene, task in tasks("refer_not", 120):
        pattern = rf"(?:The|Here are the) (.+) that (?:is|are) not (.+?)(?: is {SEG}|: [{SEG}, ]+)\."
        phrase, negated = read(pattern, task.answer)
        words_of = {clause: {"motion": motion} for motion, clause in MOTION_CLAUSES.items()}
        words_of |= {word: {"color": word} for word in COLORS} | {word: {"size": word} for word in SIZES}
        words_of |= {word: {"texture": word} for word in TEXTURES}
        words_of |= {word: {"category": c} for c, noun in CATEGORIES.items() for word in (article(noun), plural(noun))}
        group = fitting(scene, phrase)
        assert set(task.targets) == {k for k in group if not fits(scene.objects[k], words_of[negated])}
        assert set(task.targets) < group


def test_everything_except():
    for scene, task in tasks("refer_except"):
        (phrase,) = read(rf"Here is everything except the (.+): [{SEG}, ]+\.", task.answer)
        assert set(task.targets) == set(range(len(scene.objects))) - fitting(scene, phrase)


def test_functions():
    numbers = []
    for scene, task in tasks("refer_function", 120):
        question = task.question.lower()
        (function,) = (f for f in FUNCTIONS if re.search(rf"\b{f.lower()}\b", question))
        good, arguable = FUNCTIONS[function]
        assert {k for k, o in enumerate(scene.objects) if o.shape in good} == set(task.targets)
        assert not {o.shape for o in scene.objects} & {*arguable, NAMELESS}
        names = [article(scene.objects[k].full_name) for k in task.targets]
        assert all(f"{name} {SEG_TOKEN}" in task.answer.lower() for name in names)
        numbers.append(len(names))
    assert {0, 1, 2} <= set(numbers)


def test_lists_name_what_is_there_and_what_is_not():
    lengths = []
    for scene, task in tasks("refer_list", 60):
        targets = list(task.targets)
        for part in task.answer.removesuffix(".").split("; "):
            name, segs = part.split(": ")
            group = {targets.pop(0) for _ in range(segs.count(SEG_TOKEN))}
            assert fitting(scene, name) == group
            assert (segs == "none") == (not group)
            lengths.append(len(group))
        assert not targets
    assert {0, 1, 2} <= set(lengths)


def test_counts_with_masks():
    numbers = set()
    for scene, task in tasks("count_masks", 80):
        number, phrase = read(rf"There (?:is|are) (\d) (.+): [{SEG}, ]+\.", task.answer)
        assert fitting(scene, phrase) == set(task.targets)
        assert len(task.targets) == int(number)
        numbers.add(number)
    assert {"1", "2"} <= numbers


def test_caption_names_all_that_has_a_name():
    for scene, task in tasks("caption", 60):
        named = [k for k, spec in enumerate(scene.objects) if spec.shape != NAMELESS]
        order = sorted(named, key=lambda k: scene.centroids[k, 0, 0])
        assert list(task.targets) == order
        phrases = re.findall(rf"(\w[\w -]*?) {SEG}", task.answer.replace(" and ", ", ").lower())
        assert phrases == [article(scene.objects[k].full_name) for k in order]


def test_where_there_is_no_word_for_anything_it_says_so():
    rng = np.random.default_rng(0)
    contents = Contents(nameless=1.0, surfaces=0.7)
    drawn = [draw_scene(rng, contents=contents, size=96) for _ in range(40)]
    unknown = [scene for scene in drawn if {spec.shape for spec in scene.objects} == {NAMELESS}]
    assert len(unknown) > 10
    for scene in unknown:
        asked = [sample_task(rng, scene) for _ in range(10)]
        assert not any(task.targets for task in asked)
        assert {t.answer for t in asked if t.kind == "nothing_known"} <= {"I see nothing that I have a word for."}
        assert all(re.match("There (is|are) no ", t.answer) for t in asked if t.kind == "absent")
        what = sample_task(rng, scene, kinds=("what",))
        assert what.answer.endswith(f" is {NAMELESS}.")


# ---------------------------------------------------------------------------------- marks in, words and masks out


def test_everything_like_a_mark():
    for scene, task in tasks("like_mark", 60):
        (number,) = mentioned_ids(task.question)
        spec = scene.objects[task.ids[number]]
        alike = {k for k, o in enumerate(scene.objects) if o.name == spec.name}
        assert set(task.targets) == alike
        assert fitting(scene, read(rf"Here are the (.+): [{SEG}, ]+\.", task.answer)[0]) == alike


def test_what_is_beside_a_mark():
    numbers = []
    for scene, task in tasks("beside_mark", 60):
        place, number = read(rf".+ {PLACE} @(\d)\.", task.answer)
        anchor = marked(task, number)
        others = set(range(len(scene.objects))) - {anchor}
        assert {k for k in others if is_beside(scene, k, place, anchor)} == set(task.targets)
        names = re.findall(rf"(\w[\w -]*?) {SEG}", task.answer.replace(" and ", ", ").lower())
        assert names == [article(scene.objects[k].full_name) for k in task.targets]
        numbers.append(len(names))
    assert {0, 1, 2} <= set(numbers)


def test_what_is_nearest_to_a_mark():
    for scene, task in tasks("nearest_mark", 30):
        name, number = read(rf"(.+) {SEG} is closest to @(\d)\.", task.answer)
        anchor = marked(task, number)
        gaps = np.linalg.norm(scene.centroids[:, 0] - scene.centroids[anchor, 0], axis=-1)
        assert np.argsort(gaps)[1] == task.targets[0]
        assert name.lower() == article(scene.objects[task.targets[0]].full_name)


def test_marks_compare_with_what_is_named():
    for scene, task in tasks("compare_with_mark", 60):
        if task.answer.startswith("@"):
            number, word, phrase = read(rf"@(\d) is {MEASURE} than the (.+) {SEG}\.", task.answer)
            pair = (marked(task, number), task.targets[0])
        else:
            phrase, word, number = read(rf"The (.+) {SEG} is {MEASURE} than @(\d)\.", task.answer)
            pair = (task.targets[0], marked(task, number))
        assert fitting(scene, phrase) == {task.targets[0]}
        assert more(scene, word, *pair)


def test_what_and_where():
    for scene, task in tasks("what_and_where"):
        number, what, phrase = read(rf"@(\d) is (.+) and the (.+) is {SEG}\.", task.answer)
        assert what == article(scene.objects[marked(task, number)].full_name)
        assert fitting(scene, phrase) == set(task.targets)


# ----------------------------------------------------------------------------------------------------- words alone


@pytest.mark.parametrize("kind", ["when", "when_mark"])
def test_when_is_when_the_mask_is_not_empty(kind: str):
    answers = set()
    for scene, task in tasks(kind, 60):
        name, said = read(r"(.+) is visible (.+)\.", task.answer)
        (k,) = {marked(task, name[1:])} if name[0] == "@" else fitting(scene, name.removeprefix("The "))
        frames = set(range(1, scene.num_frames + 1)) if said == "in all frames" else set()
        for first, last in re.findall(r"from frame (\d+) to (\d+)", said):
            frames |= set(range(int(first), int(last) + 1))
        frames |= {int(n) for n in re.findall(r"in frame (\d+)", said)}
        assert frames == {t + 1 for t in np.flatnonzero(scene.masks[k].any((1, 2)))}
        answers.add(said)
    assert len(answers) >= 4
    assert "in all frames" in answers


def test_spans_are_said_as_people_do():
    assert visible_spans(np.array([0, 1, 1, 0, 1], bool)) == [(2, 3), (5, 5)]
    assert say_spans([(2, 3), (5, 5)], 5) == "from frame 2 to 3 and in frame 5"
    assert say_spans([(1, 5)], 5) == "in all frames"


def test_plain_comparisons():
    for scene, task in tasks("plain_place", 60):
        yes, one, place, two = read(rf"(Yes|No), the (.+) {PLACE} the (.+)\.", task.answer.replace(" is ", " "))
        (a,), (b,) = fitting(scene, one), fitting(scene, two)
        assert is_beside(scene, a, place, b)
        asked = re.sub(r"\bover\b", "above", re.sub(r"\b(under|beneath)\b", "below", task.question))
        assert (place.split()[0] in asked.split()) == (yes == "Yes")
    for scene, task in tasks("plain_measure", 60):
        winner, word = read(rf"The (.+) is {MEASURE}\.", task.answer)
        (a,) = fitting(scene, winner)
        assert word in task.question
        assert any(more(scene, word, a, b) for b in range(len(scene.objects)) if b != a)


def test_color_category_and_use_of_objects():
    for scene, task in tasks("plain_color"):
        phrase, color = read(r"The (.+) is (\w+)\.", task.answer)
        assert [scene.objects[k].color for k in fitting(scene, phrase)] == [color]
    for scene, task in tasks("category_of", 60):
        number, what = read(r"@(\d) is (.+)\.", task.answer)
        category = scene.objects[marked(task, number)].category
        assert what == (article(CATEGORIES[category]) if category else NAMELESS)
    answers = []
    for scene, task in tasks("is_for", 90):
        yes, number, name = read(r"(Yes|No), @(\d) is (.+)\.", task.answer)
        spec = scene.objects[marked(task, number)]
        (function,) = (f for f in FUNCTIONS if f in task.question)
        assert (yes == "Yes") == (spec.shape in FUNCTIONS[function][0])
        assert spec.shape not in FUNCTIONS[function][1]
        assert name == article(spec.name)
        answers.append(yes)
    assert 0.15 < np.mean([a == "Yes" for a in answers]) < 0.85


def test_which_of_two():
    for scene, task in tasks("which_of", 60):
        number, what = read(r"@(\d) is (.+)\.", task.answer)
        wanted = {"color": what} if what in COLORS else attributes_of(re.sub("^an? ", "", what))
        a, b = mentioned_ids(task.question)
        assert [n for n in (a, b) if fits(scene.objects[task.ids[n]], wanted)] == [int(number)]


def test_yes_and_no_about_things():
    answers = []
    for scene, task in tasks("is_it", 120):
        (number,) = mentioned_ids(task.question)
        spec = scene.objects[task.ids[number]]
        yes = task.answer.startswith("Yes")
        answers.append(yes)
        assert task.answer.endswith(f"@{number} is {article(spec.name)}.")
        color = next((c for c in COLORS if f" {c}" in task.question), None)
        if yes and color:
            assert color == spec.color
        if not yes and spec.shape in NOUNS and color and color != spec.color:
            assert color not in tints(spec.shape)
    assert 0.3 < np.mean(answers) < 0.7


# -------------------------------------------------------------------------------------------------------- dialogues


def test_later_turns_speak_of_what_earlier_ones_found():
    rng = np.random.default_rng(0)
    followed = 0
    for _ in range(60):
        scene = draw_scene(rng, num_frames=4, size=96, num_objects=(2, 5), contents=FULL)
        dialogue = sample_dialogue(rng, scene, turns=4)
        known: dict[int, int] = {}
        for task in dialogue.tasks:
            assert set(known.items()) <= set(task.ids.items())
            assert set(task.ids.values()) - set(known.values()) <= {mark.object_index for mark in task.marks}
            assert set(mentioned_ids(f"{task.question} {task.answer}")) <= set(task.ids)
            found = found_ids(task)
            assert list(found.values()) == list(task.targets)
            assert not set(found) & set(task.ids)
            by_mark = {number for number, k in known.items() if k in {m.object_index for m in dialogue.marks}}
            followed += bool(set(mentioned_ids(task.question)) & (set(known) - by_mark))
            known = {**task.ids, **found}
    assert followed > 10


def test_ids_are_those_that_the_parser_gives():
    rng = np.random.default_rng(1)
    for _ in range(20):
        scene = draw_scene(rng, size=96, num_objects=(3, 5), contents=FULL)
        for task in sample_dialogue(rng, scene).tasks:
            raw = SEG_TOKEN.join(render_question(part) for part in task.answer.split(SEG_TOKEN))
            assert list(found_ids(task)) == list(parse_answer(raw, task.ids).seg_ids)


# --------------------------------------------------------------------------------------------------------- held out


def all_wordings() -> list[Wording]:
    return [value for module in (words, more_words) for value in vars(module).values() if isinstance(value, Wording)]


def test_no_wording_is_both_for_training_and_for_measuring():
    usual = {text for wording in all_wordings() for text in wording.usual}
    rare = {text for wording in all_wordings() for text in wording.rare}
    assert not usual & rare
    assert all(wording.rare for wording in all_wordings())


def test_training_never_draws_or_names_what_is_held_out():
    rng = np.random.default_rng(2)
    pairs = re.compile("|".join(rf"\b{color} (?:\w+ )?{shape}" for color, shape in HELDOUT_PAIRS))
    nouns = re.compile("|".join(rf"\b(?:{noun}|{plural(noun)})\b" for noun in sorted(NOUNS, key=len, reverse=True)))
    singular = {plural(noun): noun for noun in NOUNS} | {noun: noun for noun in NOUNS}
    for _ in range(100):
        scene = draw_scene(rng, num_frames=int(rng.choice((1, 4))), size=96, num_objects=(1, 6), contents=FULL)
        shown = {spec.shape for spec in scene.objects}
        for _ in range(10):
            task = sample_task(rng, scene)
            text = f"{task.question} {task.answer}"
            assert not pairs.search(text)
            named = {singular[noun] for noun in nouns.findall(text)} | shown
            assert not any(pair <= named for pair in HELD_APART), (task, shown)


def test_training_never_asks_in_the_words_kept_for_measuring():
    templates = [text for wording in all_wordings() for text in wording.rare]
    # `{word}` is a comparison; what stands for the others can be anything.
    words_only = [re.escape(text.rstrip(".?")).replace(r"\{word\}", COMPARISON) for text in templates]
    patterns = [re.sub(r"\\{\w+\\}", ".+", text) for text in words_only]
    rare = re.compile("|".join(rf"(?:{pattern})[.?]?" for pattern in patterns), re.IGNORECASE)

    def share(heldout: bool) -> float:
        rng = np.random.default_rng(3)
        drawn = [draw_scene(rng, num_frames=4, size=96, contents=FULL) for _ in range(30)]
        asked = [sample_task(rng, scene, heldout=heldout).question for scene in drawn for _ in range(10)]
        return float(np.mean([rare.fullmatch(text.replace("colour", "color")) is not None for text in asked]))

    assert share(heldout=False) == 0
    assert 0.3 < share(heldout=True) < 0.7


def test_texts_for_a_tokenizer_hold_every_word():
    everything = " ".join(all_texts(8000, contents=FULL))
    assert [noun for noun in (*NOUNS, *CATEGORIES.values()) if noun not in everything] == []
    assert "from frame" in everything
