"""The drawn world: deterministic, fast, exact masks; every question has the right answer."""

from __future__ import annotations

import re
import time

import cv2
import numpy as np
import pytest

from unipixel.data.world import (
    COLORS,
    HELDOUT_PAIRS,
    KINDS,
    SHADED_SHAPES,
    SHAPES,
    SIZES,
    TEXTURES,
    ObjectSpec,
    Scene,
    Task,
    all_texts,
    draw_scene,
    sample_task,
)
from unipixel.data.world.english import article, listing, noun_phrase, plural
from unipixel.data.world.shapes import sample_look
from unipixel.grammar import SEG_TOKEN, mentioned_ids


def scenes(count: int, seed: int = 0, **options) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [draw_scene(rng, **options) for _ in range(count)]


def tasks(kind: str, count: int = 40, heldout: bool = False) -> list[tuple[Scene, Task]]:
    """Tasks of one kind on pictures and clips, where the kind can be asked."""
    rng = np.random.default_rng(7)
    found: list[tuple[Scene, Task]] = []
    while len(found) < count:
        scene = draw_scene(rng, num_frames=int(rng.choice((1, 6))), size=128, num_objects=(2, 5), heldout=heldout)
        try:
            found += [(scene, sample_task(rng, scene, kinds=(kind,), heldout=heldout)) for _ in range(4)]
        except ValueError:
            continue
    return found


# ------------------------------------------------------------------------------------------------------- drawing


def test_same_seed_same_scene_and_tasks():
    for num_frames in (1, 8):
        first, second = (np.random.default_rng(3), np.random.default_rng(3))
        one, two = (draw_scene(rng, num_frames=num_frames, size=(96, 160)) for rng in (first, second))
        assert np.array_equal(one.frames, two.frames)
        assert np.array_equal(one.masks, two.masks)
        assert one.objects == two.objects
        assert one.background == two.background
        assert [sample_task(first, one) for _ in range(20)] == [sample_task(second, two) for _ in range(20)]


def test_shapes_and_types():
    scene = scenes(1, num_frames=3, size=(96, 128), num_objects=(4, 4))[0]
    assert scene.frames.shape == (3, 96, 128, 3)
    assert scene.frames.dtype == np.uint8
    assert scene.masks.shape == (4, 3, 96, 128)
    assert scene.masks.dtype == np.bool_
    assert len(scene.objects) == 4
    assert scene.centroids.shape == (4, 3, 2)


def test_masks_never_overlap():
    for scene in scenes(20, num_frames=4, size=128, num_objects=(3, 5)):
        assert scene.masks.sum(0).max() <= 1


@pytest.mark.parametrize("num_frames", [1, 8])
def test_objects_can_be_seen_where_they_must_be(num_frames: int):
    for scene in scenes(30, num_frames=num_frames):
        for spec, areas in zip(scene.objects, scene.areas):
            assert areas[-1 if spec.motion == "appears" else 0] >= 150
            assert (areas[0] == 0) == (spec.motion == "appears")
            if spec.motion == "leaves":
                assert areas[-1] == 0


def inner_color(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.median(frame[cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0], axis=0)


def test_mask_edges_are_where_the_colors_change():
    overlaps = []
    for scene in scenes(120, num_objects=(1, 1)):
        if scene.background != "flat" or scene.objects[0].texture != "plain":
            continue
        frame, mask = scene.frames[0].astype(float), scene.masks[0, 0]
        ground = np.median(frame[~mask], axis=0)
        contrast = np.linalg.norm(inner_color(frame, mask) - ground)
        seen = np.linalg.norm(frame - ground, axis=-1) > contrast / 2
        overlaps.append((seen & mask).sum() / (seen | mask).sum())
    assert len(overlaps) > 5
    assert np.median(overlaps) > 0.98
    assert min(overlaps) > 0.85  # an outline's colour can be nearer to the background than half way


def test_inside_a_mask_is_only_its_object_and_outside_only_background():
    kernel = np.ones((13, 13), np.uint8)
    for scene in scenes(60, num_frames=2, num_objects=(3, 5)):
        frame = scene.frames[1].astype(float)
        for spec, mask in zip(scene.objects, scene.masks[:, 1]):
            inside = cv2.erode(mask.astype(np.uint8), kernel) > 0
            if spec.texture == "plain" and inside.any():
                assert np.abs(frame[inside] - np.median(frame[inside], axis=0)).max() <= 2
        if scene.background == "flat":
            outside = cv2.dilate(np.max(scene.masks[:, 1], axis=0).view(np.uint8), np.ones((5, 5), np.uint8)) == 0
            assert np.abs(frame[outside] - frame[outside][0]).max() == 0


def test_colors_look_like_their_names_and_differ_from_the_background():
    names, prototypes = list(COLORS), np.array(list(COLORS.values()), float)
    for scene in scenes(80, num_objects=(1, 3)):
        ground = np.median(scene.frames[0][~scene.masks[:, 0].any(0)], axis=0)
        for spec, mask in zip(scene.objects, scene.masks[:, 0]):
            if spec.texture == "plain" and cv2.erode(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).any():
                color = inner_color(scene.frames[0], mask)
                assert names[int(np.linalg.norm(prototypes - color, axis=1).argmin())] == spec.color
                assert np.linalg.norm(color - ground) > 35


def test_every_word_is_drawn_about_equally_often():
    drawn = [spec for scene in scenes(250, size=96) for spec in scene.objects]
    for attribute, words in (("shape", SHAPES), ("color", COLORS), ("texture", TEXTURES), ("size", SIZES)):
        counts = [sum(getattr(spec, attribute) == word for spec in drawn) for word in words]
        assert min(counts) > 0.5 * len(drawn) / len(words), dict(zip(words, counts))


def test_directions_move_as_they_say():
    wanted = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    seen = set()
    for scene in scenes(60, num_frames=8, size=128):
        for spec, areas, centers in zip(scene.objects, scene.areas, scene.centroids):
            unhidden = areas[[0, -1]].min() > 0.97 * areas.max()
            if spec.motion in wanted and unhidden:
                travel = (centers[-1] - centers[0]) / scene.side
                along = travel @ np.array(wanted[spec.motion])
                assert 0.2 < along < 0.52
                assert abs(np.abs(travel).sum() - along) < 0.03
                seen.add(spec.motion)
            if spec.motion == "still" and unhidden:
                assert np.linalg.norm(centers[-1] - centers[0]) < 2
            if spec.motion in ("grow", "shrink") and unhidden:
                pytest.fail(f"{spec.motion} leaves the area unchanged")
    assert seen == set(wanted)


def test_a_picture_stands_still():
    assert all(spec.motion == "still" for scene in scenes(20, size=96) for spec in scene.objects)


def test_is_fast_enough_for_training():
    def rate(num_frames: int) -> float:
        rng = np.random.default_rng(0)
        start = time.process_time()
        count = sum(draw_scene(rng, num_frames=num_frames).num_frames for _ in range(80 // num_frames))
        return count / (time.process_time() - start)

    for num_frames in (1, 8):
        assert max(rate(num_frames) for _ in range(3)) >= 200


@pytest.mark.parametrize(
    "options, said",
    [
        ({"size": 32}, "at least 64 x 64 pixels"),
        ({"num_frames": 0}, "at least 1 frame"),
        ({"num_objects": (3, 2)}, "between 0 and 8 objects"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options: dict, said: str):
    with pytest.raises(ValueError, match=said):
        draw_scene(np.random.default_rng(0), **options)


# ------------------------------------------------------------------------------------------------------ held out


def test_heldout_pairs_are_never_drawn_or_named_in_training():
    named = re.compile("|".join(rf"\b{color} (?:\w+ )?{shape}" for color, shape in HELDOUT_PAIRS))
    rng = np.random.default_rng(1)
    for scene in scenes(120, size=96):
        assert not {(spec.color, spec.shape) for spec in scene.objects} & HELDOUT_PAIRS
        for _ in range(15):
            task = sample_task(rng, scene)
            assert not named.search(f"{task.question} {task.answer}"), task
            assert not re.search("outline|caption|violet (disc|ball)", task.question, re.IGNORECASE)


def test_no_shape_fades_through_the_colour_it_is_held_out_with():
    rng = np.random.default_rng(3)
    faded = 0
    for shape in SHAPES:
        held_out = [COLORS[color] for color, held in HELDOUT_PAIRS if held == shape]
        for _ in range(60):
            look = sample_look(rng, ObjectSpec(shape, ""))
            if look.fade:
                faded += 1
                stops = np.array([look.color, *look.fade])
                assert np.linalg.norm(stops[:, None] - stops, axis=2)[np.triu_indices(3, 1)].min() > 20
                assert np.linalg.norm(stops[:, None] - held_out, axis=2).min() > 20
    assert faded > 100


def test_shades_have_no_name_and_leave_no_doubt_about_those_that_have():
    """A shape without a colour's name is far from all that have one, or has several that fade into one another."""
    rng = np.random.default_rng(2)
    prototypes = np.array(list(COLORS.values()), float)
    plain = 0
    for scene in scenes(60, size=128, num_objects=(2, 5), contents=SHADED_SHAPES):
        shaded = [spec for spec in scene.objects if not spec.color]
        for mask, spec in zip(scene.masks[:, 0], scene.objects):
            if spec in shaded and spec.texture == "plain" and mask.sum() > 400:
                plain += 1
                pixels = scene.frames[0][mask]
                alike = np.linalg.norm(pixels[:, None] - prototypes, axis=2) < 15
                assert alike.mean(0).max() < 0.5
        for _ in range(12):
            task = sample_task(rng, scene)
            assert "  " not in task.question + task.answer
            for color in {c for c in COLORS if re.search(rf"\b{c}\b", task.answer)} if task.targets else ():
                asked = {spec.color for k, spec in enumerate(scene.objects) if k in task.targets}
                assert color in asked, task
            if task.kind in ("what", "what_two", "is_it", "caption"):
                named = {*task.targets, *(task.ids[i] for i in mentioned_ids(task.answer))}
                assert not [k for k in named if scene.objects[k].shaded], task
            if task.kind in ("refer", "refer_all", "absent", "count"):
                wanted = attributes_of(re.sub("[.,:]", "", task.answer))
                rest = {name: value for name, value in wanted.items() if name != "color"}
                alike = [spec for spec in shaded if all(getattr(spec, n) == v for n, v in rest.items())]
                assert "color" not in wanted or not alike, task
    assert plain > 20


def test_heldout_scenes_hold_heldout_pairs_and_wordings():
    rng = np.random.default_rng(1)
    drawn = scenes(40, size=96, heldout=True)
    pairs = [(spec.color, spec.shape) in HELDOUT_PAIRS for scene in drawn for spec in scene.objects]
    assert 0.2 < np.mean(pairs) < 0.6
    questions = [sample_task(rng, scene, heldout=True).question for scene in drawn for _ in range(5)]
    assert any("utline" in question for question in questions)


# ------------------------------------------------------------------------------------------------------ language


def attributes_of(phrase: str) -> dict[str, str]:
    """Read a noun phrase of an answer ("small red circles") back into attributes."""
    nouns = {plural(shape): shape for shape in SHAPES} | {shape: shape for shape in SHAPES}
    read: dict[str, str] = {}
    for word in phrase.split():
        for attribute, known in (("size", SIZES), ("color", COLORS), ("texture", TEXTURES)):
            if word in known:
                read[attribute] = word
        if word in nouns:
            read["shape"] = nouns[word]
    clauses = {"standing": "still", "spinning": "spin", "growing": "grow", "shrinking": "shrink"}
    clauses |= {"bouncing": "bounce", "leaving": "leaves"} | {f"moving {d}": d for d in ("left", "right", "up", "down")}
    motions = [motion for clause, motion in clauses.items() if clause in phrase]
    return read | ({"motion": motions[0]} if motions else {})


def read(pattern: str, text: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    assert match, text
    return match.groups()


def fitting(scene: Scene, phrase: str) -> set[int]:
    wanted = attributes_of(phrase)
    return {k for k, spec in enumerate(scene.objects) if all(getattr(spec, a) == v for a, v in wanted.items())}


@pytest.mark.parametrize("kind", KINDS)
def test_marks_and_masks_of_every_kind_are_consistent(kind: str):
    for scene, task in tasks(kind, heldout=True):
        assert task.kind == kind
        assert task.question
        assert task.answer.endswith(".")
        assert task.answer.count(SEG_TOKEN) == len(task.targets) == len(set(task.targets))
        assert all(scene.areas[k, 0] >= 25 for k in task.targets)
        assert {mark.object_index for mark in task.marks} == set(task.ids.values())
        assert all(scene.areas[mark.object_index, mark.frame] >= 25 for mark in task.marks)
        mentioned = mentioned_ids(task.question)
        assert set(mentioned_ids(task.answer)) <= set(mentioned) <= set(task.ids)
        assert "{" not in task.question + task.answer


def test_one_object_is_the_only_one_that_fits():
    for scene, task in tasks("refer", 150):
        (phrase,) = read(rf"The (.+) is {re.escape(SEG_TOKEN)}\.", task.answer)
        assert attributes_of(phrase)
        assert fitting(scene, phrase) == set(task.targets)


def test_two_objects_in_the_order_named():
    for scene, task in tasks("refer_two"):
        seg = re.escape(SEG_TOKEN)
        phrases = read(rf"The (.+) is {seg} and the (.+) is {seg}\.", task.answer)
        assert [fitting(scene, phrase) for phrase in phrases] == [{k} for k in task.targets]


def test_all_means_all_from_left_to_right():
    for scene, task in tasks("refer_all", 100):
        phrase = task.answer.removeprefix("Here are the ").split(":")[0]
        assert set(task.targets) == fitting(scene, phrase)
        x = [scene.centroids[k, 0, 0] for k in task.targets]
        assert x == sorted(x)


def test_ranks_hold_on_the_first_frame():
    measure = {
        "leftmost": lambda s, k: s.centroids[k, 0, 0],
        "rightmost": lambda s, k: -s.centroids[k, 0, 0],
        "topmost": lambda s, k: s.centroids[k, 0, 1],
        "bottommost": lambda s, k: -s.centroids[k, 0, 1],
        "largest": lambda s, k: -s.areas[k, 0],
        "smallest": lambda s, k: s.areas[k, 0],
    }
    for scene, task in tasks("refer_rank", 100):
        _, rank, phrase = task.answer.split(" is ")[0].split(" ", 2)
        group = fitting(scene, phrase)
        assert len(group) > 1
        assert min(group, key=lambda k: measure[rank](scene, k)) == task.targets[0]


def test_absent_means_none_fits():
    for scene, task in tasks("absent", 100):
        phrase, media = read(r"There (?:is|are) no (.+) in the (picture|video)\.", task.answer)
        assert not fitting(scene, phrase)
        assert media == ("picture" if scene.num_frames == 1 else "video")


def test_others_like_a_marked_object():
    for scene, task in tasks("similar", 60):
        ((number, marked),) = task.ids.items()
        trait, found = task.answer.split(". ", 1)
        spec = scene.objects[marked]
        assert trait in (f"@{number} is {spec.color}", f"@{number} is {article(spec.shape)}")
        phrase = re.split(r"Here are the |There are no |: | in the ", found)[1]
        assert set(task.targets) == fitting(scene, phrase) - ({marked} if "other" in phrase else set())


@pytest.mark.parametrize(
    "kind, say",
    [
        ("what", lambda spec: article(spec.full_name)),
        ("color", lambda spec: spec.color),
        ("shape", lambda spec: article(spec.shape)),
        ("texture", lambda spec: spec.texture),
        ("size", lambda spec: spec.size),
    ],
)
def test_answers_about_a_marked_object_are_its_words(kind: str, say):
    for scene, task in tasks(kind):
        (number,) = mentioned_ids(task.question)
        assert task.answer == f"@{number} is {say(scene.objects[task.ids[number]])}."


def test_yes_and_no_are_right_and_both_occur():
    answers = []
    for scene, task in tasks("is_it", 100):
        (number,) = mentioned_ids(task.question)
        spec = scene.objects[task.ids[number]]
        answers.append(task.answer.startswith("Yes"))
        assert task.answer.endswith(f"@{number} is {article(spec.name)}.")
        if answers[-1] and (color := next((c for c in COLORS if f" {c}" in task.question), None)):
            assert color == spec.color
    assert 0.3 < np.mean(answers) < 0.7


@pytest.mark.parametrize("trait", ["color", "shape"])
def test_same_color_and_same_shape(trait: str):
    answers = []
    for scene, task in tasks(f"same_{trait}", 60):
        a, b = (getattr(scene.objects[task.ids[number]], trait) for number in mentioned_ids(task.question))
        answers.append(a == b)
        assert task.answer.startswith("Yes" if a == b else "No")
    assert 0.15 < np.mean(answers) < 0.85


def test_larger_and_left_of():
    for scene, task in tasks("compare_size", 40) + tasks("compare_place", 40):
        a, b = (task.ids[number] for number in mentioned_ids(task.answer))
        areas, centers = scene.areas[:, 0], scene.centroids[:, 0]
        holds = {
            "larger": areas[a] > areas[b],
            "smaller": areas[a] < areas[b],
            "left": centers[a, 0] < centers[b, 0],
            "right": centers[a, 0] > centers[b, 0],
            "above": centers[a, 1] < centers[b, 1],
            "below": centers[a, 1] > centers[b, 1],
        }
        assert holds[task.answer.split()[3]]


def test_counts_and_presence():
    for scene, task in tasks("count", 100):
        number, phrase = read(r"There (?:is|are) (no|\d+) (.+)\.", task.answer)
        assert len(fitting(scene, phrase)) == (0 if number == "no" else int(number))
    answers = [task.answer for _, task in tasks("presence", 100)]
    assert set(answers) == {"Yes.", "No."}
    assert 0.3 < np.mean([a == "Yes." for a in answers]) < 0.7


def test_caption_names_everything_from_left_to_right():
    for scene, task in tasks("caption"):
        order = sorted(range(len(scene.objects)), key=lambda k: scene.centroids[k, 0, 0])
        phrases = [f"{article(scene.objects[k].full_name)} {SEG_TOKEN}" for k in order]
        assert task.answer.lower() == f"{listing(phrases)}."
        assert list(task.targets) == order


def test_a_scene_without_objects_can_be_asked_about():
    rng = np.random.default_rng(0)
    scene = draw_scene(rng, num_objects=(0, 0))
    asked = [sample_task(rng, scene) for _ in range(20)]
    assert scene.masks.shape[0] == 0
    assert not any(task.targets or task.marks for task in asked)


def test_what_cannot_be_asked_is_refused():
    rng = np.random.default_rng(0)
    picture = draw_scene(rng, num_objects=(1, 1))
    with pytest.raises(ValueError, match="Unknown kind of task: 'sing'"):
        sample_task(rng, picture, kinds=("sing",))
    with pytest.raises(ValueError, match="can be asked about this scene: motion"):
        sample_task(rng, picture, kinds=("motion",))


def test_english():
    assert article("orange star") == "an orange star"
    assert article("red star") == "a red star"
    assert [plural(noun) for noun in ("cross", "box", "star")] == ["crosses", "boxes", "stars"]
    assert listing(["a", "b", "c"]) == "a, b and c"
    spec = ObjectSpec("circle", "red", "striped")
    assert (spec.name, spec.full_name) == ("red circle", "red striped circle")
    assert noun_phrase({"color": "red", "size": "small"}, many=True, rank="leftmost") == "leftmost small red objects"


def test_texts_for_a_tokenizer_are_as_the_model_reads_them():
    texts = list(all_texts(400))
    assert len(texts) == 400
    assert texts == list(all_texts(400))
    assert any("[1]" in text for text in texts)
    assert not any(re.search(r"@\d|<\|", text) for text in texts)
    everything = " ".join(all_texts(4000))
    assert all(word in everything for word in (*COLORS, *SHAPES, *TEXTURES, *SIZES, "colour", "color"))
